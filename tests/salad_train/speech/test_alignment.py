"""Forced alignment: the exact best path, borders of words from it, and the line from a sentence that is spoken to its word times."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from salad_eval.audio.sound import resample, write_audio
from salad_eval.errors import UserInputError
from salad_eval.types import Audio
from salad_train.speech.alignment import (
    AlignerPlan,
    Alignment,
    CTCAligner,
    SpelledWord,
    WordPeaks,
    sound_classes,
    spell,
    viterbi,
    with_word_times,
    word_edges,
)
from salad_train.speech.manifests import Recording, RecordingReject, TimedWord
from salad_train.speech.natural import NaturalSpeaker, stretch_of
from salad_train.speech.utterances import Utterance

RATE = 16_000
BLANK = 0


# --- the best path ---------------------------------------------------------------------------------------------------


def planted(labels: str, n_tokens: int = 4, sure: float = 0.9) -> np.ndarray:
    """Log-probabilities that favour one label a frame: ``-`` is the blank, ``a`` token 1, ``b`` token 2…"""
    wanted = [BLANK if c == "-" else ord(c) - ord("a") + 1 for c in labels]
    probs = np.full((len(labels), n_tokens + 1), (1 - sure) / n_tokens)
    probs[np.arange(len(labels)), wanted] = sure
    return np.log(probs)


PATHS: dict[str, tuple[str, list[int], list[int]]] = {
    "in a row": ("-ab-", [1, 2], [0, 1, 3, 4]),
    "blanks between": ("a--b", [1, 2], [1, 2, 2, 3]),
    "held": ("aabbb-", [1, 2], [1, 1, 3, 3, 3, 4]),
    "the same twice": ("a-a", [1, 1], [1, 2, 3]),
    "the same three times": ("-aa-a--aa", [1, 1, 1], [0, 1, 1, 2, 3, 4, 4, 5, 5]),
    "one frame": ("a", [1], [1]),
    "no token": ("---", [], [0, 0, 0]),
    "as many as fit": ("a-aba-a", [1, 1, 2, 1, 1], [1, 2, 3, 5, 7, 8, 9]),
}


@pytest.mark.parametrize("case", PATHS)
def test_a_planted_path_is_found(case: str) -> None:
    labels, tokens, expected = PATHS[case]
    path = viterbi(planted(labels), tokens, BLANK)
    assert path is not None
    assert path.tolist() == expected


@pytest.mark.parametrize(("labels", "tokens"), [("a", [1, 2]), ("aa", [1, 1]), ("ab", [1, 2, 3]), ("", [1]), ("", [])])
def test_tokens_that_do_not_fit_have_no_path(labels: str, tokens: list[int]) -> None:
    assert viterbi(planted(labels), tokens, BLANK) is None


def test_what_cannot_be_heard_has_no_path() -> None:
    log_probs = planted("aab")
    log_probs[:, 3] = -np.inf
    assert viterbi(log_probs, [1, 3], BLANK) is None


def all_paths(n_frames: int, tokens: Sequence[int]) -> list[tuple[int, ...]]:
    """Every CTC path of states, by the rules alone."""
    n_states = 2 * len(tokens) + 1
    labels = [tokens[s // 2] if s % 2 else BLANK for s in range(n_states)]

    def follows(a: int, b: int) -> bool:
        return b - a in (0, 1) or (b - a == 2 and labels[b] != BLANK and labels[a] != labels[b])

    return [
        path
        for path in itertools.product(range(n_states), repeat=n_frames)
        if path[0] < 2 and path[-1] >= n_states - 2 and all(follows(a, b) for a, b in itertools.pairwise(path))
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.lists(st.integers(1, 2), max_size=3), st.integers(0, 2**32 - 1))
def test_the_path_is_the_best_of_all(n_frames: int, tokens: list[int], seed: int) -> None:
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(3), size=n_frames))
    labels = [tokens[s // 2] if s % 2 else BLANK for s in range(2 * len(tokens) + 1)]

    def score(path: Sequence[int]) -> float:
        return math.fsum(log_probs[t, labels[state]] for t, state in enumerate(path))

    found, every = viterbi(log_probs, tokens, BLANK), all_paths(n_frames, tokens)
    if found is None:
        assert not every
    else:
        assert tuple(found.tolist()) in every
        assert score(found.tolist()) == pytest.approx(max(map(score, every)))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_a_path_goes_forward_through_all_tokens(n_frames: int, n_tokens: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 5, n_tokens).tolist()
    path = viterbi(np.log(rng.dirichlet(np.ones(5), size=n_frames)), tokens, BLANK)
    repeats = sum(a == b for a, b in itertools.pairwise(tokens))
    assert (path is None) == (n_frames < n_tokens + repeats)
    if path is not None:
        assert set(np.diff(path).tolist()) <= {0, 1, 2}
        assert set(path[path % 2 == 1].tolist()) == {2 * i + 1 for i in range(n_tokens)}


def test_memory_grows_with_the_root_of_the_length() -> None:
    import tracemalloc

    rng = np.random.default_rng(0)
    peaks = []
    for n in (1_000, 4_000):
        log_probs, tokens = np.log(rng.dirichlet(np.ones(5), size=n)), rng.integers(1, 5, 400).tolist()
        tracemalloc.start()
        assert viterbi(log_probs, tokens, BLANK) is not None
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.6 * peaks[0]
    assert peaks[1] < 0.4 * 4_000 * 801  # a table of moves alone would be a byte for each frame and state


# --- words -----------------------------------------------------------------------------------------------------------


@cache
def aligner() -> CTCAligner:
    return AlignerPlan("nano/asr", device="cpu").load()


class Characters:
    """A tokenizer like wav2vec 2.0's: upper-case letters, an apostrophe, and a mark between words."""

    letters = "_|'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    word_delimiter_token_id = 1
    unk_token_id = len(letters)
    all_special_ids = (0, word_delimiter_token_id, unk_token_id)

    def __len__(self) -> int:
        return self.unk_token_id + 1

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [(*self.letters, "<unk>")[i] for i in ids]

    def __call__(self, text: str, add_special_tokens: bool = True) -> Characters:
        found = Characters()
        found.input_ids = [i if (i := self.letters.find(c.replace(" ", "|"))) >= 0 else self.unk_token_id for c in text]
        return found

    input_ids: Sequence[int] = ()


