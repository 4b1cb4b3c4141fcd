"""Branched scoring gives the numbers of scoring every sequence by itself, whatever is shared, batched or padded."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.errors import ModelError
from salad_eval.systems import shared_prefixes
from salad_eval.systems.branching import can_branch, continuation_distributions, continuation_logprobs, greedy

VOCABULARY = 97
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCABULARY}


def build(kind: str, dtype: torch.dtype = torch.float64, **overrides: object) -> torch.nn.Module:
    """A small random model of a stock class, with weights large enough for distributions far from uniform."""
    configs = {
        "llama": lambda: transformers.LlamaConfig(**SMALL, intermediate_size=64, num_key_value_heads=2, **overrides),
        "qwen2": lambda: transformers.Qwen2Config(**SMALL, intermediate_size=64, num_key_value_heads=2, **overrides),
        "gpt2": lambda: transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, **overrides),
        "bloom": lambda: transformers.BloomConfig(
            vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, **overrides
        ),
        "mistral": lambda: transformers.MistralConfig(
            **SMALL, intermediate_size=64, num_key_value_heads=2, **overrides
        ),
        "gemma2": lambda: transformers.Gemma2Config(
            **SMALL, intermediate_size=64, num_key_value_heads=2, head_dim=8, **overrides
        ),
        "mamba": lambda: transformers.MambaConfig(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, **overrides
        ),
    }
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(configs[kind]()).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "mixer" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model.to(dtype)


def alone(lm: torch.nn.Module, prefix: torch.Tensor, continuation: list[int]) -> np.ndarray:
    """The reference: one sequence, no cache, no padding; log-probabilities (n_tokens, V)."""
    ids = torch.tensor(continuation, dtype=torch.long)
    with torch.no_grad():
        if prefix.dim() == 1:
            logits = lm(input_ids=torch.cat([prefix, ids])[None], use_cache=False).logits[0]
        else:
            embedded = torch.cat([prefix, lm.get_input_embeddings()(ids).to(prefix.dtype)])
            logits = lm(inputs_embeds=embedded[None], use_cache=False).logits[0]
    return logits[len(prefix) - 1 : len(prefix) - 1 + len(ids)].float().log_softmax(-1).numpy()


def largest_difference(lm, prefixes, continuations, **kwargs) -> float:
    scored = continuation_logprobs(lm, prefixes, continuations, **kwargs)
    assert [[len(option) for option in options] for options in scored] == [
        [len(option) for option in options] for options in continuations
    ]
    worst = 0.0
    for prefix, options, values in zip(prefixes, continuations, scored, strict=True):
        for option, value in zip(options, values, strict=True):
            if option:
                expected = alone(lm, prefix, option)[np.arange(len(option)), option]
                worst = max(worst, float(np.abs(expected - np.array(value)).max()))
    return worst


def world(seed: int = 0, shots: int = 40) -> tuple[list[torch.Tensor], list[list[list[int]]]]:
    """Prompts with and without common shots, of all lengths from 1 on, and options of 0 to 5 tokens, some sharing a
    beginning.
    """
    generator = torch.Generator().manual_seed(seed)

    def tokens(n: int) -> torch.Tensor:
        return torch.randint(1, VOCABULARY, (n,), generator=generator)

    first, second = tokens(shots), tokens(shots // 2)
    prefixes = [torch.cat([first, tokens(n)]) for n in (1, 7, 3, 12, 3)]
    prefixes += [torch.cat([second, tokens(n)]) for n in (2, 9, 4)]
    prefixes += [tokens(n) for n in (1, 2, 17)] + [prefixes[1].clone(), prefixes[1][:-1].clone()]
    continuations = [[tokens(n).tolist() for n in (1, 3, 2, 5)] for _ in prefixes]
    continuations[0] = [[5], [6], [7]]  # one token each: no second pass
    continuations[1] = [[5, 6, 7], [5, 6, 8], [5, 6], [5]]  # common beginnings
    continuations[2] = [[], [4], [4, 4]]
    continuations[3] = []
    return prefixes, continuations


@pytest.fixture(scope="module")
def llama():
    return build("llama")


# --- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "bloom", "mistral", "gemma2", "mamba"])
def test_every_architecture_scores_as_if_alone(kind):
    lm = build(kind)
    prefixes, continuations = world()
    assert largest_difference(lm, prefixes, continuations) < 1e-5


def test_single_precision_agrees_within_1e_5_in_any_batch():
    lm = build("llama", torch.float32)
    prefixes, continuations = world()
    batched = continuation_logprobs(lm, prefixes, continuations)
    for index, (prefix, options) in enumerate(zip(prefixes, continuations, strict=True)):
        single = continuation_logprobs(lm, [prefix], [options])[0]
        for one, other in zip(single, batched[index], strict=True):
            assert one == pytest.approx(other, abs=1e-5)
    assert largest_difference(lm, prefixes, continuations) < 1e-5


@pytest.mark.parametrize("max_batch_tokens", [1, 60, 150, 400, 10**6])
def test_the_batch_bound_changes_nothing(llama, max_batch_tokens):
    prefixes, continuations = world(seed=3)
    assert largest_difference(llama, prefixes, continuations, max_batch_tokens=max_batch_tokens) < 1e-5


def test_embeddings_score_as_their_tokens_do(llama):
    prefixes, continuations = world(seed=1)
    with torch.no_grad():
        embedded = [llama.get_input_embeddings()(prefix) for prefix in prefixes]
    mixed = [e if i % 2 else p for i, (p, e) in enumerate(zip(prefixes, embedded, strict=True))]
    expected = continuation_logprobs(llama, prefixes, continuations)
    for given_prefixes in (embedded, mixed):
        scored = continuation_logprobs(llama, given_prefixes, continuations)
        for one, other in zip(scored, expected, strict=True):
            for a, b in zip(one, other, strict=True):
                assert a == pytest.approx(b, abs=1e-6)


def test_embeddings_that_are_no_tokens_score_as_if_alone(llama):
    generator = torch.Generator().manual_seed(5)
    audio = [torch.randn(n, 32, generator=generator, dtype=torch.float64) for n in (3, 11, 30)]
    prefixes = [*audio, torch.cat([audio[2], audio[0]]), torch.cat([audio[2], audio[1]])]
    continuations = [[[3, 4], [5], [6, 7, 8]] for _ in prefixes]
    assert largest_difference(llama, prefixes, continuations) < 1e-5


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_any_prompts_and_options_score_as_if_alone(llama, data):
    token = st.integers(1, 6)  # few tokens, so that prompts share beginnings of all lengths
    sequence = st.lists(token, min_size=1, max_size=12)
    shared = [[], *data.draw(st.lists(st.lists(token, min_size=20, max_size=120), max_size=2))]
    prompts = data.draw(st.lists(st.tuples(st.sampled_from(shared), sequence), min_size=1, max_size=8))
    prefixes = [torch.tensor(head + tail) for head, tail in prompts]
    options = st.lists(st.lists(token, max_size=4), max_size=3)
    continuations = [data.draw(options) for _ in prefixes]
    budget = data.draw(st.sampled_from([1, 100, 10_000]))
    assert largest_difference(llama, prefixes, continuations, max_batch_tokens=budget) < 1e-5


def test_distributions_are_whole_and_agree_with_the_log_probabilities(llama):
    prefixes, continuations = world(seed=2)
    scored = continuation_logprobs(llama, prefixes, continuations)
    whole = continuation_distributions(llama, prefixes, continuations)
    for prefix, options, values, rows in zip(prefixes, continuations, scored, whole, strict=True):
        for option, value, row in zip(options, values, rows, strict=True):
            assert row.shape == (len(option), VOCABULARY)
            assert row.dtype == np.float32
            assert row[np.arange(len(option)), option] == pytest.approx(value, abs=1e-6)
            if option:
                np.testing.assert_allclose(np.exp(row.astype(np.float64)).sum(-1), 1.0, atol=1e-5)
                np.testing.assert_allclose(row, alone(llama, prefix, option), atol=1e-5)


# --- models without a cache that can be branched ---------------------------------------------------------------------


def test_windows_and_recurrent_states_are_known():
    assert can_branch(build("llama"))
    assert not can_branch(build("mamba"))
    assert not can_branch(build("bloom"))  # its forward pass takes no positions


@pytest.mark.parametrize("window", [4, 30, 80])
def test_a_sliding_window_shorter_than_the_prompts_is_exact(window):
    lm = build("mistral", sliding_window=window)
    prefixes, continuations = world(seed=4)
    assert largest_difference(lm, prefixes, continuations) < 1e-5
    assert greedy(lm, prefixes, max_new_tokens=5) == [reference_greedy(lm, prefix, 5) for prefix in prefixes]


@pytest.mark.parametrize("original", [20, 2000])
def test_length_dependent_rotary_positions_are_not_cached_across_their_limit(original):
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "long_factor": [3.0] * 4,
        "short_factor": [1.0] * 4,
        "original_max_position_embeddings": original,
        "factor": 4.0,
    }
    lm = build("llama", rope_parameters=rope)
    generator = torch.Generator().manual_seed(0)
    shots = torch.randint(1, VOCABULARY, (17,), generator=generator)
    prefixes = [torch.cat([shots, torch.randint(1, VOCABULARY, (9,), generator=generator)]) for _ in range(3)]
    assert largest_difference(lm, prefixes, [[[1, 2], [3]]] * 3) < 1e-5


def test_prompts_on_both_sides_of_a_rotary_limit_do_not_share_a_pass():
    """The frequencies of a pass are those of its longest row; a short prompt beside a long one keeps its own."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "long_factor": [3.0, 5.0, 7.0, 9.0],
        "short_factor": [1.0] * 4,
        "original_max_position_embeddings": 20,
        "factor": 4.0,
    }
    lm = build("llama", rope_parameters=rope)
    generator = torch.Generator().manual_seed(0)
    prefixes = [torch.randint(1, VOCABULARY, (n,), generator=generator) for n in (6, 40, 12, 17, 25, 40)]
    assert largest_difference(lm, prefixes, [[[1, 2], [3]]] * 6) < 1e-5
    # The fourth prompt crosses the limit while it is answered.
    assert greedy(lm, prefixes, max_new_tokens=6) == [reference_greedy(lm, prefix, 6) for prefix in prefixes]


