"""Trainers as plug-ins: Stage II itself, a dry run of it, and one from a package of somebody else's."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from salad_eval import plugins
from salad_eval.errors import ModelError, UserInputError
from salad_eval.records import read_jsonl
from salad_train.model.loading import load_salad
from salad_train.speech.interleave import InterleaveSpec, WordRange
from salad_train.training import stages
from salad_train.training.batches import BatchLimits
from salad_train.training.cost import Reading, open_configuration, sizes_of, training_flops
from salad_train.training.distillation import Distillation
from salad_train.training.dry_run import DryRun, DryRunDocument
from salad_train.training.hf import HfTrainer
from salad_train.training.parameters import prepare_tuning
from salad_train.training.plan import TrainPlan
from salad_train.training.stage_plan import Stage2Plan
from salad_train.training.stages import Heard, SpeechSource, Stage2Data
from salad_train.types import SelectedDocument, Selection, TextDocument, Trainer
from tests.helpers import speech_llm_world as world
from tests.helpers.places import TESTS

TOY = TESTS / "helpers" / "toy_trainer_package"
SECONDS_A_CHARACTER = 0.06  # of the world's voice, to the sample


def documents(n: int) -> list[TextDocument]:
    return [TextDocument(d.id, d.text, ("chemistry", "home")[k % 2]) for k, d in enumerate(world.documents(n))]


def plan_for(tiny_models: dict[str, Path], **changes: Any) -> Stage2Plan:
    known = {field.name for field in dataclasses.fields(TrainPlan)}
    train = {"steps": 3, "warmup_steps": 0, "log_every": 1, **{k: changes.pop(k) for k in list(changes) if k in known}}
    settings: dict[str, Any] = {
        "init": str(tiny_models["speech"]),
        "base": str(tiny_models["base"]),
        "train": TrainPlan(**train),
        "voices": ("a", "b"),
        "interleave": InterleaveSpec(WordRange(2, 6), WordRange(2, 5)),
        "limits": BatchLimits(tokens=400, sequences=6),
        "cuts": 2,
    }
    return Stage2Plan(**{**settings, **changes})


@pytest.fixture
def plan(tiny_models: dict[str, Path]) -> Stage2Plan:
    return plan_for(tiny_models)


def selection_and_data(plan: Stage2Plan, natural: bool = True) -> tuple[Selection, Stage2Data]:
    """Twelve selected documents, with the sound they will really take as the selection's estimate."""
    chosen = documents(12)
    cut = stages.cut_documents(chosen, world.tokenizer(), plan)
    seconds = {document.id: 0.0 for document in chosen}
    for _, one in cut:
        seconds[one.document_id] += SECONDS_A_CHARACTER * sum(len(span.spoken_text) for span in one.speech)
    selected = tuple(
        SelectedDocument(d, k % 3, (0.5, 0.3, 0.2)[k % 3], "drawn", seconds[d.id]) for k, d in enumerate(chosen)
    )
    selection = Selection("gap", 1.0, math.fsum(seconds.values()), 0, (), (), selected, "toy|gap")
    voice = world.Voice()
    other = [dataclasses.replace(d, id=f"natural-{d.id}", domain="stories") for d in documents(8)]
    return selection, Stage2Data(
        SpeechSource(chosen, voice), SpeechSource(other, voice) if natural else None, documents(6)
    )


# --- hf --------------------------------------------------------------------------------------------------------------


def test_the_built_in_trainers_are_registered_and_are_trainers() -> None:
    for name, cls in (("hf", HfTrainer), ("dry_run", DryRun)):
        made = plugins.create("salad.trainers", name, {})
        assert type(made) is cls
        assert isinstance(made, Trainer)
        assert made.fingerprint().startswith(name)


