"""`salad nano train`: every model of the `nano` world, from nothing, through the code that adapts any other model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad_eval import resources
from salad_eval.audio.store import AudioStore
from salad_eval.records import to_json, whole_folder, write_json
from salad_eval.types import GapReport
from salad_train.nano import world
from salad_train.nano.asr import AsrPlan, train_asr
from salad_train.nano.base import BasePlan, train_base
from salad_train.nano.card import Making, write_card
from salad_train.speech.interleave import InterleaveSpec, WordRange
from salad_train.speech.speaker import TTSSpeaker
from salad_train.training.batches import BatchLimits
from salad_train.training.plan import TrainPlan
from salad_train.training.stage_plan import AdapterSize, Stage1Plan
from salad_train.training.stages import SpeechSource, stage1

DONE = "measured.json"  # in a model's folder: what it was made from and what was measured in the making

# Spans are shorter than the paper's, since a document here is one to four sentences, and questions are mostly spoken whole:
# what follows from half a question teaches little.
INTERLEAVE = InterleaveSpec(text=WordRange(1, 8), speech=WordRange(3, 14), speech_first=0.2, prefer=0.95)


@dataclass(frozen=True, slots=True)
class NanoPlan:
    """All of it. ``seed`` makes the world and reaches every training."""

    seed: int = 0
    # How many documents of each kind Stage I hears.
    n_questions: int = 6200
    n_statements: int = 1500
    n_narrative: int = 500
    n_replay: int = 8000  # documents it reads as text
    steps: int = 1900
    lm_lr: float = 1e-4
    adapter_lr: float = 2e-3
    muon_lr: float = 0.02
    stack_frames: int = 4  # 25 encoder frames a second become 6.25 positions
    adapter: AdapterSize = AdapterSize(hidden_size=192, intermediate_size=512, layers=3, heads=3, kv_heads=3)
    base: BasePlan = BasePlan()
    asr: AsrPlan = AsrPlan()

    def seeded(self) -> NanoPlan:
        """The same with its one seed in every part."""
        return dataclasses.replace(
            self, base=dataclasses.replace(self.base, seed=self.seed), asr=dataclasses.replace(self.asr, seed=self.seed)
        )


def make(plan: NanoPlan, out: Path, work: Path, *, workers: int = 2) -> Path:
    """Train everything, measure it through the line any user runs, and write the card. Returns the card's path."""
    train_nano(plan, out, work, workers=workers)
    reports = {split: evaluate_nano(out, split, work / f"run-{split}") for split in ("validation", "test")}
    makings = [Making.of(out / name) for name in resources.NANO_MODELS]
    seconds = sum(making.measured["seconds"] for making in makings)
    return write_card(out, makings, reports, world.HEARD_DOMAINS, f"salad nano train --seed {plan.seed}", seconds)


def train_nano(plan: NanoPlan, out: Path, work: Path, *, workers: int = 2) -> None:
    """Train base LLM, ASR and speech LLM to ``out``; a model that is there already, made by the same plan, is kept.

    ``work`` holds speech and checkpoints while it runs; it can be removed afterwards.
    """
    plan = plan.seeded()
    documents = world.corpus(plan.seed)
    audio = AudioStore(work / "audio")
    _build(out / "base", {"seed": plan.seed, "base": to_json(plan.base)},
           lambda folder: train_base([document.text for document in documents], folder, plan.base))  # fmt: skip
    _build(out / "asr", {"seed": plan.seed, "asr": to_json(plan.asr)},
           lambda folder: train_asr(documents, folder, plan.asr, store=audio, workers=workers))  # fmt: skip
    _build(out / "speech", to_json(plan),
           lambda folder: train_speech(plan, documents, out, folder, work, audio))  # fmt: skip


