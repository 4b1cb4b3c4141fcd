"""``salad doctor --models``: public checkpoints that each loading path is made for, and a check of each where a hub can be reached.

What stands in ``model_checks.yaml`` is loaded by the plug-in that a plan would name, with the options a plan would give it, and is
asked what shows that it works: a text LLM tells a likely end of a sentence from an unlikely one, a speech LLM hears a question and
not another one, a recogniser writes what was said, a voice says something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from salad_eval import plugins
from salad_eval.cli.doctor import Finding
from salad_eval.errors import SaladError, UnknownNameError
from salad_eval.types import ASR, TTS, AudioSegment, Request, System, TextSegment
from salad_eval.validation import parse, read_table

CHECKS_FILE = Path(__file__).resolve().parent / "model_checks.yaml"
SENTENCE = "The capital of France is"
ENDINGS = (" Paris", " a spoon")
QUESTION, OTHER_QUESTION = "What is the capital of France?", "How many legs does a spider have?"
ANSWERS = (" Paris", " eight")
MOST_WORD_ERRORS = 0.5  # of a clear sentence by a synthetic voice; beyond it something is wrong with the set-up

Kind = Literal["text", "speech", "asr", "tts"]
_GROUPS: Mapping[Kind, plugins.Group] = {
    "text": "salad.systems", "speech": "salad.systems", "asr": "salad.asr", "tts": "salad.tts",
}  # fmt: skip


class _Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelCheck(_Typed):
    """One loading path with a checkpoint that it is made for.

    ``plugin`` is the registered name and ``options`` what it is built with. ``gigabytes``: about so much is downloaded. ``classes``: the
    transformers (or other) classes behind it. ``here``: what the path has been run on where this package was built.
    """

    kind: Kind
    plugin: str
    options: dict[str, JsonValue]
    gigabytes: Annotated[float, Field(gt=0)]
    classes: str
    here: str
    voice: str | None = None

    @property
    def pretrained(self) -> str:
        return str(self.options.get("pretrained", self.options.get("model", "")))


class _File(_Typed):
    checks: dict[str, ModelCheck]


@dataclass(frozen=True, slots=True)
class Sound:
    """What the checks of hearing need: one voice asking two questions."""

    question: AudioSegment
    other: AudioSegment


def read_checks(path: Path = CHECKS_FILE) -> dict[str, ModelCheck]:
    """The checks by name. Raises ``UserInputError`` for a file that cannot be read or holds something else."""
    return dict(parse(_File, read_table(path, "list of model checks", "leave it out"), str(path)).checks)


def command_for(name: str) -> str:
    """What to type to check a model."""
    return f"salad doctor --check-model {name}"


def check_models(names: Iterable[str], checks: Mapping[str, ModelCheck]) -> Iterable[Finding]:
    """Load and ask each model, one after the other. Raises ``UnknownNameError`` for a name that is none of ``checks``."""
    chosen = list(names)
    for name in chosen:
        if name not in checks:
            raise UnknownNameError("model check", name, checks)
    sound = _sound()
    for name in chosen:
        yield check_model(name, checks[name], sound)


def check_model(name: str, check: ModelCheck, sound: Sound) -> Finding:
    """Whether a checkpoint loads and answers; the reason where not."""
    asked: Mapping[Kind, Callable[[], tuple[bool, str]]] = {
        "text": partial(_read, check), "speech": partial(_hear, check, sound), "asr": partial(_write, check, sound),
        "tts": partial(_say, check),
    }  # fmt: skip
    try:
        fine, found = asked[check.kind]()
    except SaladError as cause:
        return Finding(name, "broken", str(cause))
    return Finding(
        name, "ok" if fine else "broken", found, "" if fine else "please report this, with the versions above"
    )


def _built(check: ModelCheck) -> Any:
    return plugins.create(_GROUPS[check.kind], check.plugin, check.options)


def _read(check: ModelCheck) -> tuple[bool, str]:
    system: System = _built(check)
    (scores,) = system.loglikelihoods([Request("check", (TextSegment(SENTENCE),), ENDINGS)])
    shown = ", ".join(f"{ending!r} {score:.2f}" for ending, score in zip(ENDINGS, scores, strict=True))
    fine = all(math.isfinite(score) for score in scores) and scores[0] > scores[1]
    return fine, f"{system.fingerprint()}: {SENTENCE!r} → {shown} nats"


def _hear(check: ModelCheck, sound: Sound) -> tuple[bool, str]:
    system: System = _built(check)
    asked = [
        Request("check", (TextSegment("Question: "), heard, TextSegment("\nAnswer:")), ANSWERS)
        for heard in (sound.question, sound.other)
    ]
    first, second = system.loglikelihoods(asked)
    preference = (first[0] - first[1]) - (second[0] - second[1])
    shown = (
        f"{ANSWERS[0]!r} over {ANSWERS[1]!r} is {preference:+.2f} nats likelier after its question than after the other"
    )
    return all(map(math.isfinite, (*first, *second))) and preference > 0, f"{system.fingerprint()}: {shown}"


def _write(check: ModelCheck, sound: Sound) -> tuple[bool, str]:
    from salad_eval.pipeline.transcribe import count_errors

    asr: ASR = _built(check)
    (text,) = asr.transcribe([sound.question.audio])
    counts = count_errors(QUESTION, text)
    rate = counts.word_errors / counts.n_words
    return rate <= MOST_WORD_ERRORS, f"{asr.fingerprint()}: heard {text!r:.80} for {QUESTION!r} (WER {rate:.0%})"


def _say(check: ModelCheck) -> tuple[bool, str]:
    from salad_eval.audio.sound import problem

    voice: TTS = _built(check)
    name = check.voice or voice.voices()[0]
    audio = voice.speak(QUESTION, name)
    fault = problem(audio, QUESTION)
    return fault is None, f"{voice.fingerprint()}: {fault or f'{audio.seconds:.1f} s of sound in the voice {name}'}"


def _sound() -> Sound:
    from salad_eval.audio.sound import sha256_of

    engine = plugins.create("salad.tts", "pyttsx3", {})

    def said(text: str) -> AudioSegment:
        audio = engine.speak(text, "en-us")
        return AudioSegment(audio, sha256_of(audio))

    return Sound(said(QUESTION), said(OTHER_QUESTION))


def print_checks(checks: Mapping[str, ModelCheck]) -> None:
    """The list as a table, with what to type to check each."""
    from salad_eval.cli.listing import print_list

    print_list(
        ("path", "GB", "checkpoint", "run here on", "classes"),
        [(one.plugin, f"{one.gigabytes:g}", one.pretrained, one.here, one.classes) for one in checks.values()],
        prose=("run here on",),
    )
    print("To check one where a model hub can be reached (downloads it, loads it, asks it):")
    for name in checks:
        print(f"  {command_for(name)}")