def test_hf_trains_a_model_that_loads(plan: Stage2Plan, tmp_path: Path) -> None:
    selection, data = selection_and_data(plan)
    folder = HfTrainer().fit(plan, selection, data, tmp_path / "out")
    after, _ = load_salad(str(folder), device="cpu")
    before, _ = load_salad(plan.init, device="cpu")
    moved = [
        name for (name, one), other in zip(after.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(one, other)
    ]  # fmt: skip
    assert any(name.startswith("adapter.") for name in moved)
    assert not any(name.startswith("encoder.") for name in moved)


@pytest.mark.parametrize("trainer", [HfTrainer(), DryRun()], ids=["hf", "dry_run"])
def test_documents_of_another_selection_are_refused(trainer: Trainer, plan: Stage2Plan, tmp_path: Path) -> None:
    selection, data = selection_and_data(plan)
    fewer = dataclasses.replace(selection, documents=selection.documents[1:])
    with pytest.raises(UserInputError, match="1 of 12 documents to be heard are not in the selection \\('doc-0'"):
        trainer.fit(plan, fewer, data, tmp_path)
    nothing = dataclasses.replace(data, selected=dataclasses.replace(data.selected, documents=[]))
    with pytest.raises(UserInputError, match="no selected documents to train on"):
        trainer.fit(plan, selection, nothing, tmp_path)
    assert not list(tmp_path.iterdir())


# --- dry run ---------------------------------------------------------------------------------------------------------


def what_is_really_read(plan: Stage2Plan, data: Stage2Data, folder: Path) -> tuple[Reading, dict[str, int]]:
    """Speak, encode and go through all batches of the training; also how often each document of any source is read."""
    model, processor, _ = stages.open_models(plan)
    store = stages.open_store(folder, model)
    assert data.natural is not None
    heard = [
        Heard(
            stages.speak_documents(data.selected, plan, model, processor, store).examples, store, plan.selected_share
        ),
        Heard(stages.speak_documents(data.natural, plan, model, processor, store).examples, store, plan.natural_share),
    ]
    batches = stages.mixed_batches(heard, stages.texts_of(data.replay, processor, plan), plan)
    positions = scored = 0
    times: dict[str, int] = {}
    for number in range(plan.train.steps * plan.train.micro_batches):
        batch = batches(number)
        positions, scored = positions + batch.input_ids.numel(), scored + len(batch.targets)
        if batch.encoder_lengths is not None:
            for name in batch.document_ids:
                times[name] = times.get(name, 0) + 1
    return Reading(positions, 0, 0, 0, 0, 0, scored, {}), times


def test_a_dry_run_says_what_training_will_read(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    """Estimated from the right speaking rate, it differs from the truth by the rounding of a span to whole frames alone."""
    plan = plan_for(tiny_models, steps=30, micro_batches=2)
    selection, data = selection_and_data(plan)
    DryRun().fit(plan, selection, data, tmp_path / "dry")
    summary = json.loads((tmp_path / "dry" / "summary.json").read_text())
    real, times = what_is_really_read(plan, data, tmp_path / "frames")
    assert summary["scored"] == pytest.approx(real.scored, rel=0.05)
    assert summary["positions"] == pytest.approx(real.positions, rel=0.05)

    lines = read_jsonl(tmp_path / "dry" / "documents.jsonl", DryRunDocument)
    cut = stages.cut_documents(data.selected.documents, world.tokenizer(), plan)
    assert [(line.cut, line.document_id, tuple(span.text for span in line.spans)) for line in lines] == [
        (epoch, one.document_id, tuple(span.text for span in one.spans)) for epoch, one in cut
    ]
    said = {(u.text, u.voice) for u in data.selected.speaker.said}  # type: ignore[attr-defined]
    assert all(
        (" ".join(span.text.split()), line.voice) in said
        for line in lines for span in line.spans if span.modality == "speech"
    )  # fmt: skip
    for line in lines:
        text = "".join(span.text for span in line.spans)
        assert text == next(d.text for d in data.selected.documents if d.id == line.document_id)
        spoken = sum(len(" ".join(span.text.split())) for span in line.spans if span.modality == "speech")
        assert line.seconds == pytest.approx(SECONDS_A_CHARACTER * spoken)
    read = sum(line.times_read for line in lines)
    assert read == pytest.approx(sum(n for name, n in times.items() if name.startswith("doc-")), rel=0.05)
    assert {line.document_id: (line.cluster, line.weight) for line in lines} == {
        chosen.document.id: (chosen.cluster, chosen.weight) for chosen in selection.documents
    }


def _heard(lines: list[DryRunDocument]) -> float:
    return sum(line.seconds * line.times_read for line in lines)


def test_amounts_add_up_and_name_their_domains(plan: Stage2Plan, tmp_path: Path) -> None:
    selection, data = selection_and_data(plan)
    DryRun().fit(plan, selection, data, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    lines = read_jsonl(tmp_path / "documents.jsonl", DryRunDocument)
    amounts = {(row["source"], row["domain"]): row for row in summary["amounts"]}
    replayed = {("replay", "chemistry"), ("replay", "home")}
    assert set(amounts) == {("selected", "chemistry"), ("selected", "home"), ("natural", "stories"), *replayed}
    for domain in ("chemistry", "home"):
        mine = [line for line in lines if line.domain == domain]
        assert amounts["selected", domain]["documents"] == 6
        assert 3600 * amounts["selected", domain]["hours"] == pytest.approx(_heard(mine))
        assert 3600 * amounts["selected", domain]["distinct_hours"] == pytest.approx(sum(line.seconds for line in mine))
        assert amounts["selected", domain]["text_tokens"] == sum(line.text_tokens * line.times_read for line in mine)
    for total in ("hours", "scored", "text_tokens"):
        assert sum(row[total] for row in summary["amounts"]) == pytest.approx(summary[total])
    assert summary["left_out"] == 2 * 20 - len(lines) - 2 * 8  # every natural cut can be spoken
    page = (tmp_path / "summary.md").read_text()
    assert "are estimates" in page
    assert "| selected | chemistry | 6 |" in page
    assert "GPU-hours not estimated" in page
    assert "Speech runs at 16.7 characters a second (the selection's own estimate)" in page


def test_a_part_of_the_natural_speech_is_the_part_that_training_takes(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_for(tiny_models, natural_documents=3)
    DryRun().fit(plan, *selection_and_data(plan), tmp_path)
    amounts = json.loads((tmp_path / "summary.json").read_text())["amounts"]
    assert [row["documents"] for row in amounts if row["source"] == "natural"] == [3]


def test_a_dry_run_loads_no_weights(plan: Stage2Plan, tmp_path: Path) -> None:
    bare = {}
    for role in ("init", "base"):
        shutil.copytree(getattr(plan, role), tmp_path / role, ignore=shutil.ignore_patterns("*.safetensors"))
        bare[role] = str(tmp_path / role)
    plan = dataclasses.replace(plan, **bare)
    selection, data = selection_and_data(plan, natural=False)
    out = DryRun().fit(plan, selection, data, tmp_path / "out")
    assert sorted(path.name for path in out.iterdir()) == ["documents.jsonl", "summary.json", "summary.md"]
    assert not data.selected.speaker.said  # type: ignore[attr-defined]
    with pytest.raises(ModelError):
        HfTrainer().fit(plan, selection, data, tmp_path / "real")


def test_a_frozen_lm_reads_no_replay_and_costs_less(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    found = {}
    for tune in ("adapter", "full"):
        plan = plan_for(tiny_models, tune=tune, replay_share=0.0 if tune == "full" else 1 / 3)
        DryRun().fit(plan, *selection_and_data(plan), tmp_path / tune)
        found[tune] = json.loads((tmp_path / tune / "summary.json").read_text())
    assert found["adapter"]["positions"] == found["full"]["positions"]
    assert not any(row["source"] == "replay" for row in found["adapter"]["amounts"])
    assert 4 / 6 < found["adapter"]["flops"]["lm"] / found["full"]["flops"]["lm"] < 1


def test_the_formula_counts_what_a_step_computes(plan: Stage2Plan, tmp_path: Path) -> None:
    """Against torch's own count of the operations of a step's forward and backward pass."""
    model, processor, teacher = stages.open_models(dataclasses.replace(plan, attention="eager"))
    model.adapter.transformer.set_attn_implementation("eager")
    _, data = selection_and_data(plan)
    store = stages.open_store(tmp_path, model)
    spoken = stages.speak_documents(data.selected, plan, model, processor, store)
    batch = stages.mixed_batches([Heard(spoken.examples, store)], [], plan)(0)
    from salad_train.training.dry_run import _counted

    reading = Reading(*_counted(batch, model.config.stack_frames), times={})
    config, _ = open_configuration(plan.init)
    sizes = sizes_of(config, plan.base)
    assert sizes.n_adapter == sum(p.numel() for p in model.adapter.parameters())
    assert sizes.n_encoder == sum(p.numel() for p in model.encoder.parameters())
    prepare_tuning(model, plan.train)
    with FlopCounterMode(display=False) as counter:
        Distillation(model, teacher)(batch).loss.backward()
    expected = training_flops(sizes, reading, trains_lm=True, encoder_frames=0)
    assert counter.get_total_flops() == pytest.approx(expected.total, rel=0.1)


def test_hours_and_money_follow_from_what_is_stated(plan: Stage2Plan, tmp_path: Path) -> None:
    selection, data = selection_and_data(plan)

    def cost(**options: Any) -> dict[str, Any]:
        folder = DryRun(**options).fit(plan, selection, data, tmp_path / "out")
        found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
        return found

    by_speed = cost(tokens_per_second=100.0, price_per_gpu_hour=2.5, gpus=4, currency="EUR")
    hours = by_speed["positions"] / 100 / 3600
    assert by_speed["cost"] == pytest.approx(
        {"gpu_hours": hours, "wall_hours": hours / 4, "price": 2.5 * hours, "currency": "EUR"}
    )
    by_peak = cost(peak_tflops=2.0, mfu=0.25)
    assert by_peak["cost"]["gpu_hours"] == pytest.approx(by_peak["total_flops"] / (0.5e12 * 3600))
    assert by_peak["cost"]["price"] is None
    assert cost()["cost"]["gpu_hours"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens_per_second": 0}, "tokens_per_second is 0"),
        ({"peak_tflops": math.inf}, "peak_tflops is inf"),
        ({"mfu": 1.5}, "mfu is 1.5"),
        ({"gpus": 0}, "gpus is 0"),
        ({"price_per_gpu_hour": -1}, "price_per_gpu_hour is -1"),
        ({"price": 2}, "has no option 'price'"),
    ],
)
def test_wrong_options_are_the_users(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError) as caught:
        plugins.create("salad.trainers", "dry_run", options)
    assert message in str(caught.value)


def test_a_dry_run_of_a_text_model_says_what_it_needs(plan: Stage2Plan, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a model of type 'llama'; expected 'salad'"):
        DryRun().fit(dataclasses.replace(plan, init=plan.base), *selection_and_data(plan), tmp_path)


# --- a trainer of somebody else's ------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from salad_eval import plugins
from salad_train.training.stages import SpeechSource, Stage2Data, Stage2Plan
from salad_train.training.plan import TrainPlan
from salad_train.types import SelectedDocument, Selection, TextDocument, Trainer

info = next(info for info in plugins.available("salad.trainers") if info.name == "toy")
assert (info.package, info.version) == ("salad-toy-trainer", "0.1"), info
trainer = plugins.create("salad.trainers", "toy", {"smoothing": 0.0})
assert isinstance(trainer, Trainer)
document = TextDocument("d", "gold is gold")
selection = Selection("gap", 1.0, 1.0, 0, (), (), (SelectedDocument(document, 0, 1.0, "drawn", 1.0),), "signed")
data = Stage2Data(SpeechSource([document], None), None, [])
plan = Stage2Plan(init="nano/speech", base="nano/base", voices=("a",), train=TrainPlan(steps=7))
print(trainer.fit(plan, selection, data, Path(sys.argv[1])))
"""


def lay_out_toy(folder: Path) -> None:
    """What pip leaves of the package, where there is no pip or no build backend."""
    info = folder / "salad_toy_trainer-0.1.dist-info"
    info.mkdir(parents=True)
    shutil.copy(TOY / "salad_toy_trainer.py", folder)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: salad-toy-trainer\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[salad.trainers]\ntoy = salad_toy_trainer:UnigramTrainer\n")


def install_toy(folder: Path) -> None:
    """As a user would, by pip and without network, where that is possible."""
    if not all(importlib.util.find_spec(name) for name in ("pip", "hatchling")):
        lay_out_toy(folder)
        return
    command = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        folder,
        TOY,
    ]
    subprocess.run([sys.executable, *map(str, command)], check=True, capture_output=True, text=True)


def test_a_trainer_from_another_package_trains(tmp_path: Path) -> None:
    install_toy(tmp_path / "site")
    lay_out_toy(tmp_path / "by_hand")
    for way in ("site", "by_hand"):  # both ways, whichever of them is taken here, register the same
        (found,) = importlib.metadata.distributions(path=[str(tmp_path / way)])
        (point,) = found.entry_points
        assert (found.name, found.version) == ("salad-toy-trainer", "0.1")
        assert (point.group, point.name, point.value) == ("salad.trainers", "toy", "salad_toy_trainer:UnigramTrainer")
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    folder = Path(ran.stdout.strip().splitlines()[-1])
    model = json.loads((folder / "unigrams.json").read_text())
    assert model == {"of": "signed", "steps": 7, "p": {"gold": 2 / 3, "is": 1 / 3}}
