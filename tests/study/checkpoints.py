"""F, M, D and answers of many checkpoints of one speech LLM over the questions of a ``salad run``. What the base LLM says is read
once for all of them; each is opened anew, so that none is asked with what another one left in the model.

    python -m tests.study.checkpoints RUN MODEL NAME=CHECKPOINT… --out FILE.jsonl [--controls]

``RUN``: the folder of a run, whose items, sound and stored frames are taken. ``MODEL``: a speech LLM. ``CHECKPOINT``: a ``step-…`` of
training, which takes the place of the model's weights, another speech LLM, or ``-`` for the model as it is; the LM of both has to be the
base LLM's. Each becomes a line of ``FILE.jsonl``; what is there already is not asked again. ``--controls``: also what is answered by eye,
without the question, and to another one's sound.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from salad_eval.audio.store import AudioStore
from salad_eval.pipeline.controls import questions_of
from salad_eval.pipeline.divergence import gold_only, kl_divergence
from salad_eval.pipeline.render import RenderOutcome
from salad_eval.pipeline.speech import Question, Speech
from salad_eval.records import JsonlLog, read_jsonl
from salad_eval.systems.hf_text import HFTextSystem
from salad_eval.types import Item, Request
from salad_train.model.loading import load_salad
from salad_train.model.system import SaladSystem
from salad_train.training.checkpoints import load_weights, weight_names

Asking = Literal["read", "floor", "swapped"]
CONTROLS: tuple[Asking, ...] = ("read", "floor", "swapped")


@dataclass(frozen=True, slots=True)
class Asked:
    """A line: what was asked of one checkpoint, in the order of ``items``.

    Attributes:
        heard, read, floor, swapped: "1" where the answer is right, "0" where not: by ear, by eye, by eye without the question, and by
            ear to another question's sound; all but the first are empty without ``--controls``.
        positions: scored positions of each item. forgetting, misalignment, distillation: nats summed over them.
    """

    name: str
    items: tuple[str, ...]
    domains: tuple[str, ...]
    heard: str
    read: str
    floor: str
    swapped: str
    positions: tuple[int, ...]
    forgetting: tuple[float, ...]
    misalignment: tuple[float, ...]
    distillation: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Questions:
    """The items of a run and their sound."""

    items: tuple[Item, ...]
    speech: Speech
    heard: tuple[Question, ...]
    store: AudioStore

    @classmethod
    def of(cls, run: Path) -> Questions:
        spoken = [one.rendering for one in read_jsonl(run / "render.jsonl", RenderOutcome) if one.rendering is not None]
        items = tuple(read_jsonl(run / "items.jsonl", Item))
        speech = Speech(spoken)
        stated = json.loads((run / "plan.json").read_text(encoding="utf-8"))
        return cls(items, speech, tuple(speech.questions(items, "speech")), AudioStore(stated.get("audio_store")))

    def right(self, system: SaladSystem | HFTextSystem, questions: Sequence[Question]) -> str:
        requests = [request for question in questions for request in question.requests(self.store)]
        answers = system.loglikelihoods(requests)
        return "".join(
            str(int(int(np.argmax(answer)) == question.item.gold))
            for answer, question in zip(answers, questions, strict=True)
        )

    def of_control(self, name: Asking) -> list[Question]:
        if name == "read":
            return [Question(item, "text") for item in self.items]
        return questions_of(name, self.items, self.speech, self.store, seed=0)


class Reading:
    """What the base LLM says of the gold continuations, read once for all checkpoints that leave it as it is."""

    def __init__(self, base: HFTextSystem, questions: Questions) -> None:
        self.gold = [
            gold_only(Question(q.item, "text").requests(questions.store), q.item.gold or 0) for q in questions.heard
        ]
        self.heard = [gold_only(q.requests(questions.store), q.item.gold or 0) for q in questions.heard]
        self.base = _rows(base, self.gold)

    def divergences(self, system: SaladSystem, reads_as_base: bool) -> Iterator[tuple[int, float, float, float]]:
        """Scored positions, F, M and D of each question."""
        read = self.base if reads_as_base else _rows(system, self.gold)
        for q, p, c in zip(self.base, read, _rows(system, self.heard), strict=True):
            distance = kl_divergence(q, c)
            yield len(q), *((0.0, distance) if p is q else (kl_divergence(q, p), kl_divergence(p, c))), distance


def _rows(system: SaladSystem | HFTextSystem, requests: Sequence[Request]) -> list[np.ndarray]:
    return [
        one for start in range(0, len(requests), 32) for (one,) in system.distributions(requests[start : start + 32])
    ]


def ask(
    name: str, system: SaladSystem, reading: Reading, reads_as_base: bool, questions: Questions, controls: bool
) -> Asked:
    """Everything of one checkpoint."""
    found = list(reading.divergences(system, reads_as_base))
    positions, *nats = zip(*found, strict=True)
    return Asked(
        name,
        tuple(one.item.id for one in questions.heard),
        tuple(one.item.domain for one in questions.heard),
        questions.right(system, questions.heard),
        *(questions.right(system, questions.of_control(one)) if controls else "" for one in CONTROLS),
        positions,
        *(tuple(round(value, 5) for value in kind) for kind in nats),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("model")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--controls", action="store_true")
    options = parser.parse_args()
    done = {line.name for line in read_jsonl(options.out, Asked)} if options.out.exists() else set()
    plan = json.loads((options.run / "plan.json").read_text(encoding="utf-8"))
    questions = Questions.of(options.run)
    reading = Reading(HFTextSystem(plan["base"]["options"]["pretrained"], device="cpu"), questions)
    with JsonlLog(options.out, Asked) as log:
        for named in options.checkpoints:
            name, _, checkpoint = named.partition("=")
            if name in done:
                continue
            path = Path(checkpoint)
            whole = (path / "config.json").exists()
            model, processor = load_salad(checkpoint if whole else options.model, device="cpu")
            trained: Sequence[str] = ()
            if not whole and checkpoint != "-":
                load_weights(path, dict(model.named_parameters()), only_known=True)
                trained = weight_names(path)
            frozen = not any(one.startswith("language_model.") for one in trained)
            model.eval()
            system = SaladSystem.live(model, processor, name, plan["adapted"]["options"]["frames"])
            line = ask(name, system, reading, frozen, questions, options.controls)
            log.append(line)
            nats = sum(line.distillation) / sum(line.positions)
            print(f"{name}: D {nats:.3f}, right by ear {line.heard.count('1') / len(line.heard):.1%}", flush=True)


if __name__ == "__main__":
    main()
