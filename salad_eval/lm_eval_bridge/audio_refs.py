"""Sound in lm-eval's text prompts: a marker in the text says where a sound is heard, a reference beside it says which file.

lm-eval's prompts are strings, and its cache and its logs want values that JSON can hold. So a prompt's sound is written
``<|salad-audio:SHA256|>`` into the text, and ``doc_to_audio`` gives ``[{"path": …, "sha256": …}, …]``; what is heard is
decoded by the model that hears it, and its digest is checked. A marker without its reference, a reference without its
marker, and a file that is missing or is not what its digest says are errors: nothing is ever answered from the rest of
the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from salad_eval.audio.sound import read_audio, sha256_of
from salad_eval.errors import AudioError
from salad_eval.identity import file_sha256
from salad_eval.types import AudioSegment, Segment, TextSegment

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MARKER = re.compile(r"<\|salad-audio:([0-9a-f]{64})\|>")
_OPENING = "<|salad-audio:"


@dataclass(frozen=True, slots=True)
class AudioRef:
    """A sound file and its digest (64 hex digits): the sha256 of the file's bytes, or ``sound.sha256_of`` its samples.

    The second is what the audio store names its files by.
    """

    path: str
    sha256: str

    def as_json(self) -> dict[str, str]:
        return {"path": self.path, "sha256": self.sha256}


def marker(sha256: str) -> str:
    """What stands in a text for the sound with this digest."""
    if not _SHA256.fullmatch(sha256):
        raise AudioError(f"{sha256!r} is not the sha256 of a sound: expected 64 hexadecimal digits.")
    return f"{_OPENING}{sha256}|>"


def holds_marker(text: str) -> bool:
    """Whether a text has what looks like a marker, whole or not."""
    return _OPENING in text


def marked_text(prompt: Iterable[Segment]) -> str:
    """A prompt as one string, a marker in the place of each sound; ``split_at_markers`` is its inverse."""
    return "".join(s.text if isinstance(s, TextSegment) else marker(s.sha256) for s in prompt)


def parse_refs(value: object, where: str) -> tuple[AudioRef, ...]:
    """The references in a request's third argument, ``{"audio": [{"path", "sha256"}, …]}``.

    Raises ``AudioError`` for anything else, decoded waveforms among them: those can be neither cached nor told apart.
    """
    form = "expected {'audio': [{'path': …, 'sha256': …}, …]}"
    if not isinstance(value, Mapping) or set(value) != {"audio"}:
        keys = f"the keys {', '.join(map(str, value))}" if isinstance(value, Mapping) else f"a {type(value).__name__}"
        raise AudioError(f"{where}: its multimodal argument is {keys}; {form}.")
    listed = value["audio"]
    if isinstance(listed, Mapping):
        listed = [listed]
    if not isinstance(listed, Sequence) or isinstance(listed, (str, bytes)):
        raise AudioError(f"{where}: its audio is a {type(listed).__name__}; {form}.")
    if not listed:
        raise AudioError(
            f"{where}: the task has doc_to_audio, and this document has no audio; it is not scored from text instead."
        )
    refs = []
    for entry in listed:
        if not isinstance(entry, Mapping) or not {"path", "sha256"} <= set(entry):
            raise AudioError(f"{where}: one of its audios is a {type(entry).__name__} without path and sha256; {form}.")
        path, sha256 = entry["path"], entry["sha256"]
        if not isinstance(path, str) or not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise AudioError(
                f"{where}: an audio has path {path!r:.80} and sha256 {sha256!r:.80}; expected a path and 64 hexadecimal digits."
            )
        refs.append(AudioRef(path, sha256))
    return tuple(refs)


def read_ref(ref: AudioRef) -> AudioSegment:
    """The sound a reference names, digest checked. Raises ``AudioError`` where it is missing, damaged or another one."""
    audio = read_audio(ref.path)
    if sha256_of(audio) != ref.sha256 and file_sha256(ref.path) != ref.sha256:
        raise AudioError(
            f"{ref.path} is not the sound with the sha256 {ref.sha256[:12]}…: it was damaged or replaced. Delete it and render again."
        )
    return AudioSegment(audio, ref.sha256)


def split_at_markers(text: str, refs: Sequence[AudioRef], where: str) -> tuple[str | AudioRef, ...]:
    """A marked text as texts and references in turn; no text is empty.

    Raises ``AudioError`` where a marker has no reference, or a reference no marker.
    """
    by_digest = {ref.sha256: ref for ref in refs}
    pieces: list[str | AudioRef] = []
    # An odd number of pieces: text, digest, text, digest, …, text.
    for place, piece in enumerate(_MARKER.split(text)):
        if place % 2:
            if piece not in by_digest:
                raise AudioError(
                    f"{where}: its text has a marker for the sound {piece[:12]}…, and no such audio came with the request. Use a task "
                    "whose doc_to_audio gives the references of all sounds in the prompt, those of its few-shot examples too."
                )
            pieces.append(by_digest[piece])
        elif holds_marker(piece):
            raise AudioError(f"{where}: its text has an audio marker that was cut or damaged.")
        elif piece:
            pieces.append(piece)
    unheard = by_digest.keys() - {piece.sha256 for piece in pieces if isinstance(piece, AudioRef)}
    if unheard:
        raise AudioError(
            f"{where}: audio came with the request ({min(unheard)[:12]}…), and no marker in its text says where it is heard, so it would "
            "be answered from text alone. (Metrics that ask for options without their context, such as acc_mutual_info, do this.)"
        )
    return tuple(pieces)


def heard(pieces: Iterable[str | AudioRef], sounds: Mapping[str, AudioSegment]) -> tuple[Segment, ...]:
    """The pieces as a prompt; ``sounds`` by sha256."""
    return tuple(TextSegment(piece) if isinstance(piece, str) else sounds[piece.sha256] for piece in pieces)
