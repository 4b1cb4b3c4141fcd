"""The models that ship, through the line any user runs: what the issue of the embedded default promises of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from salad_eval import evaluate, resources
from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.requests import build_request
from salad_eval.pipeline.plan import Plan
from salad_eval.systems.hf_text import HFTextSystem
from salad_eval.tts.espeak import parse_voice
from salad_eval.types import COLUMNS, GapReport, GapRow
from salad_train.nano import world


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> GapReport:
    folder = tmp_path_factory.mktemp("nano")
    return evaluate("nano", limit=140, n_resamples=500, out=folder / "run", audio_store=folder / "audio", workers=1)


def mean(rows: list[GapRow], column: str) -> float:
    return sum(row.accuracy[column].value for row in rows) / len(rows)  # type: ignore[index]


def test_models_and_tokenizers_fit_in_twenty_megabytes() -> None:
    folder = resources.models_dir() / "nano"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 20e6


def test_evaluation_voices_are_none_of_the_training_voices() -> None:
    def speaker(voice: str) -> tuple[str, str | None]:
        spec = parse_voice(voice)
        return spec.base, spec.variant

    heard = {speaker(voice) for voice in world.TRAINING_VOICES}
    used = {speaker(voice) for voice in Plan.preset("nano").voices}
    assert used == {speaker(voice) for voice in world.EVALUATION_VOICES}
    assert len(used) >= 2
    assert not heard & used


def test_every_domain_has_all_four_columns(report: GapReport) -> None:
    assert [row.name for row in report.domains] == list(world.domains())
    assert report.overall.n_items == 140
    for row in report.domains:
        assert set(row.accuracy) == set(COLUMNS)
        assert row.divergence_nats is not None
        assert row.gap.value == pytest.approx(row.forgetting.value + row.misalignment.value, abs=1e-12)


def test_the_gap_is_where_stage_one_heard_nothing(report: GapReport) -> None:
    heard = [row for row in report.domains if row.name in world.HEARD_DOMAINS]
    unheard = [row for row in report.domains if row.name not in world.HEARD_DOMAINS]
    assert mean(heard, "adapted_speech") > 0.75
    assert mean(unheard, "adapted_speech") < 0.45
    assert mean(unheard, "base_transcript") > 0.7, "the words can be heard: the cascade hears them"
    assert report.overall.forgetting.value < 0.03
    assert sum(row.accuracy["base_text"].value >= 0.85 for row in report.domains) >= 10
    for row in unheard:
        assert row.divergence_nats is not None
        assert row.divergence_nats.misalignment > max(
            other.divergence_nats.misalignment for other in heard if other.divergence_nats and other.name != "words"
        )


def test_the_asr_hears_unseen_sentences_in_unseen_voices(report: GapReport) -> None:
    assert report.overall.wer is not None
    assert report.overall.wer <= 0.10


def test_the_text_column_is_what_lm_eval_finds_on_the_same_task_and_weights() -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    n = 42
    weights = str(resources.models_dir() / "nano" / "base")
    theirs = simple_evaluate(
        model="hf",
        model_args={"pretrained": weights, "dtype": "float32"},
        tasks=["salad_nano"],
        task_manager=TaskManager(include_path=str(resources.tasks_dir()), include_defaults=False),
        device="cpu",
        batch_size=8,
        limit=n,
        bootstrap_iters=0,
        log_samples=True,
    )
    assert theirs is not None
    samples = sorted(theirs["samples"]["salad_nano"], key=lambda sample: sample["doc_id"])
    items, rejects, _ = load_items(load_task("salad_nano"), "test", limit=None, seed=0)
    assert not rejects
    by_question = {item.context: item for item in items}
    chosen = [by_question[sample["arguments"][0][0]] for sample in samples]
    ours = HFTextSystem("nano/base").loglikelihoods([build_request(item, "text") for item in chosen])
    right = 0
    for sample, item, found in zip(samples, chosen, ours, strict=True):
        expected = [response[0] for response in sample["filtered_resps"]]
        assert found == pytest.approx([float(value) for value in expected], abs=1e-4)
        right += found.index(max(found)) == item.gold
    assert right / n == pytest.approx(theirs["results"]["salad_nano"]["acc,none"])


def test_the_report_and_its_page_are_there(report: GapReport, tmp_path: Path) -> None:
    from salad_eval.report import load_report, write_report

    files = write_report(report, tmp_path)
    assert load_report(tmp_path) == report
    page = files.html.read_text(encoding="utf-8")
    assert report.signature in page
