"""From item to prompt to response: three input forms, no leaks, no silence taken for speech, and a cascade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad_eval.benchmarks.requests import GenerationProtocol, build_request, build_requests, check_leak
from salad_eval.errors import AudioError, LeakError, ModelError, UnknownNameError, UserInputError
from salad_eval.pipeline.respond import Query, respond
from salad_eval.pipeline.speech import Question, hand_over
from salad_eval.systems.cascade import CascadeSystem
from salad_eval.types import (
    Alternative,
    Audio,
    AudioSegment,
    Distributional,
    Item,
    Rendering,
    Request,
    SpokenPart,
    System,
    TextSegment,
    Transcript,
    Turn,
)  # fmt: skip

CONTEXT = "Question: Which metal is in our bones?\nAnswer:"
QUESTION = SpokenPart("question", 10, 38)


def make_item(context: str = CONTEXT, parts: tuple[SpokenPart, ...] = (QUESTION,)) -> Item:
    return Item("item-1", "t", "test", "d", context, ("iron", "calcium"), 1, "g", parts)


def sound(name: str) -> AudioSegment:
    return AudioSegment(Audio(np.full(8, len(name) / 100, dtype=np.float32), 16_000), name)


class CountingSystem:
    """A system whose answers are a function of the prompt: enough to see what was asked, of whom, and when."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def fingerprint(self) -> str:
        return "counting"

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        self.batches.append(len(requests))
        return [tuple(-float(len(request.text) + len(c)) for c in request.continuations) for request in requests]

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
        self.batches.append(len(requests))
        return [f"{request.text}|{max_new_tokens}|{','.join(stop)}" for request in requests]


class NamedSounds:
    """An ASR for which each waveform has one transcript."""

    def __init__(self, heard: dict[int, str]) -> None:
        self.heard, self.calls = heard, []

    def fingerprint(self) -> str:
        return "named"

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        self.calls.append(len(audios))
        return [self.heard[round(float(audio.samples[0]) * 100)] for audio in audios]


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_the_part_is_what_the_test_says_it_is():
    assert make_item().part_text(QUESTION) == "Which metal is in our bones?"


def test_three_forms_of_one_item():
    item, heard = make_item(), sound("q")
    assert build_request(item, "text").prompt == (TextSegment(CONTEXT),)
    transcript = build_request(item, "transcript", transcripts={"question": " witch metal is in hour bones "})
    assert transcript.prompt == (TextSegment("Question: witch metal is in hour bones\nAnswer:"),)
    speech = build_request(item, "speech", audio={"question": heard})
    assert speech.prompt == (TextSegment("Question: "), heard, TextSegment("\nAnswer:"))
    for request in (build_request(item, "text"), transcript, speech):
        assert request.item_id == "item-1"
        assert request.continuations == (" iron", " calcium")


def test_several_parts_in_any_order_and_at_the_borders():
    context = "Say this first. Then that second thing."
    parts = (SpokenPart("b", 16, 39), SpokenPart("a", 0, 15))
    one, two = sound("a"), sound("bb")
    request = build_request(make_item(context, parts), "speech", audio={"a": one, "b": two})
    assert request.prompt == (one, TextSegment(" "), two)


def test_messages_are_segments_of_their_own_and_plain_form_has_their_delimiters():
    context = "Be brief.\n\nQ: red? A: yes\n\nQ: the moon? So"
    turns = (
        Turn("system", 0, 11),
        Turn("user", 11, 18),
        Turn("assistant", 19, 25),
        Turn("user", 27, 39),
        Turn("assistant", 40, 42),
    )
    item = replace(make_item(context, (SpokenPart("q", 30, 38),)), turns=turns)
    (written,) = build_requests(item, "text")
    assert written.text == context
    assert written.prompt == (
        TextSegment("Be brief.\n\n", "system"), TextSegment("Q: red?"), TextSegment(" ", None), TextSegment("A: yes", "assistant"),
        TextSegment("\n\n", None), TextSegment("Q: the moon?"), TextSegment(" ", None), TextSegment("So", "assistant"),
    )  # fmt: skip
    moon = sound("q")
    (heard,) = build_requests(item, "speech", audio={"q": moon})
    assert heard.prompt[5:8] == (TextSegment("Q: "), moon, TextSegment("?"))
    (transcript,) = build_requests(item, "transcript", transcripts={"q": "a moon"})
    assert transcript.prompt[5:7] == (TextSegment("Q: a moon?"), TextSegment(" ", None))
    assert (written.continuations, written.target_delimiter) == ((" iron", " calcium"), " ")