def test_words_are_spelled_as_the_tokenizer_knows_them() -> None:
    tokenizer = Characters()

    def written(word: SpelledWord) -> str:
        return "".join(tokenizer.convert_ids_to_tokens(word.tokens))

    words = spell("Isn't it 5 — well-known?", tokenizer, 0)
    assert [written(word) for word in words] == ["ISN'T", "IT", "FIVE", "", "WELL|KNOWN"]
    assert [(word.start, word.end) for word in words] == [(0, 5), (6, 8), (9, 10), (11, 12), (13, 24)]


def test_marks_sound_like_nothing_and_case_makes_no_difference() -> None:
    model = aligner()
    tokenizer = model._tokenizer
    classes = sound_classes(tokenizer, model.blank, 384).of_token
    vocabulary = tokenizer.get_vocab()
    assert classes[model.blank] == classes[vocabulary["."]] == classes[vocabulary[";"]] == 0
    assert classes[vocabulary["▁H"]] == classes[vocabulary["▁h"]] != classes[vocabulary["h"]]
    assert classes[vocabulary["y."]] == classes[vocabulary["y"]] != 0
    assert classes[tokenizer.unk_token_id] not in np.delete(classes, tokenizer.unk_token_id)


def test_the_mark_between_words_of_character_models_sounds_like_nothing() -> None:
    classes = sound_classes(Characters(), 0, 32).of_token
    assert classes[:3].tolist() == [0, 0, classes[2]]
    assert (
        len(set(classes[2:].tolist())) == 30
    )  # letters, the apostrophe, the unknown token and what lies beyond, each alone
    assert 0 not in classes[2:]


def bursts(spans: Sequence[tuple[float, float]], seconds: float) -> Audio:
    """Noise in the spans, and near silence around."""
    rng = np.random.default_rng(1)
    samples = 1e-4 * rng.standard_normal(int(seconds * RATE))
    for start, end in spans:
        part = slice(int(start * RATE), int(end * RATE))
        samples[part] = 0.1 * rng.standard_normal(len(samples[part]))
    return Audio(samples.astype(np.float32), RATE)


EDGES: dict[str, tuple[list[tuple[float, float]], list[tuple[float, float]]]] = {
    "surest within the words": ([(0.3, 0.4), (0.9, 1.1)], [(0.2, 0.5), (0.8, 1.2)]),
    "surest in the pause before": ([(0.05, 0.3), (0.7, 0.9)], [(0.2, 0.5), (0.8, 1.2)]),
    "surest in the pause after": ([(0.3, 0.6), (1.0, 1.4)], [(0.2, 0.5), (0.8, 1.2)]),
    "a single token": ([(0.4, 0.4), (0.9, 0.9)], [(0.2, 0.5), (0.8, 1.2)]),
}


@pytest.mark.parametrize("case", EDGES)
def test_borders_are_where_the_pauses_are(case: str) -> None:
    peaks, expected = EDGES[case]
    found = word_edges([WordPeaks(*peak) for peak in peaks], bursts(expected, 1.6))
    assert np.abs(np.array(found) - np.array(expected)).max() < 0.03


