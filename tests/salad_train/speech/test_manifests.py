"""Manifests of natural speech: what is read of which format, what is left out and why, and which sound a span of text has."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad_eval.audio.sound import write_audio
from salad_eval.errors import DataError, UserInputError
from salad_eval.types import Audio
from salad_train.speech.manifests import (
    ManifestPlan,
    Recording,
    RecordingReject,
    TimedWord,
    iter_recordings,
    match_words,
    read_recordings,
)
from salad_train.speech.natural import NaturalSpeaker, stretch_of
from salad_train.speech.utterances import Utterance

RATE = 1000  # a sample a millisecond
TEXT = "One two, three four."
WORDS = [["one", 0.1, 0.3], ["two", 0.5, 0.7], ["three", 0.7, 1.0], ["four", 1.4, 1.8]]
SPANS = ((0, 3), (4, 7), (9, 14), (15, 19))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``a.wav``: two seconds whose samples say their own place."""
    write_audio(tmp_path / "a.wav", ramp(2.0))
    return tmp_path


def ramp(seconds: float) -> Audio:
    return Audio((np.arange(int(seconds * RATE)) / 32_768).astype(np.float32), RATE)


def places(audio: Audio | None) -> tuple[int, int]:
    """The first sample of a piece of the ramp and the one after its last."""
    assert audio is not None
    steps = np.rint(audio.samples * 32_768).astype(int)
    assert (np.diff(steps) == 1).all()
    return int(steps[0]), int(steps[-1]) + 1


def write(path: Path, rows: list[Any]) -> ManifestPlan:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return ManifestPlan(source=str(path))


def cut(of: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A cut as LibriHeavy's manifests hold them, from 0.5 s of the file on; ``of``: what its recording has otherwise."""
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    supervision = {
        "id": "sup", "recording_id": "rec", "start": 0.0, "duration": 1.2, "channel": 0, "language": "English", "speaker": "100",
        "custom": {"texts": ["Two, three four.", "TWO THREE FOUR"], "begin_byte": 1, "end_byte": 2},
    }  # fmt: skip
    return {
        "id": "small/100/chapter_0", "start": 0.5, "duration": 1.2, "channel": 0, "supervisions": [{**supervision, **changes}],
        "recording": {"id": "rec", "sources": [source], "sampling_rate": RATE, "num_samples": 2000, "duration": 2.0, **(of or {})},
        "type": "MonoCut",
    }  # fmt: skip


# --- formats ---------------------------------------------------------------------------------------------------------


def test_a_cut_of_libriheavy(folder: Path) -> None:
    found = read_recordings(write(folder / "cuts.jsonl.gz", [cut()]))
    assert found.recordings == (
        Recording("small/100/chapter_0", "", "Two, three four.", str(folder / "a.wav"), 0.5, 1.2, None, 0),
    )
    assert found.seconds == 1.2
    assert found.rejects == ()


def test_lhotse_alignments_count_as_their_supervision_does(folder: Path) -> None:
    words = {"word": [["TWO", 0.3, 0.1, 0.9], {"symbol": "THREE", "start": 0.5, "duration": 0.2}]}
    found = read_recordings(
        write(folder / "cuts.jsonl", [cut(start=0.2, duration=0.8, text="Two three", alignment=words)])
    )
    (one,) = found.recordings
    assert (one.start_s, one.duration_s) == (pytest.approx(0.7), pytest.approx(0.8))
    assert one.words is not None
    assert [(w.start_char, w.end_char) for w in one.words] == [(0, 3), (4, 9)]
    assert [(w.start_s, w.end_s) for w in one.words] == [
        (pytest.approx(0.1), pytest.approx(0.2)),
        (pytest.approx(0.3), pytest.approx(0.5)),
    ]


def test_a_cut_of_several_supervisions_is_several_recordings(folder: Path) -> None:
    table = cut(id="a", duration=0.4)
    table["supervisions"].append({**table["supervisions"][0], "id": "b", "start": 0.6})
    found = read_recordings(write(folder / "cuts.jsonl", [table]))
    assert [(one.id, one.start_s) for one in found.recordings] == [("a", 0.5), ("b", 1.1)]


def test_supervisions_find_their_recordings(folder: Path) -> None:
    recording = {"id": "rec", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}], "duration": 2.0}
    write(folder / "recordings.jsonl", [recording])
    plan = write(
        folder / "supervisions.jsonl",
        [
            {"id": "s1", "recording_id": "rec", "start": 0.25, "duration": 1.0, "channel": 0, "text": "One"},
            {"id": "s2", "recording_id": "gone", "start": 0.0, "duration": 1.0, "text": "One"},
        ],
    )
    found = read_recordings(
        ManifestPlan(source=plan.source, recordings=str(folder / "recordings.jsonl"), domain="books")
    )
    assert [(one.id, one.domain, one.start_s, one.duration_s) for one in found.recordings] == [
        ("s1", "books", 0.25, 1.0)
    ]
    assert [(reject.reason, reject.n) for reject in found.rejects] == [("dead_path", 1)]


