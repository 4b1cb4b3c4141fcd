"""The adapter's warm start, on tiny models: what CTC reads, what is learned and left alone; a killed one goes on to the bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from salad_eval.errors import DataError, ModelError, UserInputError
from salad_eval.records import read_jsonl
from salad_train.model.loading import load_salad
from salad_train.model.readout import CtcReadout
from salad_train.training import stages
from salad_train.training.batches import BatchLimits, collate
from salad_train.training.checkpoints import read_state
from salad_train.training.distillation import batch_objective
from salad_train.training.plan import StepLog
from salad_train.training.stage_plan import Stage1Plan, WarmStartPlan
from salad_train.training.warm_start import (
    HeardSpan,
    WarmStartLog,
    _Training,
    collapsed,
    heard_spans,
    warm_start,
)
from tests.helpers import speech_llm_world as world
from tests.salad_train.training.test_stage1 import heard, plan_for, run

WARM = WarmStartPlan(
    steps=6, lr=5e-3, warmup_steps=1, limits=BatchLimits(400, 8), held_out=4, log_every=3, checkpoint_every=2
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return world.save_parts(tmp_path_factory.mktemp("parts"), "llama", "parakeet")


def prepared(plan: Stage1Plan, folder: Path, n: int = 12) -> tuple[Any, list[HeardSpan], list[HeardSpan], Any]:
    """A fresh student, its spoken spans, those that are held out, and the store of their frames."""
    model, processor, _ = stages.build(plan)
    assert plan.warm_start
    store = stages.open_store(folder / "frames", model)
    source = heard(world.documents(n))
    stages.speak_documents(source, plan, model, processor, store)
    cut = stages.cut_documents(source.documents, processor.tokenizer, plan)
    held_out = stages.held_out_spans(cut, source.speaker, plan, plan.warm_start, model, processor, store)
    return model, heard_spans(cut, source.speaker, plan.voices, plan, store), held_out, store


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ([], []),
        ([0, 0], []),
        ([4, 4, 4], [4]),
        ([4, 0, 4], [4, 4]),
        ([0, 3, 3, 0, 3, 5], [3, 3, 5]),
        ([1, 2, 2, 1], [1, 2, 1]),
    ],
)
def test_what_ctc_reads(row: list[int], read: list[int]) -> None:
    assert collapsed(row) == read


@pytest.mark.parametrize(
    ("ids", "positions", "fits"),
    [((1, 2, 3), 3, True), ((1, 2, 3), 2, False), ((1, 1), 2, False), ((1, 1), 3, True)],
)
def test_a_span_needs_a_position_a_token_and_one_between_equal_ones(
    ids: tuple[int, ...], positions: int, fits: bool
) -> None:
    assert HeardSpan("k", ids, positions).fits is fits


def test_scores_are_those_of_the_embeddings_that_are_pointed_along() -> None:
    embeddings = torch.eye(4, 5) * torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    scores = CtcReadout.fresh(embeddings, [1, 3], seed=0)
    assert scores.size(embeddings) == 5.0  # of the two rows: 2 and 8
    pointing = embeddings[[1, 3]] / embeddings[[1, 3]].norm(dim=1, keepdim=True) * 5.0
    found = scores.scores(pointing[None], embeddings)[0]
    assert found.argmax(-1).tolist() == [1, 2]
    assert torch.allclose(found.exp().sum(-1), torch.ones(2), atol=1e-6)
    own, other = found[0, 1], found[0, 2]
    assert float((own - other).detach()) == pytest.approx(10.0, abs=1e-4)


def test_spans_are_the_spoken_tokens_of_the_documents(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plan = plan_for(folders, warm_start=WARM)
    _, spans, _, store = prepared(plan, tmp_path, n=4)
    said = {world.tokenizer().decode(span.ids).strip() for span in spans}
    texts = [document.text for document in world.documents(4)]
    assert said
    assert all(any(one in text for text in texts) for one in said)
    assert all(span.positions == -(-store.n_frames(span.key) // plan.stack_frames) for span in spans)
    assert len(set(spans)) == len(spans)


def test_it_learns_to_write_what_is_said_and_moves_nothing_but_the_adapter(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    warm = dataclasses.replace(WARM, steps=60, log_every=30, lr=1e-2)
    plan = plan_for(folders, stack=1, warm_start=warm)
    model, spans, held_out, store = prepared(plan, tmp_path)
    before = state(model)
    warm_start(model, spans, held_out, store, plan, tmp_path / "warm")
    first, last = read_jsonl(tmp_path / "warm" / "log.jsonl", WarmStartLog)
    assert (first.step, last.step) == (30, 60)
    assert last.loss < 0.8 * first.loss
    moved = {name for name, tensor in state(model).items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("adapter.") for name in moved)


def test_a_killed_warm_start_goes_on_to_the_bit(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(folders, stack=1, warm_start=WARM)
    model, spans, held_out, store = prepared(plan, tmp_path)
    warm_start(model, spans, held_out, store, plan, tmp_path / "whole")
    step = _Training._step

    def killed_at_five(training: _Training, batch: Sequence[HeardSpan], number: int) -> tuple[float, int]:
        if number == 5:
            raise KeyboardInterrupt
        return step(training, batch, number)

    monkeypatch.setattr(_Training, "_step", killed_at_five)
    with pytest.raises(KeyboardInterrupt):
        warm_start(stages.build(plan)[0], spans, held_out, store, plan, tmp_path / "killed")
    monkeypatch.undo()
    assert [read_state(folder).step for folder in (tmp_path / "killed").glob("step-*")] == [4]
    resumed = stages.build(plan)[0]
    warm_start(resumed, spans, held_out, store, plan, tmp_path / "killed")
    finished = stages.build(plan)[0]
    warm_start(finished, spans, held_out, store, plan, tmp_path / "whole")  # done already: it is taken as it is
    whole = state(model)
    for other in (resumed, finished):
        assert all(torch.equal(tensor, whole[name]) for name, tensor in state(other).items())
    lines = read_jsonl(tmp_path / "killed" / "log.jsonl", WarmStartLog)
    assert [(line.step, line.missed) for line in lines] == [
        (line.step, line.missed) for line in read_jsonl(tmp_path / "whole" / "log.jsonl", WarmStartLog)
    ]


def test_stage_one_begins_with_it(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run(plan_for(folders, steps=1, warm_start=WARM), tmp_path, n=4)
    assert read_state(tmp_path / "warm_start" / "step-0000006").step == 6
    assert (tmp_path / "model").is_dir()


def test_other_voices_say_what_is_held_out_and_nobody_else_says_it(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plan = plan_for(folders, stack=1, warm_start=dataclasses.replace(WARM, held_out_voices=("c",)))
    model, spans, held_out, store = prepared(plan, tmp_path)
    assert plan.warm_start
    assert not {span.key for span in held_out} & {span.key for span in spans}
    training = _Training(model, spans, held_out, store, plan, plan.warm_start)
    assert len(training.held_out) == WARM.held_out
    assert {span.ids for span in training.held_out} <= {span.ids for span in spans}  # the training voices say it, too,
    assert not {span.ids for span in training.held_out} & {
        span.ids for span in training.spans
    }  # and are not trained on it


def test_stage_one_goes_on_by_what_ctc_writes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plan = plan_for(folders, steps=2, warm_start=dataclasses.replace(WARM, readout="ctc"))
    folder = run(plan, tmp_path, n=4)
    model, _ = load_salad(str(folder))
    kept = load_file(tmp_path / "warm_start" / "step-0000006" / "model.safetensors")
    assert model.readout
    assert model.config.ctc_tokens == len(model.readout.ids) > 0
    assert torch.equal(model.readout.blank, kept["scores.blank"])  # CTC alone teaches it
    weight = "adapter.output_projection.weight"
    assert not torch.equal(model.adapter.output_projection.weight, kept[weight])  # Stage I does move the adapter


def with_ctc(folders: tuple[Path, Path], **changes: Any) -> Stage1Plan:
    """Stage I after a warm start, with CTC beside it at twice the weight, unless ``changes`` say otherwise."""
    warm = dataclasses.replace(WARM, readout="ctc")
    return plan_for(folders, **{"stack": 1, "warm_start": warm, "ctc": 2.0, "tune": "adapter", "steps": 3, **changes})


def test_ctc_goes_on_beside_stage_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    told = {}
    for weight in (0.0, 2.0):
        plan = with_ctc(folders, ctc=weight, steps=24, log_every=12, adapter_lr=1e-2, cuts=1)
        run(plan, tmp_path / str(weight), n=4)
        told[weight] = [line.speech_ctc for line in read_jsonl(tmp_path / str(weight) / "train.jsonl", StepLog)]
    assert told[0.0] == [None, None]
    first, last = told[2.0]
    assert first
    assert last
    assert last < 0.8 * first


def test_its_loss_is_added_over_the_same_denominator(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plan = with_ctc(folders)
    model, spans, held_out, store = prepared(plan, tmp_path)
    warm_start(model, spans, held_out, store, plan, tmp_path / "warm")
    _, processor, teacher = stages.build(plan)
    examples = stages.speak_documents(heard(world.documents(3)), plan, model, processor, store).examples
    batch = collate(examples, store)
    said = [token for example in examples for tokens in example.said for token in tokens]
    assert [token for tokens in batch.said for token in tokens] == said
    alone, beside = (batch_objective(model, teacher, batch, alpha=1.0, denominator=7.0, ctc=w) for w in (0.0, 2.0))
    assert (alone.n_said, beside.n_said) == (0, len(said))
    assert beside.kl_sum == alone.kl_sum
    assert float(beside.loss.detach()) == pytest.approx(
        float(alone.loss.detach()) + 2.0 * beside.ctc_sum / 7.0, rel=1e-5
    )


def test_ctc_beside_a_model_that_does_not_read_by_it_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"train.ctc is 2.0, but this speech LLM reads by no CTC"):
        run(with_ctc(folders, warm_start=WARM), tmp_path, n=4)


@pytest.mark.parametrize("writes", ["heard", "read"])
def test_words_that_are_only_read_can_be_written_where_that_is_asked(
    folders: tuple[Path, Path], tmp_path: Path, writes: Any
) -> None:
    plan = with_ctc(folders, steps=1, warm_start=dataclasses.replace(WARM, readout="ctc", writes=writes))
    documents = world.documents(12)
    folder = stages.stage1(plan, heard(documents[:4]), documents, tmp_path)
    model, processor = load_salad(str(folder))
    assert model.readout
    tokens = {token for one in documents for token in processor.tokenizer(one.text)["input_ids"]}
    assert (tokens <= set(model.readout.ids.tolist())) is (writes == "read")


def test_too_few_spans_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plan = plan_for(folders, stack=1, warm_start=dataclasses.replace(WARM, held_out=1000))
    model, spans, held_out, store = prepared(plan, tmp_path, n=2)
    with pytest.raises(DataError, match=r"warm_start: \d+ of \d+ spoken spans .* 1000 are held out"):
        warm_start(model, spans, held_out, store, plan, tmp_path / "warm")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 0}, "warm_start.steps is 0"),
        ({"lr": 0.0}, "warm_start.lr is 0.0; expected a rate above 0"),
        ({"held_out": 0}, "warm_start.held_out is 0"),
        ({"warmup_steps": -1}, "warm_start.warmup_steps is -1; expected 0 or more"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UserInputError, match=told):
        dataclasses.replace(WARM, **change)