class OwnCache(torch.nn.Module):
    """A model that takes a cache and hands back something else, as older remote code does."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.inner.get_input_embeddings()

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None):
        output = self.inner(input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids)
        output.past_key_values = ()
        return output


def test_a_model_that_ignores_the_cache_is_scored_without_one(llama):
    lm = OwnCache(llama)
    prefixes, continuations = world(seed=6)
    assert largest_difference(lm, prefixes, continuations) < 1e-5
    done: list[int] = []
    assert greedy(lm, prefixes, max_new_tokens=4, progress=done.append) == greedy(llama, prefixes, max_new_tokens=4)
    assert sum(done) == len(prefixes)


# --- work is shared --------------------------------------------------------------------------------------------------


def test_shared_shots_and_prompts_are_computed_once(llama, monkeypatch):
    fed = []
    continuation_logprobs(llama, [torch.tensor([1])], [[[1, 2]]])  # from here on it is known to read trees
    original = llama.forward

    def counting(*args, **kwargs):
        fed.append(kwargs["input_ids"].numel())  # no padding among prompts and options of one length
        return original(*args, **kwargs)

    counting.__signature__ = __import__("inspect").signature(original)
    monkeypatch.setattr(llama, "forward", counting)
    generator = torch.Generator().manual_seed(0)
    shots = torch.randint(1, VOCABULARY, (100,), generator=generator)
    questions = [
        torch.cat([shots, torch.full((1,), n), torch.randint(1, VOCABULARY, (9,), generator=generator)])
        for n in range(8)
    ]
    continuation_logprobs(llama, questions, [[[1, 2, 3], [4], [5, 6]]] * 8)
    # 100 for the shots once, 10 for each question once, and 2 + 1 for the options that need a second token.
    assert sum(fed) == 100 + 8 * 10 + 8 * 3


def group_tokens(keys: list[np.ndarray], groups: list[shared_prefixes.Group]) -> int:
    return sum(g.shared + sum(len(keys[i]) - g.shared for i in g.members) for g in groups)


def test_groups_are_found_by_what_prompts_share():
    rng = np.random.default_rng(0)
    heads = [rng.integers(1, 50, size=size) for size in (200, 150, 90)]
    keys = [np.concatenate([heads[i % 3], rng.integers(1, 50, size=10)]) for i in range(30)]
    groups = shared_prefixes.groups_of(keys)
    assert sorted(sorted(g.members) for g in groups) == [list(range(i, 30, 3)) for i in range(3)]
    assert sorted(g.shared for g in groups) == [90, 150, 200]
    assert group_tokens(keys, groups) == 200 + 150 + 90 + 30 * 10


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=100), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_groups_partition_the_requests_and_share_what_they_claim(sequences):
    keys = [np.array(sequence) for sequence in sequences]
    groups = shared_prefixes.groups_of(keys)
    assert sorted(i for g in groups for i in g.members) == list(range(len(keys)))
    for g in groups:
        assert all(len(keys[i]) > g.shared for i in g.members)
        assert all((keys[a][: g.shared] == keys[b][: g.shared]).all() for a, b in pairwise(g.members))
    assert group_tokens(keys, groups) <= sum(len(key) for key in keys)


def test_progress_counts_every_request_once(llama):
    prefixes, continuations = world()
    done: list[int] = []
    continuation_logprobs(llama, prefixes, continuations, max_batch_tokens=100, progress=done.append)
    assert sum(done) == len(prefixes)
    assert len(done) > 1


# --- greedy ----------------------------------------------------------------------------------------------------------


def reference_greedy(lm, prefix: torch.Tensor, n: int) -> list[int]:
    ids: list[int] = []
    with torch.no_grad():
        for _ in range(n):
            whole = torch.cat([prefix, torch.tensor(ids, dtype=torch.long)])
            ids.append(int(lm(input_ids=whole[None], use_cache=False).logits[0, -1].argmax()))
    return ids


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mamba"])
@pytest.mark.parametrize("max_batch_tokens", [1, 200, 10**6])
def test_greedy_is_the_argmax_chain(kind, max_batch_tokens):
    lm = build(kind)
    prefixes, _ = world()
    chains = greedy(lm, prefixes, max_new_tokens=6, max_batch_tokens=max_batch_tokens)
    assert chains == [reference_greedy(lm, prefix, 6) for prefix in prefixes]


def test_greedy_from_embeddings_is_greedy_from_their_tokens(llama):
    prefixes, _ = world()
    with torch.no_grad():
        embedded = [llama.get_input_embeddings()(prefix) for prefix in prefixes]
    assert greedy(llama, embedded, max_new_tokens=6) == greedy(llama, prefixes, max_new_tokens=6)


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_greedy_ends_before_eos_after_stop_and_at_the_limit(kind):
    lm = build(kind)
    prefixes, _ = world()
    free = [reference_greedy(lm, prefix, 8) for prefix in prefixes]
    eos = {free[0][3], free[1][0]}

    def until_eos(chain: list[int]) -> list[int]:
        return chain[: next((i for i, token in enumerate(chain) if token in eos), len(chain))]

    assert greedy(lm, prefixes, max_new_tokens=8, eos_ids=eos) == [until_eos(chain) for chain in free]
    stopped = greedy(lm, prefixes, max_new_tokens=8, stop=lambda ids: ids[-1] in eos)
    assert stopped == [chain[: len(until_eos(chain)) + 1] for chain in free]
    assert greedy(lm, prefixes, max_new_tokens=0) == [[] for _ in prefixes]


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [torch.zeros(0, dtype=torch.long), torch.zeros(0, 32), torch.zeros(3), torch.zeros(2, 2, 2)]
)
def test_prompts_of_another_kind_are_refused(llama, bad):
    with pytest.raises(ModelError, match="prompt 1"):
        continuation_logprobs(llama, [torch.tensor([1]), bad], [[[1]], [[1]]])
    with pytest.raises(ModelError, match="prompt 0"):
        greedy(llama, [bad], max_new_tokens=1)


def test_one_list_of_continuations_a_prompt(llama):
    with pytest.raises(ModelError, match="2 prompts but 1"):
        continuation_logprobs(llama, [torch.tensor([1]), torch.tensor([2])], [[[1]]])
    assert continuation_logprobs(llama, [], []) == []