ROWS: dict[str, dict[str, Any]] = {
    "emilia": {"id": "EN_B0_S0_W0", "wav": "a.wav", "text": TEXT, "duration": 2.0, "speaker": "s", "language": "en", "dnsmos": 3.3},
    "nemo": {"id": "EN_B0_S0_W0", "audio_filepath": "a.wav", "duration": 2.0, "offset": 0.0, "text": TEXT},
    "datasets": {"id": "EN_B0_S0_W0", "audio": {"path": "a.wav", "bytes": None}, "sentence": TEXT},
    "plain": {"id": "EN_B0_S0_W0", "audio": "a.wav", "transcript": TEXT},
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_of_several_makes_say_the_same(folder: Path, kind: str, suffix: str) -> None:
    path = folder / f"rows{suffix}"
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([ROWS[kind]]), path)
    else:
        write(path, [ROWS[kind]])
    found = read_recordings(ManifestPlan(source=str(path)))
    assert found.recordings == (Recording("EN_B0_S0_W0", "", TEXT, str(folder / "a.wav"), 0.0, 2.0),)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_with_word_times_and_fields_by_other_names(folder: Path, suffix: str) -> None:
    path = folder / f"rows{suffix}"
    words = [{"word": word, "start": start, "end": end} for word, start, end in WORDS]
    row = {"sound": "a.wav", "said": TEXT, "show": "radio", "words": words}
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        write(path, [row])
    (one,) = read_recordings(
        ManifestPlan(source=str(path), audio_field="sound", text_field="said", domain_field="show")
    ).recordings
    assert (one.id, one.domain) == ("rows:1", "radio")
    assert one.words == tuple(TimedWord(*span, *word[1:]) for span, word in zip(SPANS, WORDS, strict=True))


def test_paths_begin_in_the_root_that_is_stated(folder: Path) -> None:
    (folder / "lists").mkdir()
    plan = write(folder / "lists" / "rows.jsonl", [{"audio": "a.wav", "text": "One"}])
    with pytest.raises(DataError, match="1 dead_path"):
        read_recordings(plan)
    (one,) = read_recordings(ManifestPlan(source=plan.source, audio_root=str(folder))).recordings
    assert one.audio == str(folder / "a.wav")


