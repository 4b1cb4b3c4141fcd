"""Cutting documents: the student's text tokens are the teacher's, cuts fall at words, and chance is a function of its
seeds."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.errors import ModelError, UserInputError
from salad_train.speech.interleave import (
    Interleaved,
    InterleaveSpec,
    Span,
    WordRange,
    as_text,
    encode_document,
    interleave,
    lay_out,
    token_borders,
    word_borders,
)
from tests.helpers.speech_llm_world import Doc, tokenizer

WORDS = st.sampled_from(
    ["gold", "is", "Au,", "Paris.", "What", "symbol?", "12", "don't", "café", "naïve—so", "H2O", "...", "\u00a0x"]
)
GAPS = st.sampled_from([" ", " ", " ", "  ", "\n", "\n\n", " \n", "\t"])
TEXTS = st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=40).map(
    lambda parts: "".join(w + g for w, g in parts).rstrip()
)
RANGES = st.tuples(st.integers(1, 6), st.integers(0, 8)).map(lambda pair: WordRange(pair[0], sum(pair)))
SPECS = st.builds(InterleaveSpec, text=RANGES, speech=RANGES, speech_first=st.floats(0, 1), prefer=st.floats(0, 1))


def cut(text: str, spec: InterleaveSpec, *, seed: int = 0, epoch: int = 0, eos: bool = False) -> Interleaved:
    return interleave(Doc("d", "any", text), tokenizer(), spec, seed=seed, epoch=epoch, append_eos=eos)


@settings(max_examples=150, deadline=None)
@given(TEXTS, SPECS, st.integers(0, 99), st.booleans())
def test_spans_cover_the_document_and_keep_its_token_ids(text: str, spec: InterleaveSpec, seed: int, eos: bool) -> None:
    found = cut(text, spec, seed=seed, eos=eos)
    whole = tokenizer()(text)["input_ids"] + ([tokenizer().eos_token_id] if eos else [])
    assert list(found.ids) == whole
    assert "".join(span.text for span in found.spans) == text
    assert [span.token_start for span in found.spans] == [0, *(span.token_end for span in found.spans[:-1])]
    assert found.spans[-1].token_end == len(whole)
    for span in found.spans:
        alone = tokenizer()(span.text, add_special_tokens=False)["input_ids"]
        ids = whole[span.token_start : span.token_end]
        assert ids[: len(alone)] == alone
        assert ids[len(alone) :] in ([], [tokenizer().eos_token_id])
    for before, after in zip(found.spans, found.spans[1:], strict=False):
        assert before.modality != after.modality
        # a cut never falls within a word, and the space goes with the word after it
        assert not after.text or after.text[0].isspace()
        assert not before.text[-1].isspace()


@settings(max_examples=100, deadline=None)
@given(TEXTS, SPECS, st.integers(0, 99))
def test_only_a_last_span_of_text_is_shorter_than_asked_for(text: str, spec: InterleaveSpec, seed: int) -> None:
    found = cut(text, spec, seed=seed)
    for span in found.spans[:-1]:
        assert len(span.text.split()) >= (spec.speech if span.modality == "speech" else spec.text).low
    assert found.spans[-1].modality == "text"
    assert found.spans[-1].text.strip()


def test_spans_of_plain_words_keep_within_their_range() -> None:
    text = " ".join(["gold"] * 400)
    spec = InterleaveSpec(WordRange(10, 30), WordRange(5, 15))
    lengths: dict[str, list[int]] = {"text": [], "speech": []}
    for seed in range(20):
        for span in cut(text, spec, seed=seed).spans[:-1]:
            lengths[span.modality].append(len(span.text.split()))
    assert (min(lengths["text"]), max(lengths["text"])) == (10, 30)
    assert (min(lengths["speech"]), max(lengths["speech"])) == (5, 15)


def test_cuts_are_a_function_of_seed_document_and_epoch() -> None:
    text = " ".join(["gold is Au, Paris."] * 30)
    spec = InterleaveSpec(WordRange(2, 6), WordRange(2, 6))
    assert cut(text, spec, seed=1, epoch=2) == cut(text, spec, seed=1, epoch=2)
    others = {cut(text, spec, seed=s, epoch=e).spans for s in range(3) for e in range(3)}
    assert len(others) == 9
    other_document = interleave(Doc("e", "any", text), tokenizer(), spec, seed=1, epoch=2)
    assert other_document.spans != cut(text, spec, seed=1, epoch=2).spans


def test_stated_borders_may_be_kept_more_firmly_than_the_ends_of_sentences() -> None:
    text = "One two three four. Five six seven eight nine. Ten eleven twelve. Gold is Au."
    stated, ends = text.index(" seven"), {match.end() for match in re.finditer(r"[.]", text)}
    firm = InterleaveSpec(WordRange(1, 9), WordRange(1, 9), speech_first=0.0, prefer=0.0, prefer_stated=1.0)
    loose = InterleaveSpec(WordRange(1, 9), WordRange(1, 9), speech_first=0.0, prefer=1.0, prefer_stated=0.0)

    def first_cuts(spec: InterleaveSpec, preferred: list[int] | None) -> set[int]:
        found = [
            interleave(Doc("d", "any", text), tokenizer(), spec, seed=seed, epoch=0, preferred=preferred)
            for seed in range(12)
        ]
        return {len(one.spans[0].text) for one in found}

    assert first_cuts(firm, [stated]) == {stated}
    assert first_cuts(loose, None) <= ends
    assert len(first_cuts(firm, None) - ends) > 2
    assert len(first_cuts(loose, [stated])) > 2


def test_a_question_is_spoken_whole_where_its_borders_are_preferred() -> None:
    text = "Question: What is the symbol for gold?\nAnswer: Au"
    spec = InterleaveSpec(WordRange(1, 2), WordRange(3, 9), speech_first=0.0, prefer=1.0)
    spoken = {span.spoken_text for seed in range(20) for span in cut(text, spec, seed=seed).speech}
    assert "What is the symbol for gold?" in spoken
    assert all(said.startswith("What is") and said.endswith(("gold?", "Answer:")) for said in spoken)


def test_stated_borders_are_taken_where_they_are_in_reach() -> None:
    text = "one two three four five six seven eight nine ten"
    spec = InterleaveSpec(WordRange(1, 9), WordRange(1, 9), speech_first=0.0, prefer=1.0)
    border = text.index(" four")
    for seed in range(10):
        found = interleave(Doc("d", "any", text), tokenizer(), spec, seed=seed, epoch=0, preferred=[border])
        assert found.spans[0].text == "one two three"


@pytest.mark.parametrize("text", ["Gold", "Gold."])
def test_a_document_of_one_word_stays_text(text: str) -> None:
    found = cut(text, InterleaveSpec(WordRange(1, 3), WordRange(1, 3), speech_first=1.0))
    assert [span.modality for span in found.spans] == ["text"]


def test_a_short_document_is_cut_all_the_same() -> None:
    for seed in range(10):
        assert cut("The symbol for gold is Au.", InterleaveSpec(WordRange(2, 30), WordRange(2, 30)), seed=seed).speech


def test_a_border_inside_a_token_is_not_used() -> None:
    class Glued:
        """Every two words are one token, as in a tokenizer that merges over spaces."""

        is_fast = True
        eos_token_id = 0

        def __call__(self, text: str, **_: object) -> dict[str, list[object]]:
            import re

            pieces = list(re.finditer(r"\s*\S+(?:\s+\S+)?", text))
            return {
                "input_ids": [hash(p.group()) % 1000 for p in pieces],
                "offset_mapping": [p.span() for p in pieces],
                "special_tokens_mask": [0] * len(pieces),
            }

    text = "a b c d e f"
    encoded = encode_document(text, Glued())
    assert sorted(token_borders(encoded, word_borders(text))) == [text.index(" c"), text.index(" e")]
    found = interleave(
        Doc("d", "any", text), Glued(), InterleaveSpec(WordRange(1, 1), WordRange(1, 1)), seed=0, epoch=0
    )
    assert [span.text for span in found.spans] == ["a b", " c d", " e f"]


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match="fast tokenizer"):
        encode_document("a", Slow())


@pytest.mark.parametrize(("low", "high"), [(0, 3), (4, 3)])
def test_impossible_ranges_are_refused(low: int, high: int) -> None:
    with pytest.raises(UserInputError, match="low"):
        WordRange(low, high)


# --- positions -------------------------------------------------------------------------------------------------------


def test_positions_of_a_small_document_by_hand() -> None:
    """Tokens 10 11 | 12 13 (spoken, 3 positions) | 14 15."""
    spans = (Span("text", "x", 0, 2), Span("speech", "y", 2, 4), Span("text", "z", 4, 6))
    layout = lay_out(Interleaved("d", "any", (10, 11, 12, 13, 14, 15), spans), [3], audio_token_id=99)
    assert layout.input_ids.tolist() == [10, 11, 99, 99, 99, 14, 15]
    assert layout.targets.tolist() == [11, 14, 15]
    assert layout.student.tolist() == [0, 4, 5]
    assert layout.teacher.tolist() == [0, 3, 4]
    assert layout.after_speech.tolist() == [False, True, False]


def test_positions_of_a_document_that_begins_and_ends_with_speech() -> None:
    """Speech first: its tokens are no targets, and the first text token is predicted from the last audio position."""
    spans = (Span("speech", "x", 0, 2), Span("text", "y", 2, 4), Span("speech", "z", 4, 5), Span("text", "", 5, 6))
    layout = lay_out(Interleaved("d", "any", (10, 11, 12, 13, 14, 0), spans), [2, 1], audio_token_id=99)
    assert layout.input_ids.tolist() == [99, 99, 12, 13, 99, 0]
    assert layout.targets.tolist() == [12, 13, 0]
    assert layout.student.tolist() == [1, 2, 4]
    assert layout.teacher.tolist() == [1, 2, 4]
    assert layout.after_speech.tolist() == [True, False, True]


@settings(max_examples=60, deadline=None)
@given(TEXTS, SPECS, st.integers(0, 9), st.lists(st.integers(1, 9), min_size=60, max_size=60))
def test_every_text_token_but_the_first_is_scored_once_and_paired_with_its_teacher(
    text: str, spec: InterleaveSpec, seed: int, sizes: list[int]
) -> None:
    found = cut(text, spec, seed=seed, eos=True)
    layout = lay_out(found, sizes[: len(found.speech)], audio_token_id=-7)
    ids = np.array(found.ids)
    scored = layout.teacher + 1
    expected = [
        t for span in found.spans if span.modality == "text" for t in range(span.token_start, span.token_end) if t
    ]
    assert scored.tolist() == expected
    assert layout.targets.tolist() == ids[scored].tolist()
    # the student position after the one that predicts a target holds that very token
    assert layout.input_ids[layout.student + 1].tolist() == layout.targets.tolist()
    before = layout.input_ids[layout.student] == -7
    assert layout.after_speech.tolist() == before.tolist()


def test_a_document_without_speech_is_its_own_teacher() -> None:
    layout = lay_out(as_text(Doc("d", "any", "gold is Au"), tokenizer(), append_eos=True), [], audio_token_id=-7)
    assert layout.student.tolist() == layout.teacher.tolist() == list(range(len(layout.input_ids) - 1))


@pytest.mark.parametrize("positions", [[], [1, 1], [0]])
def test_recordings_must_match_the_speech_spans(positions: list[int]) -> None:
    spans = (Span("text", "x", 0, 1), Span("speech", "y", 1, 2))
    with pytest.raises(ModelError, match="speech spans"):
        lay_out(Interleaved("d", "any", (1, 2), spans), positions, audio_token_id=9)