def test_without_a_pause_the_border_is_where_it_is_quietest() -> None:
    rng = np.random.default_rng(2)
    loudness = 0.1 + 0.9 * np.abs(np.linspace(-1, 1, RATE))  # quietest in the middle, and no pause there
    audio = Audio((0.2 * loudness * rng.standard_normal(RATE)).astype(np.float32), RATE)
    first, second = word_edges([WordPeaks(0.2, 0.3), WordPeaks(0.7, 0.8)], audio)
    assert first[1] == second[0] == pytest.approx(0.5, abs=0.1)
    assert (first[0], second[1]) == (0.0, pytest.approx(1.0))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 2), min_size=2, max_size=10).filter(lambda times: len(times) % 2 == 0),
    st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), max_size=4),
)
@example([0.0, 2.0, 2.0, 2.0], [])  # a word at the very end of the sound
def test_words_stay_in_order_and_inside_the_sound(times: list[float], loud: list[tuple[float, float]]) -> None:
    times = sorted(times)
    peaks = [WordPeaks(a, b) for a, b in zip(times[::2], times[1::2], strict=True)]
    found = word_edges(peaks, bursts([(min(span), max(span)) for span in loud], 2.0))
    assert all(0 <= start < end <= 2.0 for start, end in found)
    assert [start for start, _ in found] == sorted(start for start, _ in found)


# --- a real model ----------------------------------------------------------------------------------------------------

SENTENCES = (
    "The capital of France is Paris.",
    "Grilling sausages calls for a barbecue.",
    "A dog barked at the old man.",
)


@cache
def spoken(sentence: str, gap: float = 0.15) -> tuple[Audio, tuple[tuple[float, float], ...]]:
    """A sentence made of words that were spoken one by one, with silence between, and when each word is said."""
    from salad_eval.tts.espeak import Pyttsx3TTS

    tts, rng = Pyttsx3TTS(), np.random.default_rng(0)
    pieces, truth, at = [np.zeros(int(gap * RATE))], [], gap
    for word in sentence.split():
        samples = resample(tts.speak(word, "en-us+f3"), RATE).samples
        loud = np.flatnonzero(np.abs(samples) > 0.005)
        samples = samples[loud[0] : loud[-1] + 1]
        truth.append((at, at + len(samples) / RATE))
        pieces += [samples, np.zeros(int(gap * RATE))]
        at = truth[-1][1] + gap
    joined = np.concatenate(pieces)
    return Audio((joined + 1e-4 * rng.standard_normal(len(joined))).astype(np.float32), RATE), tuple(truth)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_shipped_recogniser_finds_words_where_they_are(sentence: str) -> None:
    audio, truth = spoken(sentence)
    (found,) = aligner().align([audio], [sentence])
    assert found is not None
    assert [sentence[word.start_char : word.end_char] for word in found.words] == sentence.split()
    errors = np.abs(np.array([(word.start_s, word.end_s) for word in found.words]) - np.array(truth))
    assert errors.max() < 0.15
    assert np.median(errors) < 0.05


def test_a_text_that_is_not_what_is_said_has_no_confidence() -> None:
    audios = [spoken(sentence)[0] for sentence in SENTENCES]
    right = aligner().align(audios, SENTENCES)
    wrong = aligner().align(audios, [*SENTENCES[1:], SENTENCES[0]])
    threshold = AlignerPlan("nano/asr").min_confidence
    assert all(one is not None and one.confidence > threshold for one in right)
    assert all(one is None or one.confidence < 0.01 for one in wrong)


def test_long_sound_is_heard_in_windows_that_agree_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from salad_train.speech import alignment

    audio, truth = spoken(SENTENCES[0])
    text = " ".join([SENTENCES[0]] * 4)
    whole = Audio(np.tile(audio.samples, 4), RATE)
    monkeypatch.setattr(alignment, "WINDOW_SECONDS", 3.0)
    monkeypatch.setattr(alignment, "CONTEXT_SECONDS", 1.0)
    (emissions,) = aligner().emissions([whole])
    assert (np.diff(emissions.times) > 0).all()
    assert np.diff(emissions.times).max() < 0.09
    (found,) = aligner().align([whole], [text])
    assert found is not None
    expected = [(start + k * audio.seconds, end + k * audio.seconds) for k in range(4) for start, end in truth]
    errors = np.abs(np.array([(word.start_s, word.end_s) for word in found.words]) - np.array(expected))
    assert np.quantile(errors, 0.9) < 0.15


# --- recordings ------------------------------------------------------------------------------------------------------