# --- what is left out ------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[Any, str]] = {
    "not JSON": ("{", "malformed"),
    "no object": ("[1]", "malformed"),
    "no text": ({"audio": "a.wav"}, "no_text"),
    "a text of marks": ({"audio": "a.wav", "text": "…?"}, "no_text"),
    "no path": ({"text": "One"}, "dead_path"),
    "a path longer than any": ({"audio": "b" * 5000, "text": "One"}, "dead_path"),
    "half a surrogate pair": ({"audio": "a.wav", "text": "One", "id": "\ud800"}, "malformed"),
    "half a pair in the text": ({"audio": "a.wav", "text": "One \ud800"}, "malformed"),
    "a dead path": ({"audio": "b.wav", "text": "One"}, "dead_path"),
    "no sound in the file": ({"audio": "text.wav", "text": "One"}, "unreadable_audio"),
    "beyond the end": ({"audio": "a.wav", "text": "One", "start": 1.5, "duration": 1.0}, "beyond_audio"),
    "before the start": ({"audio": "a.wav", "text": "One", "start": -1}, "beyond_audio"),
    "no duration": ({"audio": "a.wav", "text": "One", "duration": 0}, "beyond_audio"),
    "a time that is text": ({"audio": "a.wav", "text": "One", "duration": "2"}, "malformed"),
    "a time that is no number": ('{"audio": "a.wav", "text": "One", "duration": NaN}', "malformed"),
    "a word without times": ({"audio": "a.wav", "text": "One", "words": [["one", 0.1]]}, "malformed"),
    "times go backwards": ({"audio": "a.wav", "text": "One two", "words": [["one", 1.0, 1.2], ["two", 0.5, 1.5]]}, "times_go_backwards"),
    "an end before its start": ({"audio": "a.wav", "text": "One", "words": [["one", 1.0, 0.9]]}, "times_go_backwards"),
    "words after the sound": ({"audio": "a.wav", "text": "One", "words": [["one", 1.0, 2.5]]}, "shorter_than_words"),
    "other words": ({"audio": "a.wav", "text": "One two", "words": [["one", 0.0, 1.0], ["three", 1.0, 1.5]]}, "words_do_not_match"),
    "words missing": ({"audio": "a.wav", "text": "One two", "words": [["one", 0.0, 1.0]]}, "words_do_not_match"),
    "a number said": ({"audio": "a.wav", "text": "1", "words": [["one", 0.0, 1.0]]}, "words_do_not_match"),
    "a mixed cut": ({"id": "x", "tracks": [], "type": "MixedCut"}, "unsupported"),
    "a command as source": (
        {"supervisions": [{"text": "One"}], "recording": {"sources": [{"type": "command", "source": "sox"}]}},
        "unsupported",
    ),
    "a cut of a recording at another speed": (
        cut(of={"transforms": [{"name": "Speed", "kwargs": {"factor": 1.1}}], "duration": 1.818, "num_samples": 1818}),
        "unsupported",
    ),
    "a cut of a recording at another loudness": (cut(of={"transforms": [{"name": "Volume", "kwargs": {"factor": 2}}]}), "unsupported"),
    "a cut of a recording that is longer than its file": (cut(of={"duration": 3.0, "num_samples": 3000}), "duration_differs"),
    "a cut of a recording that is shorter than its file": (cut(of={"duration": 1.75, "num_samples": 1750}), "duration_differs"),
    "a file of another length": ({"audio": "a.wav", "text": "One", "duration": 1.5}, "duration_differs"),
    "no supervision": ({"supervisions": [], "recording": {}}, "no_text"),
    "the same id": ({"id": "good", "audio": "a.wav", "text": "One"}, "duplicate_id"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_counted_with_its_reason_and_harms_no_other(folder: Path, case: str) -> None:
    row, reason = BAD[case]
    (folder / "text.wav").write_text("no sound")
    good = {"id": "good", "audio": "a.wav", "text": "One"}
    found = read_recordings(write(folder / "rows.jsonl", [good, row]))
    assert [one.id for one in found.recordings] == ["good"]
    assert [(reject.reason, reject.n) for reject in found.rejects] == [(reason, 1)]


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"transforms": [{"name": "Speed", "kwargs": {"factor": 0.9}}]}, "unsupported", "Speed"),
        ({"duration": 9.0}, "duration_differs", "9.00 s by the manifest, 2.00 s in"),
        ({"sources": []}, "unsupported", "of none"),
        ({"transforms": []}, None, ""),
        ({"transforms": None, "duration": 2.05}, None, ""),
    ],
)
def test_supervisions_of_a_recording_that_cannot_be_heard_as_it_is(
    folder: Path, changes: dict[str, Any], reason: str | None, detail: str
) -> None:
    recording = {"id": "rec", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}], "duration": 2.0}
    write(folder / "recordings.jsonl", [{**recording, **changes}])
    rows = [{"id": "s1", "recording_id": "rec", "start": 0.25, "duration": 1.0, "text": "One"}]
    plan = write(folder / "supervisions.jsonl", rows)
    plan = ManifestPlan(source=plan.source, recordings=str(folder / "recordings.jsonl"))
    (found,) = iter_recordings(plan)
    if reason is None:
        assert isinstance(found, Recording)
    else:
        assert isinstance(found, RecordingReject)
        assert (found.reason, detail in found.detail) == (reason, True)


def test_a_stretch_says_nothing_of_the_files_length(folder: Path) -> None:
    row = {"audio": "a.wav", "text": "One", "offset": 0.0, "duration": 1.5}
    (one,) = read_recordings(write(folder / "rows.jsonl", [row])).recordings
    assert (one.start_s, one.duration_s) == (0.0, 1.5)


def test_rounded_times_are_forgiven(folder: Path) -> None:
    row = {"audio": "a.wav", "text": "One", "duration": 2.04, "words": [["one", 1.0, 2.05]]}
    (one,) = read_recordings(write(folder / "rows.jsonl", [row])).recordings
    assert one.duration_s == 2.0
    assert one.words == (TimedWord(0, 3, 1.0, 2.0),)


