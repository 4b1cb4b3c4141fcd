"""A document as alternating spans of text and speech, after the paper's interleaved sequences (arXiv 2510.13632).

A cut falls before the whitespace in front of a word. It is made only where the tokens allow it: the ids of every
span, tokenised by
itself, must be the very ids it has inside the whole document. So the student's text tokens are the teacher's text
tokens, one for
one, and what the LM reads after speech at evaluation is tokenised as in training.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from salad_eval.errors import ModelError, UserInputError

Modality = Literal["text", "speech"]
_WORD = re.compile(r"\S+")
_PREFERRED = re.compile(r"(?<=[.?!:;])(?=\s)|(?=\n)")


class DocumentLike(Protocol):
    """A text of the corpus; ``id`` is unique."""

    @property
    def id(self) -> str: ...

    @property
    def domain(self) -> str: ...

    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class WordRange:
    """Length of a span in words.

    Attributes:
        low: the shortest.
        high: the longest.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise UserInputError(f"a span of {self.low} to {self.high} words: expected 1 ≤ low ≤ high.")


@dataclass(frozen=True, slots=True)
class InterleaveSpec:
    """How documents are cut.

    Attributes:
        text: lengths of the spans that are read (the paper's, as digested, by default). A document ends in text, if need be
            in a shorter span.
        speech: lengths of the spans that are heard (the paper's by default).
        speech_first: probability that the first span is speech.
        prefer: probability that a cut moves to the nearest end of a sentence, clause or line within its span's range of
            lengths, where there is one.
        prefer_stated: the same in documents that state where they would like to be cut, for the borders they state;
            ``None`` is as ``prefer``.
    """

    text: WordRange = WordRange(10, 30)
    speech: WordRange = WordRange(5, 15)
    speech_first: float = 0.5
    prefer: float = 0.5
    prefer_stated: float | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch ``text[start:end]`` of a document, its tokens ``ids[token_start:token_end]``, and in which form it is
    read."""

    modality: Modality
    text: str
    token_start: int
    token_end: int

    @property
    def spoken_text(self) -> str:
        """What the voice says: the span without the whitespace around it."""
        return " ".join(self.text.split())


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A cut document.

    Attributes:
        ids: the whole document as the teacher reads it, with the special tokens that begin (and, if asked for, end) it.
        spans: cover all of ``ids`` in order. Special tokens belong to the first and last text span, or stand in one
            of their own.
    """

    document_id: str
    domain: str
    ids: tuple[int, ...]
    spans: tuple[Span, ...]

    @property
    def speech(self) -> tuple[Span, ...]:
        return tuple(span for span in self.spans if span.modality == "speech")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a cut document's tokens and recordings stand in the student's sequence, and which positions are scored.

    Attributes:
        input_ids: the student's sequence; audio positions hold the audio token's id.
        targets: ids of the scored tokens: every text token that something precedes.
        student: for each target, the student position whose output predicts it (the one just before it, be that text
            or audio).
        teacher: for each target, the position of the pure text whose output predicts it.
        after_speech: for each target, whether it is the first text token after speech.
    """

    input_ids: np.ndarray
    targets: np.ndarray
    student: np.ndarray
    teacher: np.ndarray
    after_speech: np.ndarray


# --- tokens and borders ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EncodedDocument:
    """A document's ids and the character span each covers; special tokens cover nothing."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    special: tuple[bool, ...]


