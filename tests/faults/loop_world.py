"""A loop of two rounds whose models are digests: its evaluations and its keeping of results are the real ones, what is selected, spoken
and trained is a function of what it is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from salad_eval import records
from salad_eval.gap.compare import Comparison
from salad_eval.identity import digest
from salad_eval.testing.installed import installed
from salad_eval.testing.systems import HashedSystem
from salad_train import loop as loops
from salad_train.nano.data import embedded_documents
from salad_train.speech.synthesise import Synthesis
from salad_train.training.stages import Stage2Data
from salad_train.types import Corpus, SelectedDocument, Selection, SpokenDocument
from tests.faults.victim import TARGETS, written_task
from tests.helpers.loop_stand_ins import WITHOUT_MODELS

HERE = "tests.faults.loop_world"
KEPT = ("before/gap_report.json", "after/gap_report.json", "round-2/selection/selection.json", "compared.json")


class HashedCheckpoint(HashedSystem):
    """Answers by what its folder holds, so that another checkpoint is another model."""

    def __init__(self, pretrained: str, frames: str | None = None) -> None:
        stated = Path(pretrained) / "config.json"
        super().__init__(hashlib.sha256(stated.read_bytes()).hexdigest()[:12] if stated.is_file() else pretrained)


class Told:
    def fingerprint(self) -> str:
        return "told"


class WritingTrainer(Told):
    """A checkpoint that names what it was trained on."""

    def fit(self, plan: object, selection: Selection, data: Stage2Data, out: Path) -> Path:
        texts = digest([document.id for document in data.selected.documents])
        records.write_atomic(out / "model" / "config.json", f"{selection.signature} {texts}")
        return out / "model"


@contextmanager
def world(folder: Path) -> Iterator[Callable[[Path], None]]:
    """What runs the loop in a folder."""
    task = written_task(folder)
    evaluation = {
        "name": "tiny", "tasks": [task], "voices": ["low"], "tts": {"name": "tones"}, "asr": {"name": "tones"},
        "base": {"system": "hashed"}, "adapted": {"system": "checkpoint", "options": {"pretrained": "nano/speech"}},
        "n_resamples": 100, "workers": 1, "created": "2025-01-01T00:00:00+00:00",
    }  # fmt: skip
    (folder / "evaluation.yaml").write_text(yaml.safe_dump(evaluation), encoding="utf-8")
    targets = {
        **TARGETS,
        "salad.systems": {**TARGETS["salad.systems"], "checkpoint": f"{HERE}:HashedCheckpoint"},
        "salad.trainers": {"writing": f"{HERE}:WritingTrainer"},
        "salad.signals": {"told": f"{HERE}:Told"},
    }
    (folder / "plugins").mkdir()
    next(embedded_documents("nano/questions"))  # made once, before any victim is forked
    with installed(folder / "plugins", targets):

        def act(out: Path) -> None:
            _stand_in()
            loops.loop(_plan(folder / "evaluation.yaml", out.parent / "store"), out)

        yield act


def _plan(evaluation: Path, store: Path) -> loops.LoopPlan:
    changes: Mapping[str, Any] = {
        "evaluation": str(evaluation), "steer": {}, "rounds": 2, "trainer": "writing", "select.signal": "told",
        "settings.audio_store": str(store), "settings.voice.tts": "tones", "settings.corpus.max_documents": 50,
        "settings.text.max_documents": 5, "settings.stage2.train.steps": 2,
    }  # fmt: skip
    return loops.load_loop("nano", changes)


def _stand_in() -> None:
    """In the victim alone: what needs models is made of digests."""

    def select(plan: object, corpus: Corpus, *more: object, steering: Any, **given: object) -> Selection:
        made_of = digest(steering.report.overall.gap.value, corpus.fingerprint)
        first = int(made_of[:8], 16) % (len(corpus.documents) - 3)
        chosen = tuple(SelectedDocument(one, 0, 1.0, "", 1.0) for one in corpus.documents[first : first + 3])
        return Selection("told", 1.0, 9.0, 0, (), (), chosen, made_of)

    def synthesise(selection: Selection, *more: object) -> Synthesis:
        spoken = tuple(SpokenDocument(one.document.id, "", 0, 1.0, "low", ()) for one in selection.documents)
        return Synthesis(spoken, 9.0, {})

    def write_comparison(compared: Comparison, out: Path, **_: object) -> None:
        records.write_json(out / "compared.json", compared)

    ours = {"select": select, "synthesise": synthesise, "write_comparison": write_comparison}
    for name, made in {**WITHOUT_MODELS, **ours}.items():
        setattr(loops, name, made)