def test_nothing_left_says_what_there_was(folder: Path) -> None:
    message = r"none of 2 recordings can be used: 1 no_text .*; 1 dead_path \(such as rows:2 \(.*b\.wav\)\)"
    with pytest.raises(DataError, match=message):
        read_recordings(write(folder / "rows.jsonl", [{"audio": "a.wav"}, {"audio": "b.wav", "text": "One"}]))
    with pytest.raises(DataError, match="holds no recordings"):
        read_recordings(write(folder / "rows.jsonl", []))


def test_a_source_that_is_not_set_or_not_there_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(
        UserInputError, match=r"natural\.recordings\.x\.source is not set.*--set natural\.recordings\.x\.source="
    ):
        read_recordings(ManifestPlan(), "natural.recordings.x")
    with pytest.raises(DataError, match=r"natural\.recordings\.x\.source: source .* does not exist"):
        read_recordings(ManifestPlan(source=str(tmp_path / "gone.jsonl")), "natural.recordings.x")


def test_reading_is_lazy_and_stops_where_it_is_told_to(folder: Path) -> None:
    rows = [{"id": str(k), "audio": "a.wav", "text": "One"} for k in range(3)]
    plan = write(folder / "rows.jsonl.gz", rows)
    data = (folder / "rows.jsonl.gz").read_bytes()
    (folder / "rows.jsonl.gz").write_bytes(data[:-8])  # the end is missing: an error where it is reached, not before
    first = next(iter(iter_recordings(plan)))
    assert isinstance(first, Recording)
    assert first.id == "0"
    limited = ManifestPlan(source=plan.source, max_recordings=2)
    assert [one.id for one in read_recordings(limited).recordings] == ["0", "1"]
    with pytest.raises(DataError, match="damaged"):
        read_recordings(plan)


def test_long_ones_are_left_out_on_demand(folder: Path) -> None:
    rows = [{"audio": "a.wav", "text": "One", "offset": 0.0, "duration": 0.5}, {"audio": "a.wav", "text": "One"}]
    plan = write(folder / "rows.jsonl", rows)
    found = read_recordings(ManifestPlan(source=plan.source, max_seconds=1.0))
    assert (len(found.recordings), [reject.reason for reject in found.rejects]) == (1, ["too_long"])


def test_the_fingerprint_is_of_what_is_read(folder: Path) -> None:
    rows = [{"id": "x", "audio": "a.wav", "text": "One"}]
    one = read_recordings(write(folder / "a.jsonl", rows)).fingerprint
    assert read_recordings(write(folder / "b.jsonl.gz", rows)).fingerprint == one
    assert read_recordings(write(folder / "c.jsonl", [{**rows[0], "text": "two"}])).fingerprint != one


# --- words in a text -------------------------------------------------------------------------------------------------

MATCHES: list[tuple[str, list[str], list[str | None] | None]] = [
    ("One two.", ["ONE", "TWO"], ["One", "two"]),
    ("Well-known, isn't it?", ["WELL", "KNOWN", "ISN'T", "IT"], ["Well", "known", "isn't", "it"]),
    ("Well-known", ["wellknown"], ["Well-known"]),
    ("“Naïve” — yes", ["naive", "<eps>", "", "[noise]", "Yes!"], ["Naïve", None, None, None, "yes"]),
    ("One two", ["one", "too"], None),
    ("One two", ["one"], None),
    ("One", ["one", "two"], None),
    ("", [], []),
]


@pytest.mark.parametrize(("text", "words", "expected"), MATCHES)
def test_words_are_found_in_their_text(text: str, words: list[str], expected: list[str | None] | None) -> None:
    found = match_words(text, words)
    assert (found if found is None else [span and text[slice(*span)] for span in found]) == expected


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5), max_size=6))
def test_a_text_s_own_words_always_match_it(words: list[str]) -> None:
    words = [word for word in words if not word.startswith(("<", "["))]
    text = " ".join(words)
    found = match_words(text, words)
    assert found is not None
    ends = [0, *(span[1] for span in found if span)]
    assert ends == sorted(ends)
    assert all(span is None or span[0] < span[1] <= len(text) for span in found)


# --- sound of spans --------------------------------------------------------------------------------------------------