class Planned:
    """An aligner whose findings are stated, and which counts what it is asked."""

    def __init__(self, found: dict[str, Alignment | None], name: str = "planned") -> None:
        self.found, self.name, self.asked = found, name, 0

    def fingerprint(self) -> str:
        return self.name

    def align(self, audios: Sequence[Audio], texts: Sequence[str]) -> list[Alignment | None]:
        self.asked += len(texts)
        return [self.found[text] for text in texts]


TIMES = (TimedWord(0, 3, 0.0, 0.4), TimedWord(4, 7, 0.6, 1.0))
FOUND = {
    "One two": Alignment(TIMES, (0.9, 0.8), 0.85),
    "Two one": Alignment(TIMES, (0.9, 0.001), 0.3),
    "Six six": Alignment(TIMES, (0.1, 0.1), 0.1),
    "Ten ten": None,
}
PLAN = AlignerPlan("unused", min_confidence=0.2, min_word_confidence=0.01)


def recordings(folder: Path) -> list[Recording]:
    write_audio(folder / "a.wav", bursts([(0.0, 0.4), (0.6, 1.0)], 1.2))
    made = [Recording(text, "", text, str(folder / "a.wav"), 0.0, 1.2) for text in FOUND]
    timed = Recording("timed", "", "One", str(folder / "a.wav"), 0.0, 1.2, (TimedWord(0, 3, 0.1, 0.2),))
    return [*made, timed, Recording("gone", "", "One two", str(folder / "b.wav"), 0.0, 1.2)]


def test_recordings_get_their_times_or_a_reason(tmp_path: Path) -> None:
    found = list(with_word_times(recordings(tmp_path), PLAN, aligner=Planned(FOUND)))
    assert [(type(one), one.id) for one in found[:2]] == [(Recording, "One two"), (Recording, "Two one")]
    assert isinstance(found[0], Recording)
    assert found[0].words == TIMES
    assert isinstance(found[1], Recording)
    assert found[1].words == TIMES[:1]  # the other word is too unsure
    reasons = [(one.id, one.reason) for one in found if isinstance(one, RecordingReject)]
    assert reasons == [("Six six", "low_confidence"), ("Ten ten", "words_do_not_match"), ("gone", "unreadable_audio")]
    assert found[4] == recordings(tmp_path)[4]


def test_what_was_aligned_is_not_aligned_again(tmp_path: Path) -> None:
    first, second, other = Planned(FOUND), Planned(FOUND), Planned(FOUND, "another")
    log = tmp_path / "log.jsonl"
    one = list(with_word_times(recordings(tmp_path), PLAN, log, aligner=first))
    assert list(with_word_times(recordings(tmp_path), PLAN, log, aligner=second)) == one
    assert (first.asked, second.asked) == (4, 0)
    assert list(with_word_times(recordings(tmp_path), PLAN, log, aligner=other)) == one
    assert other.asked == 4


def test_recordings_that_have_times_need_no_model() -> None:
    timed = Recording("x", "", "One", "nowhere.wav", 0.0, 1.0, (TimedWord(0, 3, 0.1, 0.2),))
    assert list(with_word_times([timed], AlignerPlan("no/such/model"))) == [timed]


@pytest.mark.parametrize("field", ["min_confidence", "min_word_confidence"])
def test_a_threshold_that_is_no_probability_is_refused(field: str) -> None:
    with pytest.raises(UserInputError, match=f"{field} is 2"):
        AlignerPlan(**{"pretrained": "x", field: 2.0})


def test_from_sound_to_the_sound_of_a_span(tmp_path: Path) -> None:
    """What Stage I asks for: an aligned recording speaks the words of a span and no others."""
    audio, truth = spoken(SENTENCES[0])
    write_audio(tmp_path / "a.wav", audio)
    plain = Recording("r", "", SENTENCES[0], str(tmp_path / "a.wav"), 0.0, audio.seconds)
    # Words spoken one by one are not what this model learnt: it is right about their place, and unsure of some.
    (timed,) = with_word_times([plain], AlignerPlan("nano/asr", device="cpu", min_word_confidence=0.0))
    assert isinstance(timed, Recording)
    start, end = SENTENCES[0].index("capital"), SENTENCES[0].index(" is")
    found = stretch_of(timed, start, end)
    assert found is not None
    assert found[0] == pytest.approx((truth[0][1] + truth[1][0]) / 2, abs=0.1)
    assert found[1] == pytest.approx((truth[3][1] + truth[4][0]) / 2, abs=0.1)
    (sound,) = NaturalSpeaker([timed]).speak([Utterance("r", SENTENCES[0][start:end], "any", start, end)])
    assert sound is not None
    heard = aligner().transcribe([sound])[0].lower()
    assert SequenceMatcher(None, heard, "capital of france").ratio() > SequenceMatcher(None, heard, "is paris").ratio()