def encode_document(text: str, tokenizer: Any, *, append_eos: bool = False) -> EncodedDocument:
    """Tokenise with the tokenizer's own special tokens; ``append_eos`` adds the end of text where it is not there
    already.

    Raises ``ModelError`` for a tokenizer that cannot say which characters a token covers.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} has no character offsets; interleaving needs a fast tokenizer (tokenizer.json)."
        )
    encoded = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids, offsets = list(encoded["input_ids"]), [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
    special = [bool(flag) for flag in encoded["special_tokens_mask"]]
    if append_eos and tokenizer.eos_token_id is not None and (not ids or ids[-1] != tokenizer.eos_token_id):
        ids.append(int(tokenizer.eos_token_id))
        offsets.append((len(text), len(text)))
        special.append(True)
    return EncodedDocument(tuple(ids), tuple(offsets), tuple(special))


def word_borders(text: str) -> list[int]:
    """Character positions at which a document may be cut: the end of each word but the last, so that a word takes its
    space along."""
    words = list(_WORD.finditer(text))
    return [word.end() for word in words[:-1]]


def token_borders(encoded: EncodedDocument, borders: Sequence[int]) -> dict[int, int]:
    """For each border that no token straddles: the index of the first token after it."""
    content = [index for index, special in enumerate(encoded.special) if not special]
    found: dict[int, int] = {}
    at = 0
    for border in sorted(borders):
        while at < len(content) and encoded.offsets[content[at]][0] < border:
            at += 1
        if 0 < at < len(content) and encoded.offsets[content[at - 1]][1] <= border:
            found[border] = content[at]
    return found


# --- cutting ---------------------------------------------------------------------------------------------------------


def rng_for(seed: int, document_id: str, epoch: int) -> np.random.Generator:
    """The one source of chance for a document in an epoch; independent of all others and of the order of work."""
    digest = hashlib.sha256(document_id.encode()).digest()
    return np.random.default_rng([seed, epoch, *np.frombuffer(digest[:16], dtype="<u4").tolist()])


def interleave(
    document: DocumentLike,
    tokenizer: Any,
    spec: InterleaveSpec,
    *,
    seed: int,
    epoch: int,
    preferred: Sequence[int] | None = None,
    append_eos: bool = False,
) -> Interleaved:
    """Cut a document into alternating text and speech spans: a pure function of its arguments.

    Args:
        preferred: character positions the document would like to be cut at (the ends of questions, say); ``None``
            takes ends of
            sentences, clauses and lines.
        append_eos: whether the end-of-text token follows the document and is scored.

    A cut at which a span's ids would change moves on to the next word start; where no cut is possible the whole is
    one text span.
    """
    encoded = encode_document(document.text, tokenizer, append_eos=append_eos)
    borders = token_borders(encoded, word_borders(document.text))
    if preferred is None:
        wanted, prefer = {match.start() for match in _PREFERRED.finditer(document.text)}, spec.prefer
    else:
        wanted, prefer = set(preferred), spec.prefer if spec.prefer_stated is None else spec.prefer_stated
    places = _places(document.text, encoded, borders, wanted, tokenizer)
    cuts = _cut(places, spec, prefer, rng_for(seed, document.id, epoch))
    return Interleaved(document.id, document.domain, encoded.ids, _spans(document.text, encoded, borders, cuts))


@dataclass(frozen=True, slots=True)
class _Cuts:
    first: Modality
    cuts: tuple[int, ...]  # character positions


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Where a document may be cut and where it would like to be. Places are counted in words before them.

    Attributes:
        ends: (words + 1,) the character after so many words.
        keeps_ids: whether the text between two places has, tokenised by itself, the ids it has in the document.
    """

    ends: tuple[int, ...]
    usable: frozenset[int]
    wanted: frozenset[int]
    keeps_ids: Callable[[int, int], bool]

    @property
    def n_words(self) -> int:
        return len(self.ends) - 1


def _other(modality: Modality) -> Modality:
    return "speech" if modality == "text" else "text"


def _places(text: str, encoded: EncodedDocument, borders: dict[int, int], wanted: set[int], tokenizer: Any) -> _Places:
    ends = (0, *(word.end() for word in _WORD.finditer(text)))
    usable = frozenset(place for place, end in enumerate(ends) if end in borders)
    content = [index for index, special in enumerate(encoded.special) if not special]

    def keeps_ids(start: int, end: int) -> bool:
        low = borders[ends[start]] if start else content[0]
        high, stop = (borders[ends[end]], ends[end]) if end < len(ends) - 1 else (content[-1] + 1, len(text))
        alone = tokenizer(text[ends[start] : stop], add_special_tokens=False)["input_ids"]
        return tuple(alone) == encoded.ids[low:high]

    return _Places(ends, usable, frozenset(place for place in usable if ends[place] in wanted), keeps_ids)


def _cut(places: _Places, spec: InterleaveSpec, prefer: float, rng: np.random.Generator) -> _Cuts:
    """Spans in turn until nothing more fits; what is left is the last one."""
    first: Modality = "speech" if rng.random() < spec.speech_first else "text"
    modality, cuts = first, [0]
    while (end := _span_end(places, spec, prefer, rng, modality, cuts[-1])) is not None:
        cuts.append(end)
        modality = _other(modality)
    # The last span is text, or nothing would be learnt from the speech in it, and it keeps its ids: else it joins the
    #     one before.
    while len(cuts) > 1 and (modality == "speech" or not places.keeps_ids(cuts[-1], places.n_words)):
        cuts.pop()
        modality = _other(modality)
    return _Cuts(first if len(cuts) > 1 else "text", tuple(places.ends[cut] for cut in cuts[1:]))