def recording(path: str = "a.wav", **changes: Any) -> Recording:
    words = tuple(TimedWord(*span, *word[1:]) for span, word in zip(SPANS, WORDS, strict=True))
    stated = {"id": "r", "domain": "", "text": TEXT, "audio": path, "start_s": 0.1, "duration_s": 1.9, "words": words}
    return Recording(**{**stated, **changes})


STRETCHES: dict[str, tuple[str, tuple[float, float] | None]] = {
    "the first": ("One", (0.05, 0.4)),
    "in the middle": (" two, three", (0.4, 1.2)),
    "no pause between": (" two,", (0.4, 0.7)),
    "the last": (" four.", (1.2, 1.85)),
    "all": (TEXT, (0.05, 1.85)),
    "part of a word": ("One tw", None),
    "marks alone": (",", None),
}


@pytest.mark.parametrize("case", STRETCHES)
def test_a_span_is_cut_halfway_into_the_pauses(case: str) -> None:
    span, expected = STRETCHES[case]
    start = TEXT.index(span)
    found = stretch_of(recording(), start, start + len(span))
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found == (pytest.approx(0.1 + expected[0]), pytest.approx(0.1 + expected[1]))


def test_a_span_with_a_word_without_times_has_no_sound_and_its_neighbours_end_where_they_are_known_to() -> None:
    words = recording().words
    assert words is not None
    without_two = recording(words=(words[0], *words[2:]))
    assert stretch_of(without_two, 0, 7) is None
    assert stretch_of(without_two, 3, 7) is None
    assert stretch_of(without_two, 0, 3) == (pytest.approx(0.15), pytest.approx(0.4))
    assert stretch_of(without_two, 8, 19) == (pytest.approx(0.8), pytest.approx(1.95))
    assert stretch_of(recording(words=None), 0, 3) is None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
def test_spans_that_cover_a_text_cover_its_recording_once(inner: list[int]) -> None:
    one = recording()
    edges = sorted({0, *(SPANS[k][1] for k in inner if k < 3), len(TEXT)})
    found = [stretch_of(one, a, b) for a, b in itertools.pairwise(edges)]
    assert None not in found
    joined = [piece for piece in found if piece is not None]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(joined))


def test_pauses_are_where_a_recording_would_like_to_be_cut() -> None:
    assert [TEXT[:border] for border in recording().borders] == ["One", "One two, three"]
    assert recording(words=None).borders == ()


def test_the_speaker_plays_the_stretch_and_reads_no_more(folder: Path) -> None:
    speaker = NaturalSpeaker([recording(str(folder / "a.wav"))])
    spans = [Utterance("r", "", "any", 0, 3), Utterance("r", "", "any", 3, 14), Utterance("r", "", "other", 3, 14)]
    sounds = list(speaker.speak(spans))
    assert [places(sound) for sound in sounds] == [(150, 500), (500, 1300), (500, 1300)]
    assert all(sound is not None and sound.sample_rate_hz == RATE for sound in sounds)
    keys = [speaker.key(span) for span in spans]
    assert keys[1] == keys[2]  # whoever is asked for, it is the recording that speaks
    assert keys[0] != keys[1]
    assert speaker.key(Utterance("r", "", "any", 0, 2)) != speaker.key(Utterance("r", "", "any", 0, 1))
    assert list(speaker.speak([Utterance("r", "", "any", 0, 2)])) == [None]


def test_a_file_that_went_away_is_no_sound_and_an_unknown_id_an_error(folder: Path) -> None:
    speaker = NaturalSpeaker([recording(str(folder / "a.wav"))])
    (folder / "a.wav").unlink()
    assert list(speaker.speak([Utterance("r", "", "any", 0, 3)])) == [None]
    with pytest.raises(DataError, match="no recording has the id 'q'"):
        speaker.key(Utterance("q", "", "any", 0, 3))


@pytest.mark.parametrize(("channel", "expected"), [(None, 0.0), (0, 0.25), (1, -0.25), (5, 0.0)])
def test_the_stated_channel_is_heard(tmp_path: Path, channel: int | None, expected: float) -> None:
    import soundfile

    samples = np.stack([np.full(2000, 0.25), np.full(2000, -0.25)], axis=1)
    soundfile.write(tmp_path / "a.flac", samples, RATE)
    (sound,) = NaturalSpeaker([recording(str(tmp_path / "a.flac"), channel=channel)]).speak(
        [Utterance("r", "", "any", 0, 3)]
    )
    assert sound is not None
    assert np.allclose(sound.samples, expected, atol=1e-3)
