"""From a selection to sound: documents are cut, spoken in the order in which they were drawn, and no more of them than the
budget of seconds allows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salad_eval.errors import DataError, UserInputError
from salad_eval.identity import file_sha256
from salad_eval.progress import track
from salad_eval.records import read_jsonl, to_json, write_json, write_jsonl
from salad_eval.types import Rendering
from salad_train.speech.interleave import Interleaved, interleave
from salad_train.speech.speaker import TTSSpeaker
from salad_train.speech.utterances import Utterance, utterances_of, voice_for
from salad_train.training.stage_plan import Stage2Plan, StagePlan
from salad_train.training.stages import borders_of
from salad_train.types import SelectedDocument, Selection, SpokenDocument, SpokenSpan, TextDocument

TOLERANCE = 0.01  # of the budget
BLOCK = 64  # documents after which it is seen whether the budget is met
FILE, STATED = "synthesis.jsonl", "synthesis.json"


@dataclass(frozen=True, slots=True)
class Synthesis:
    """What was spoken of a selection.

    Attributes:
        left_out: how many drawn documents were not taken, by reason: ``not_spoken`` (a span that the voice could not say),
            ``not_cut`` (too short to hold text and speech), ``over_budget``.
    """

    documents: tuple[SpokenDocument, ...]
    budget_seconds: float
    left_out: Mapping[str, int]

    @property
    def seconds(self) -> float:
        return sum(document.seconds for document in self.documents)

    @property
    def is_met(self) -> bool:
        """Whether the sound is within 1% of the budget."""
        return abs(self.seconds - self.budget_seconds) <= TOLERANCE * self.budget_seconds


def synthesise(selection: Selection, plan: StagePlan, tokenizer: Any, speaker: TTSSpeaker) -> Synthesis:
    """Speak a selection's documents as training will read them (the same cuts, the same voices) until the budget is met.

    A document that would go beyond the budget is passed over for a later, shorter one; documents of the reserve stand in for
    those that fail or turn out shorter than expected. Raises ``DataError`` where nothing could be spoken.
    """
    budget = selection.budget_seconds
    taken: list[SpokenDocument] = []
    left_out: dict[str, int] = {}
    seconds = 0.0
    cut = [one for chosen in selection.documents for one in _cut(chosen, plan, tokenizer)]
    rendered = speaker.render([utterance for one in cut for utterance in one.utterances])
    n = BLOCK * plan.cuts
    for block in track([cut[i : i + n] for i in range(0, len(cut), n)], "speaking the selection"):
        for one in block:
            spoken, reason = _spoken(one, [next(rendered) for _ in one.utterances])
            if spoken is not None and seconds + spoken.seconds > budget * (1 + TOLERANCE / 2):
                spoken, reason = None, "over_budget"
            if spoken is None:
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            taken.append(spoken)
            seconds += spoken.seconds
        if seconds >= budget * (1 - TOLERANCE / 2):
            break
    if not taken:
        raise DataError(f"none of {len(selection.documents)} selected documents could be spoken ({left_out}).")
    return Synthesis(tuple(taken), budget, left_out)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A selected document as it will be trained on in one epoch, and what of it is to be said in which voice."""

    chosen: SelectedDocument
    interleaved: Interleaved
    voice: str
    utterances: Sequence[Utterance]


def _cut(chosen: SelectedDocument, plan: StagePlan, tokenizer: Any) -> Iterator[_Cut]:
    """A document in each of the plan's cuts."""
    document, seed = chosen.document, plan.train.seed
    for epoch in range(plan.cuts):
        cut = interleave(
            document, tokenizer, plan.interleave, seed=seed, epoch=epoch,
            preferred=borders_of(document), append_eos=plan.append_eos,
        )  # fmt: skip
        voice = voice_for(document.id, epoch, plan.voices, seed)
        yield _Cut(chosen, cut, voice, utterances_of(cut, voice))


def _spoken(cut: _Cut, sounds: Sequence[Rendering | None]) -> tuple[SpokenDocument | None, str]:
    """The document with its sounds, or why there is none."""
    said = [sound for sound in sounds if sound is not None]
    if not sounds:
        return None, "not_cut"
    if len(said) < len(sounds):
        return None, "not_spoken"
    remaining = iter(said)
    spans = []
    for span in cut.interleaved.spans:
        if span.modality == "text":
            spans.append(SpokenSpan(span.text))
        else:
            sound = next(remaining)
            spans.append(SpokenSpan(span.text, sound.sha256, sound.seconds))
    document, chosen = cut.chosen.document, cut.chosen
    return SpokenDocument(document.id, document.domain, chosen.cluster, chosen.weight, cut.voice, tuple(spans)), ""


def tokenizer_of(plan: Stage2Plan) -> Any:
    """The tokenizer of the speech LLM that Stage II goes on from, without its weights."""
    from transformers import AutoTokenizer

    from salad_eval.resources import resolve_pretrained

    return AutoTokenizer.from_pretrained(resolve_pretrained(plan.init))


# --- files -----------------------------------------------------------------------------------------------------------


def write_synthesis(synthesis: Synthesis, selection: Selection, plan: StagePlan, voice: str, out: Path) -> None:
    """``synthesis.jsonl`` (a line a document) and ``synthesis.json`` (what it was made by, written last). ``voice``: the speaker's
    fingerprint."""
    out.mkdir(parents=True, exist_ok=True)
    write_jsonl(out / FILE, synthesis.documents)
    stated = {
        "selection": selection.signature,
        "cut_by": _cut_by(plan),
        "voice": voice,
        "documents_sha256": file_sha256(out / FILE),
        "budget_seconds": synthesis.budget_seconds,
        "seconds": synthesis.seconds,
        "left_out": dict(synthesis.left_out),
    }
    write_json(out / STATED, stated)


def read_synthesis(folder: Path, selection: Selection, plan: StagePlan, voice: str) -> Synthesis:
    """The synthesis in a folder. Raises ``UserInputError`` where it was made of another selection, by another voice, or of documents
    cut in another way than ``plan`` will cut them: its sound would not be the sound that is trained on."""
    try:
        stated = json.loads((folder / STATED).read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise UserInputError(
            f"{folder} holds no finished synthesis ({cause}). Make one with `salad synthesise --selection … --out {folder}`."
        ) from None
    for name, made, wanted in (
        ("selection", stated["selection"], selection.signature),
        ("plan", stated["cut_by"], _cut_by(plan)),
        ("voice", stated.get("voice"), voice),
    ):
        if made != wanted:
            raise UserInputError(
                f"{folder} was made by another {name} ({made}) than this one ({wanted}). Run `salad synthesise` again."
            )
    if stated["documents_sha256"] != file_sha256(folder / FILE):
        raise DataError(
            f"{folder / FILE} is not the file that {STATED} was written with. Run `salad synthesise` again."
        )
    documents = read_jsonl(folder / FILE, SpokenDocument)
    return Synthesis(tuple(documents), stated["budget_seconds"], stated["left_out"])


def spoken_documents(selection: Selection, synthesis: Synthesis) -> tuple[TextDocument, ...]:
    """The selection's documents that were spoken, in the order of drawing."""
    spoken = {document.document_id for document in synthesis.documents}
    return tuple(chosen.document for chosen in selection.documents if chosen.document.id in spoken)


def _cut_by(plan: StagePlan) -> object:
    """All that the cuts and voices of documents depend on, as JSON."""
    return {
        "interleave": to_json(plan.interleave),
        "voices": list(plan.voices),
        "cuts": plan.cuts,
        "append_eos": plan.append_eos,
        "seed": plan.train.seed,
    }