def test_an_item_with_alternatives_is_one_prompt_for_each():
    context = "Shot.\n\nThe cup was tall so the cupThe cup was tall so the shelf"
    spans = (Alternative(7, 34), Alternative(34, 63))
    parts = tuple(SpokenPart(f"context{k}", one.start, one.end) for k, one in enumerate(spans))
    item = replace(make_item(context, parts), alternatives=spans, ending="fell.")
    prompts = ["Shot.\n\nThe cup was tall so the cup", "Shot.\n\nThe cup was tall so the shelf"]
    assert [request.text for request in build_requests(item, "text")] == prompts
    assert {request.continuations for request in build_requests(item, "text")} == {(" fell.",)}
    sounds = {part.name: sound(part.name) for part in parts}
    heard = build_requests(item, "speech", audio=sounds)
    assert [request.prompt for request in heard] == [(TextSegment("Shot.\n\n"), sounds[part.name]) for part in parts]
    with pytest.raises(UserInputError, match="has 2 prompts"):
        build_request(item, "text")
    (response,) = respond(CountingSystem(), [Query(build_requests(item, "text"))], "base_text", "ll")
    assert response.choice_logprobs == tuple(-float(len(prompt) + 6) for prompt in prompts)
    with pytest.raises(ModelError, match="several prompts"):
        list(respond(CountingSystem(), [Query(build_requests(item, "text"))], "base_text", "generate"))