def evaluate_nano(models: Path, split: str, folder: Path) -> GapReport:
    """The gap report of the models in ``models``: the preset ``nano``, with them in it."""
    from salad_eval import evaluate

    overrides: dict[str, Any] = {
        "split": split,
        "out": str(folder),
        "asr.options.pretrained": str(models / "asr"),
        "base.options.pretrained": str(models / "base"),
        "adapted.options.pretrained": str(models / "speech"),
    }
    return evaluate("nano", again=True, **overrides)


def train_speech(
    plan: NanoPlan, documents: Sequence[world.Document], models: Path, out: Path, work: Path, audio: AudioStore
) -> dict[str, float]:
    """Stage I on the heard domains: the base LLM and the ASR's encoder become a speech LLM in ``out``."""
    began = time.monotonic()
    stage = Stage1Plan(
        base=str(models / "base"),
        encoder=str(models / "asr"),
        voices=world.TRAINING_VOICES,
        train=TrainPlan(
            steps=plan.steps,
            seed=plan.seed,
            adapter_lr=plan.adapter_lr,
            muon_lr=plan.muon_lr,
            lm_lr=plan.lm_lr,
            bf16=True,
            log_every=50,
            checkpoint_every=500,
        ),
        adapter=plan.adapter,
        stack_frames=plan.stack_frames,
        interleave=INTERLEAVE,
        limits=BatchLimits(tokens=1792, sequences=64),
        attention="eager",
        save_dtype="float16",
    )
    heard = heard_of(plan, documents)
    folder = work / f"stage1-{_digest(to_json(plan))}"
    model = stage1(stage, SpeechSource(heard, TTSSpeaker(audio), question_borders), documents[: plan.n_replay], folder)
    shutil.copytree(model, out, dirs_exist_ok=True)
    speech = json.loads((folder / "speech.json").read_text(encoding="utf-8"))["heard"]
    return {
        "steps": float(plan.steps),
        "documents": float(speech["examples"]),
        "hours_of_speech": speech["seconds"] / 3600,
        "seconds": time.monotonic() - began,
    }


def heard_of(plan: NanoPlan, documents: Sequence[world.Document]) -> list[world.Document]:
    """What Stage I hears: the corpus' order is random, so its first documents of a kind are a fair sample."""
    budget = {"question": plan.n_questions, "statements": plan.n_statements, "narrative": plan.n_narrative}
    narrow = world.narrow_speech(documents)
    return [d for kind, n in budget.items() for d in [d for d in narrow if d.kind == kind][:n]]


def question_borders(document: world.Document) -> list[int] | None:
    """Where a question-and-answer document would like to be cut: around the whole question, as the benchmark's prompt is."""
    head, tail = "Question:", "\nAnswer:"
    return [len(head), document.text.index(tail)] if document.text.startswith(head) and tail in document.text else None


def completion_borders(document: world.Document) -> list[int] | None:
    """Where a document of statements would like to be cut: before the last two words of each sentence, and after them. What is
    heard then says what is asked for, and what is read completes it; a sentence read after another one was heard says little of
    what was understood, since statements stand in no order."""
    if document.kind == "question":
        return question_borders(document)
    borders: list[int] = []
    for sentence in re.finditer(r"[^.?!]+[.?!]+", document.text):
        words = list(re.finditer(r"\S+", sentence.group()))
        if len(words) >= 4:
            borders.append(sentence.start() + words[-3].end())
        borders.append(sentence.end())
    return borders[:-1]


# --- one model, once -------------------------------------------------------------------------------------------------


def _build(folder: Path, plan: object, make: Callable[[Path], dict[str, float]]) -> None:
    """Make a model in a folder of its own and move it into place whole; keep one the same plan made before."""
    stated = {"plan": plan, "digest": _digest(plan)}
    marker = folder / DONE
    if marker.exists() and json.loads(marker.read_text(encoding="utf-8"))["digest"] == stated["digest"]:
        return
    with whole_folder(folder) as unfinished:
        measured = make(unfinished)
        write_json(unfinished / DONE, {**stated, "measured": measured})


def _digest(plan: object) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:12]
