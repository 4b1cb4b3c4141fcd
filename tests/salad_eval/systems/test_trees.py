"""Trees laid flat: where everything stands, who looks at whom, and which models are seen to read that as they should."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from salad_eval.systems.branching import continuation_logprobs
from salad_eval.systems.passes import batches, device_of, forward, traits_of
from salad_eval.systems.trees import EMBEDDINGS, IDS, Tree, are_read_by, layout
from tests.salad_eval.systems.test_branching import VOCABULARY, build, largest_difference, world

TREE = Tree(torch.tensor([11, 12]), [[21], [31, 32]])


def test_a_tree_is_laid_behind_its_padding() -> None:
    assert (TREE.tokens, TREE.width) == ([21, 31, 32], 5)
    assert TREE.starts(6) == [3, 4, 6]


def test_branches_stand_where_they_would_alone_and_look_at_the_prompt_and_themselves() -> None:
    positions, looks = layout([TREE, Tree(torch.tensor([13]), [])], n_shared=2)
    assert positions.tolist() == [[2, 3, 4, 4, 5], [0, 0, 0, 0, 2]]
    table = ["".join(".x"[bit] for bit in row) for row in looks[0].int().tolist()]
    assert table == [
        # shared, 11, 12, 21, 31, 32
        "xx" "x....",
        "xx" "xx...",
        "xx" "xxx..",
        "xx" "xx.x.",
        "xx" "xx.xx",
    ]  # fmt: skip
    assert looks[1, -1].int().tolist() == [1, 1, 0, 0, 0, 0, 1]  # no padding is looked at
    assert (
        layout([TREE, Tree(torch.tensor([13]), [])], n_shared=0)[1].any(-1).all()
    )  # a row that looks at nothing has no softmax


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "read"), [("llama", True), ("gpt2", True), ("gemma2", True), ("bloom", False), ("mamba", False)]
)
def test_models_that_read_trees(kind: str, read: bool, dtype: torch.dtype) -> None:
    lm = build(kind, dtype)
    with torch.inference_mode():
        for prompt in (IDS, EMBEDDINGS):
            assert (traits_of(lm).branchable and are_read_by(lm, traits_of(lm), prompt)) == read


class Careless(torch.nn.Module):
    """A model behind a forward pass that does something to its inputs; counts how often trees are given to it."""

    def __init__(self, lm: Any, neglect: str) -> None:
        super().__init__()
        self.lm, self.config, self.neglect, self.n_trees = lm, lm.config, neglect, 0

    def get_input_embeddings(self) -> Any:
        return self.lm.get_input_embeddings()

    def forward(
        self,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> Any:
        n_rows, width = position_ids.shape
        if attention_mask.dim() == 4:
            self.n_trees += 1
            if self.neglect == "refuses":
                raise ValueError("a mask of four dimensions")
            if self.neglect == "mask":
                attention_mask = torch.ones(n_rows, attention_mask.shape[-1], dtype=torch.long)
            if self.neglect == "positions":
                start = attention_mask.shape[-1] - width
                position_ids = torch.arange(start, attention_mask.shape[-1])[None].expand(n_rows, -1)
        return self.lm(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )


@pytest.mark.parametrize("kind", [IDS, EMBEDDINGS])
@pytest.mark.parametrize(
    ("neglect", "read"), [("nothing", True), ("mask", False), ("positions", False), ("refuses", False)]
)
def test_a_model_that_does_not_is_seen_once_and_scored_in_another_way(neglect: str, read: bool, kind: int) -> None:
    lm = Careless(build("llama"), neglect)
    prefixes, continuations = world()
    if kind == EMBEDDINGS:
        prefixes = [lm.get_input_embeddings()(prefix).detach() for prefix in prefixes]
    assert largest_difference_of(lm, prefixes, continuations) < 1e-5
    seen = lm.n_trees
    assert seen
    assert largest_difference_of(lm, prefixes, continuations) < 1e-5
    assert (lm.n_trees > seen) == read


def largest_difference_of(lm: Careless, prefixes: list[torch.Tensor], continuations: list[list[list[int]]]) -> float:
    scored = continuation_logprobs(lm, prefixes, continuations)
    expected = continuation_logprobs(lm.lm, prefixes, continuations)
    assert largest_difference(lm.lm, prefixes, continuations) < 1e-5
    pairs = zip(scored, expected, strict=True)
    return max(
        abs(a - b) for row, other in pairs for x, y in zip(row, other, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_what_is_too_wide_for_a_tree_is_branched(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = build("llama")
    prefixes, continuations = world()
    monkeypatch.setattr("salad_eval.systems.trees.WIDEST", 20)
    assert largest_difference(lm, prefixes, continuations) < 1e-5


# --- passes ----------------------------------------------------------------------------------------------------------


def logits_of(lm: Any, ids: torch.Tensor, wanted: list[tuple[int, int]]) -> torch.Tensor:
    """Of one pass over rows without padding."""
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    return forward(lm, traits_of(lm), ids, mask=torch.ones_like(ids), positions=positions, cache=None, wanted=wanted)[0]


def test_the_head_is_run_on_what_is_wanted_alone() -> None:
    lm: Any = build("llama", torch.float32)
    given: list[tuple[int, ...]] = []
    lm.lm_head.register_forward_hook(lambda module, inputs, output: given.append(tuple(inputs[0].shape)))
    ids = torch.randint(1, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(0))
    wanted = [(2, 4), (0, 6), (1, 3)]
    with torch.inference_mode():
        logits = logits_of(lm, ids, wanted)
        whole = lm(input_ids=ids).logits
    assert given == [(1, 3, 32), (3, 7, 32)]  # and once the pass is over, all again
    torch.testing.assert_close(logits, torch.stack([whole[place] for place in wanted]))


def test_a_head_that_cannot_be_had_is_read_behind() -> None:
    lm: Any = build("llama", torch.float32)
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    with torch.inference_mode():
        expected = logits_of(lm, ids, [(0, 2)])
        lm.get_output_embeddings = lambda: None
        found = logits_of(lm, ids, [(0, 2)])
    torch.testing.assert_close(found, expected)
    assert device_of(lm).type == "cpu"


@pytest.mark.parametrize(
    ("new", "budget", "expected"),
    [
        ([5, 5, 5], 100, [[0, 1, 2]]),
        ([5, 5, 5], 10, [[0, 1], [2]]),
        ([64, 1, 64, 1], 160, [[0, 2], [1, 3]]),  # 63 positions of padding cost more than a pass
        ([20, 18, 17], 160, [[0, 1, 2]]),
        ([200], 10, [[0]]),
    ],
)
def test_a_batch_has_little_padding(new: list[int], budget: int, expected: list[list[int]]) -> None:
    assert list(batches(new, [0] * len(new), budget)) == expected