@given(st.text(max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_transcripts_equal_to_the_text_give_the_text(context, cuts):
    places = sorted({min(cut, len(context)) for cut in cuts})
    spans = [
        (a, b) for a, b in zip(places[::2], places[1::2], strict=False) if context[a:b].strip() == context[a:b] != ""
    ]
    parts = tuple(SpokenPart(f"p{i}", a, b) for i, (a, b) in enumerate(spans))
    item = make_item(context, parts)
    if parts:
        spoken = build_request(item, "transcript", transcripts={part.name: item.part_text(part) for part in parts})
        assert spoken.text == context


@pytest.mark.parametrize("form", ["speech", "transcript"])
@pytest.mark.parametrize("given_parts", [None, {}, {"other": "x"}])
def test_a_part_without_its_audio_is_never_scored_from_text(form, given_parts):
    with pytest.raises(AudioError, match=r"item-1.*'question'"):
        build_request(make_item(), form, audio=given_parts, transcripts=given_parts)
    with pytest.raises(AudioError, match="no spoken part"):
        build_request(make_item(parts=()), form, audio={}, transcripts={})


@pytest.mark.parametrize(
    "parts",
    [
        (SpokenPart("a", 5, 5),),
        (SpokenPart("a", 5, 999),),
        (SpokenPart("a", -1, 5),),
        (SpokenPart("a", 0, 10), SpokenPart("b", 9, 12)),
    ],
)
def test_parts_that_are_no_spans_of_the_context_are_refused(parts):
    with pytest.raises(UserInputError, match="item-1"):
        build_request(make_item(parts=parts), "speech", audio={"a": sound("a"), "b": sound("b")})


# --- leaks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "written", "spoken", "leaks"),
    [
        (("Question: ", "\nAnswer:"), "Which metal is in bones?", "", False),
        (("Which metal is in bones? ", "\nAnswer:"), "Which metal is in bones?", "", True),
        (("Question: ", " (which METAL, is in  bones)\nAnswer:"), "Which metal is in bones?", "", True),
        (("It costs five dollars exactly. ",), "It costs $5 exactly.", "It costs five dollars exactly.", True),
        (("It costs $5 exactly. ",), "It costs $5 exactly.", "It costs five dollars exactly.", True),
        (("Which metal is in bones of fish? ",), "Which metal is in bones?", "", True),
        (("Switch metal is in bonesaws ",), "Which metal is in bones?", "", False),  # whole words only
        (("Which metal ", "is in bones?"), "Which metal is in bones?", "", False),  # apart, around the audio
        # under three words: only a whole text segment counts
        (("Is calcium a metal? ", "\nAnswer:"), "calcium", "", False),
        (("Calcium.", "\nAnswer:"), "calcium", "", True),
        (("The Moon", "\nAnswer:"), "the moon", "", True),
        (("By the moon", "\nAnswer:"), "the moon", "", False),
        (
            ("e\u0301t\u00e9 \u00e9t\u00e9 \u00e9t\u00e9",),
            "\u00e9t\u00e9 \u00e9t\u00e9 e\u0301t\u00e9",
            "",
            True,
        ),  # one Unicode form
        (("\u7389",), "...", "", False),  # nothing to compare
    ],
)
def test_text_that_gives_the_speech_away_is_refused(texts, written, spoken, leaks):
    segments = [TextSegment(texts[0]), sound("q"), *(TextSegment(text) for text in texts[1:])]
    request = Request("item-1", tuple(segments))
    if leaks:
        with pytest.raises(LeakError, match=r"item-1.*'question'"):
            check_leak(request, {"question": (written, spoken)})
    else:
        check_leak(request, {"question": (written, spoken)})


def test_building_a_speech_prompt_checks_it():
    context = CONTEXT + " (Which metal is in our bones?)"
    with pytest.raises(LeakError):
        build_request(make_item(context), "speech", audio={"question": sound("q")})
    said = {"question": "which metal lies within us"}
    context = CONTEXT + " which metal lies within us"
    with pytest.raises(LeakError, match="which metal lies within us"):
        build_request(make_item(context), "speech", audio={"question": sound("q")}, spoken_texts=said)


# --- responses -------------------------------------------------------------------------------------------------------


def queries(n: int, *, audio: bool = False) -> list[Query]:
    prompt = (TextSegment("x"), sound("q")) if audio else (TextSegment("x"),)
    return [
        Query((Request(f"i{k}", prompt, (" a", " bcd")),), "en" if audio else None, "clean" if audio else None)
        for k in range(n)
    ]


def test_one_response_a_query_in_order_with_who_and_how():
    responses = list(respond(CountingSystem(), queries(5, audio=True), "adapted_speech", "ll", chunk=2))
    assert [r.item_id for r in responses] == ["i0", "i1", "i2", "i3", "i4"]
    assert {(r.column, r.input_form, r.voice, r.perturbation, r.text) for r in responses} == {
        ("adapted_speech", "speech", "en", "clean", None)
    }
    assert {r.choice_logprobs for r in responses} == {(-3.0, -5.0)}
    written = next(respond(CountingSystem(), queries(1), "base_text", "ll_norm"))
    assert (written.voice, written.perturbation, written.input_form) == (None, None, "text")


def test_mutual_information_asks_for_the_options_by_themselves_once():
    asked: list[Request] = []

    class Noting(CountingSystem):
        def loglikelihoods(self, requests):
            asked.extend(requests)
            return super().loglikelihoods(requests)

    spoken = list(respond(Noting(), queries(3, audio=True), "adapted_speech", "ll_mutual_info"))
    assert {r.choice_logprobs for r in spoken} == {(-3.0, -5.0, -2.0, -4.0)}
    assert [len(request.prompt) for request in asked] == [2, 2, 2, 0]


def test_queries_are_taken_a_chunk_at_a_time_as_responses_are_used():
    taken = []

    def source():
        for query in queries(10):
            taken.append(query.item_id)
            yield query

    system = CountingSystem()
    stream = respond(system, source(), "base_text", "ll", chunk=4)
    assert (taken, system.batches) == ([], [])
    next(stream)
    assert (len(taken), system.batches) == (4, [4])
    assert len(list(stream)) == 9
    assert system.batches == [4, 4, 2]


def test_a_run_that_is_resumed_gives_the_rest():
    whole = list(respond(CountingSystem(), queries(7), "base_text", "ll", chunk=3))
    kept = whole[:4]
    done = {response.item_id for response in kept}
    rest = [query for query in queries(7) if query.item_id not in done]
    assert kept + list(respond(CountingSystem(), rest, "base_text", "ll", chunk=3)) == whole


def test_generation_passes_the_protocol_on():
    protocol = GenerationProtocol(max_new_tokens=9, stop=("\n", "Q:"))
    (response,) = respond(CountingSystem(), queries(1), "base_text", "generate", generation=protocol)
    assert response.text == "x|9|\n,Q:"
    assert response.choice_logprobs is None
    (default,) = respond(CountingSystem(), queries(1), "base_text", "generate")
    assert default.text == "x|256|"  # nothing is cut: an answer may stand after lines of reasoning
    for bad in ({"max_new_tokens": 0}, {"stop": ("",)}):
        with pytest.raises(UserInputError, match="generation"):
            GenerationProtocol(**bad)


@pytest.mark.parametrize("score", ["ll", "generate"])
def test_columns_get_what_they_are_named_for(score):
    with pytest.raises(ModelError, match="no audio"):
        list(respond(CountingSystem(), queries(1), "adapted_speech", score))
    for column in ("base_text", "adapted_text"):
        with pytest.raises(ModelError, match="holds audio"):
            list(respond(CountingSystem(), queries(1, audio=True), column, score))
    assert len(list(respond(CountingSystem(), queries(1, audio=True), "base_transcript", score))) == 1


@pytest.mark.parametrize(
    "answer", [lambda requests: [], lambda requests: [(-1.0,)] * len(requests), lambda requests: [(-1.0, -2.0)] * 9]
)
def test_answers_of_the_wrong_shape_are_an_error(answer):
    system = CountingSystem()
    system.loglikelihoods = answer
    with pytest.raises(ModelError, match="counting gave"):
        list(respond(system, queries(2), "base_text", "ll"))


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_log_probabilities_that_are_not_finite_are_left_out(bad):
    system = CountingSystem()
    system.loglikelihoods = lambda requests: [(-1.0, bad)] * len(requests)
    (response,) = respond(system, queries(1), "base_text", "ll")
    assert response.choice_logprobs is None
    assert response.text is None


# --- the cascade -----------------------------------------------------------------------------------------------------


def test_the_cascade_reads_what_its_asr_wrote():
    asr, text = NamedSounds({1: " first ", 2: ""}), CountingSystem()
    cascade = CascadeSystem(asr, text)
    assert isinstance(cascade, System)
    one, two = sound("a"), sound("bb")
    requests = [
        Request("i", (TextSegment("Question: "), one, TextSegment("\nAnswer:")), (" a",)),
        Request("j", (one, TextSegment(" "), two)),
        Request("k", (TextSegment("no sound"),)),
    ]
    heard = cascade.transcribed(requests)
    assert [request.text for request in heard] == ["Question: first\nAnswer:", "first ", "no sound"]
    assert not any(request.has_audio for request in heard)
    assert heard[0].continuations == (" a",)
    assert cascade.loglikelihoods(requests[:1]) == text.loglikelihoods(heard[:1])
    generated = cascade.generate(requests, max_new_tokens=3, stop=())
    assert generated == text.generate(heard, max_new_tokens=3, stop=())
    assert asr.calls == [2]  # each waveform once
    assert cascade.fingerprint() == "cascade(named > counting)"


def test_the_cascade_does_not_hear_again_what_its_own_asr_has_heard():
    one = sound("a")
    rendering = Rendering("i", "q", "f3", "clean", "first", one.sha256, 16_000, 1)
    for asr_name, expected, calls in (("named", "known already", []), ("another", "first", [1])):
        transcript = Transcript("i", "q", "f3", "clean", asr_name, "known already", 0, 1, 0, 5)
        question = Question(make_item(), "speech", ("f3", "clean"), (rendering,), (transcript,))
        asr = NamedSounds({1: "first"})
        cascade = CascadeSystem(asr, CountingSystem())
        hand_over(cascade, [question])
        assert [request.text for request in cascade.transcribed([Request("i", (one,))])] == [expected]
        assert asr.calls == calls
    hand_over(CountingSystem(), [question])  # one without an ASR is told nothing


def test_the_cascade_gives_distributions_where_its_text_model_does():
    cascade = CascadeSystem(NamedSounds({1: "x"}), CountingSystem())
    with pytest.raises(ModelError, match="no next-token distributions"):
        cascade.distributions([])
    with pytest.raises(ModelError, match="no next-token distributions"):
        cascade.tokenizer_fingerprint()

    class WithDistributions(CountingSystem):
        def tokenizer_fingerprint(self) -> str:
            return "tok"

        def distributions(self, requests):
            return [[np.full((1, 2), -0.5 - len(request.text))] for request in requests]

    cascade = CascadeSystem(NamedSounds({1: "heard"}), WithDistributions())
    assert isinstance(cascade, Distributional)
    assert cascade.tokenizer_fingerprint() == "tok"
    assert cascade.distributions([Request("i", (sound("a"),), (" a",))])[0][0][0, 0] == -5.5


@pytest.mark.parametrize(
    ("asr", "error", "message"),
    [
        ("no-such-asr", UnknownNameError, "no-such-asr"),
        ({"name": "x", "option": {}}, UserInputError, "did you mean 'options'"),
        ({"options": {}}, UserInputError, "expected a name"),
        ({"name": "x", "options": 3}, UserInputError, "expected a name"),
    ],
)
def test_the_cascade_is_described_by_names_and_options(asr, error, message):
    with pytest.raises(error, match=message):
        CascadeSystem(asr, CountingSystem())


def test_an_asr_that_loses_recordings_is_an_error():
    asr = NamedSounds({})
    asr.transcribe = lambda audios: []
    with pytest.raises(ModelError, match="0 transcripts for 1"):
        CascadeSystem(asr, CountingSystem()).transcribed([Request("i", (sound("a"),))])