def _span_end(
    places: _Places, spec: InterleaveSpec, prefer: float, rng: np.random.Generator, modality: Modality, start: int
) -> int | None:
    """Where a span that begins at ``start`` ends; ``None`` where the rest of the document is too short for it."""
    length = spec.speech if modality == "speech" else spec.text
    # Words this span may take: speech leaves a word of text after it, and text a whole speech span and that word.
    room = places.n_words - start - (1 if modality == "speech" else spec.speech.low + 1)
    # The first span is kept within the room too, so that a short document is cut; else a long text span ends it.
    most = max(length.low, min(length.high, room)) if modality == "speech" or not start else length.high
    drawn = start + int(rng.integers(length.low, most + 1))
    if rng.random() < prefer:
        near = [k for k in range(start + length.low, start + min(most, room) + 1) if k in places.wanted]
        drawn = min(near, key=lambda k: (abs(k - drawn), k), default=drawn)
    return next((k for k in range(drawn, start + room + 1) if k in places.usable and places.keeps_ids(start, k)), None)


def _spans(text: str, encoded: EncodedDocument, borders: dict[int, int], cuts: _Cuts) -> tuple[Span, ...]:
    edges = [0, *cuts.cuts, len(text)]
    content = [index for index, special in enumerate(encoded.special) if not special]
    head, tail = (content[0], content[-1] + 1) if content else (len(encoded.ids), len(encoded.ids))
    tokens = [head, *(borders[cut] for cut in cuts.cuts), tail]
    spans: list[Span] = []
    modality = cuts.first
    for start, end, low, high in zip(edges, edges[1:], tokens, tokens[1:], strict=False):
        spans.append(Span(modality, text[start:end], low, high))
        modality = _other(modality)
    # Special tokens are always read as text.
    if head > 0:
        if spans[0].modality == "text":
            spans[0] = Span("text", spans[0].text, 0, spans[0].token_end)
        else:
            spans.insert(0, Span("text", "", 0, head))
    if tail < len(encoded.ids):  # the last span is text
        spans[-1] = Span("text", spans[-1].text, spans[-1].token_start, len(encoded.ids))
    return tuple(spans)


def as_text(document: DocumentLike, tokenizer: Any, *, append_eos: bool = False) -> Interleaved:
    """The document as one text span: what text replay reads."""
    encoded = encode_document(document.text, tokenizer, append_eos=append_eos)
    return Interleaved(document.id, document.domain, encoded.ids, (Span("text", document.text, 0, len(encoded.ids)),))


# --- positions -------------------------------------------------------------------------------------------------------


def lay_out(interleaved: Interleaved, audio_positions: Sequence[int], audio_token_id: int) -> Layout:
    """The student's sequence, with ``audio_positions[k]`` positions for the k-th speech span, and the scored positions.

    Every text token that something precedes is a target, the first after speech included. Raises ``ModelError`` where
    the numbers
    of speech spans and recordings differ or a recording has no positions.
    """
    n_speech = len(interleaved.speech)
    if len(audio_positions) != n_speech or any(n < 1 for n in audio_positions):
        raise ModelError(
            f"document {interleaved.document_id!r} has {n_speech} speech spans, but its recordings take {list(audio_positions)} positions."
        )
    ids = np.asarray(interleaved.ids, dtype=np.int64)
    inputs: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    student: list[np.ndarray] = []
    after: list[np.ndarray] = []
    length, recordings = 0, iter(audio_positions)
    heard = False
    for span in interleaved.spans:
        if span.modality == "speech":
            n = next(recordings)
            inputs.append(np.full(n, audio_token_id, dtype=np.int64))
            length, heard = length + n, True
            continue
        tokens = np.arange(span.token_start, span.token_end)
        places = length + np.arange(len(tokens))
        scored = places > 0
        inputs.append(ids[tokens])
        targets.append(tokens[scored])
        student.append(places[scored] - 1)
        is_first = np.zeros(len(tokens), dtype=bool)
        if heard and len(tokens):
            is_first[0] = True
            heard = False
        after.append(is_first[scored])
        length += len(tokens)
    none = np.zeros(0, dtype=np.int64)
    # The document's first token is never among them: as text it comes first, and as speech it is no target.
    chosen = np.concatenate([none, *targets])
    return Layout(
        input_ids=np.concatenate([none, *inputs]),
        targets=ids[chosen],
        student=np.concatenate([none, *student]),
        teacher=chosen - 1,
        after_speech=np.concatenate([none.astype(bool), *after]),
    )
