"""Served systems: the numbers of the served model or an error that says what to ask for instead; audio that is heard or refused."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from salad_eval.audio.sound import to_pcm16
from salad_eval.errors import AudioError, ModelError, UserInputError
from salad_eval.served import wire
from salad_eval.served.asr import OpenAIASR
from salad_eval.served.endpoint import EndpointError, Usage
from salad_eval.served.systems import OpenAIAudio, OpenAIText
from salad_eval.types import ASR, Audio, AudioSegment, Request, System, TextSegment, Tokens
from tests.helpers.served_world import Answer, Call, Server, chat, completion, failed, ok, serving


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(lambda call: ok(chat("yes"))) as running:
        yield running


def text(prompt: str, *options: str, name: str = "i") -> Request:
    return Request(name, (TextSegment(prompt),), options)


def tone(seconds: float = 0.2, hertz: float = 440.0, rate: int = 16_000) -> Audio:
    return Audio(np.sin(np.arange(int(seconds * rate)) * 2 * np.pi * hertz / rate).astype(np.float32) * 0.5, rate)


def spoken(*options: str, audio: Audio | None = None) -> Request:
    return Request(
        "i", (TextSegment("Question: "), AudioSegment(audio or tone(), "s"), TextSegment("\nAnswer:")), options
    )


# --- options, over /completions --------------------------------------------------------------------------------------

PROMPTS = (
    text("Question: Which planet has rings?\nAnswer:", " Saturn", " Mars", " the moon of Venus", name="a"),
    text("Question: What is tin?  ", "Sn", " Ti", name="b"),  # whitespace at the end moves to the options
    text("The sun", " is", "set over Mars", name="c"),  # "sunset": the option joins the context's last token
)


class Scorer:
    """vLLM's ``/completions`` with ``echo``, on a model in this process: one plain forward pass a prompt."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def __call__(self, call: Call) -> Answer:
        import torch

        body = call.json
        assert call.path == "/v1/completions"
        assert (body["echo"], body["logprobs"], body["max_tokens"], body["temperature"]) == (True, 1, 1, 0.0)
        prompt = body["prompt"]
        ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        with torch.no_grad():
            table = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        new = int(table[-1].argmax())
        logprobs = [None, *(float(table[k, token]) for k, token in enumerate(ids[1:])), float(table[-1, new])]
        pieces = [self.tokenizer.decode([token]) for token in [*ids, new]]
        return ok(completion("".join(pieces), pieces, logprobs, prompt_tokens=len(ids)))


@pytest.fixture(scope="module")
def scorer(tiny_models: dict[str, Path]) -> Scorer:
    return Scorer(tiny_models["base"])


@pytest.mark.parametrize("with_tokenizer", [False, True])
def test_options_score_as_in_the_model_itself(
    server: Server, scorer: Scorer, tiny_models: dict[str, Path], with_tokenizer: bool
) -> None:
    from salad_eval.systems.hf_text import HFTextSystem

    server.behave = scorer
    system = OpenAIText("tiny", server.url, tokenizer=str(tiny_models["base"]) if with_tokenizer else None)
    found = system.loglikelihoods(PROMPTS)
    expected = HFTextSystem(str(tiny_models["base"])).loglikelihoods(PROMPTS)
    assert [len(row) for row in found] == [3, 2, 2]
    for row, values in zip(found, expected, strict=True):
        assert row == pytest.approx(values, abs=1e-4)
    assert system.usage.requests == (7 if with_tokenizer else 10)  # without it the contexts are asked for too
    assert all(isinstance(call.json["prompt"], list) == with_tokenizer for call in server.calls)


def _echo(logprobs: Callable[[int], Any], n_extra: int = 1, counted: bool = True) -> Callable[[Call], Answer]:
    def behave(call: Call) -> Answer:
        words = call.json["prompt"].split(" ")
        tokens = [*words, *["x"] * n_extra]
        table = completion("", tokens, [None, *map(logprobs, range(1, len(tokens)))], prompt_tokens=len(words))
        if not counted:
            table["usage"] = None
        return ok(table)

    return behave


@pytest.mark.parametrize("n_extra", [0, 1])  # an end of text that was generated may be listed or not
def test_what_was_generated_is_cut_off(server: Server, n_extra: int) -> None:
    server.behave = _echo(lambda k: -float(k), n_extra)
    assert OpenAIText("m", server.url).loglikelihoods([text("a b c", " d e", " f")]) == [(-7.0, -3.0)]


NO_PROMPT_LOGPROBS: dict[str, Callable[[Call], Answer]] = {
    "no logprobs": lambda call: ok(completion("x")),
    "only of what it generated": lambda call: ok(completion("x", ["x"], [-0.1], prompt_tokens=5)),
    "null": _echo(lambda k: None),
    "no count of tokens": _echo(lambda k: -1.0, counted=False),
    "lists of two lengths": lambda call: ok(completion("x", ["a", "b"], [None], prompt_tokens=1)),
}


@pytest.mark.parametrize("kind", NO_PROMPT_LOGPROBS)
def test_without_log_probabilities_the_error_says_what_to_ask_for(server: Server, kind: str) -> None:
    server.behave = NO_PROMPT_LOGPROBS[kind]
    with pytest.raises(EndpointError, match=r"log-probabilit.*score: generate in the plan \(--set score=generate\)"):
        OpenAIText("m", server.url).loglikelihoods([text("a b c", " d", " e")])


def test_a_prompt_that_the_server_cuts_is_noticed(server: Server) -> None:
    def behave(call: Call) -> Answer:
        words = call.json["prompt"].split(" ")[-4:]
        return ok(completion("", [*words, "x"], [None, *[-1.0] * len(words)], prompt_tokens=len(words)))

    server.behave = behave
    with pytest.raises(EndpointError, match="read another prompt than was sent; it may cut long ones"):
        OpenAIText("m", server.url).loglikelihoods([text("a b c d e f", " g", " h")])


def test_an_empty_context_needs_the_tokenizer(server: Server) -> None:
    with pytest.raises(UserInputError, match=r"its context is empty.*option tokenizer"):
        OpenAIText("m", server.url).loglikelihoods([text(" ", "a", "b")])


def test_an_option_without_tokens_is_an_error(server: Server) -> None:
    server.behave = _echo(lambda k: -1.0)
    with pytest.raises(ModelError, match="an option has no tokens of its own"):
        OpenAIText("m", server.url).loglikelihoods([text("a b", "", " c")])


# --- options, over /chat/completions (vLLM) --------------------------------------------------------------------------


def _vllm(
    ids: bool = True, template: Callable[[str], str] = lambda answer: "<a> " + answer
) -> Callable[[Call], Answer]:
    """``prompt_logprobs`` as vLLM gives them: a word is a token, its id the sum of its letters, its log-probability −id/1000."""

    def behave(call: Call) -> Answer:
        body = call.json
        written = ""
        for message in body["messages"]:
            content = message["content"]
            if message["role"] == "assistant":
                assert body["continue_final_message"] is True
                assert body["add_generation_prompt"] is False
                written += template(content)
            else:
                held = (
                    content if isinstance(content, str) else " ".join(p.get("text", "<sound> <sound>") for p in content)
                )
                written += f"<{message['role']}> {held} "
        if body["messages"][-1]["role"] != "assistant":
            written += "<a>"
        tokens = [sum(map(ord, word)) for word in written.split()]
        if "prompt_logprobs" not in body:
            return ok(chat("x", len(tokens)))
        assert body["prompt_logprobs"] == 0
        table = [None, *({str(token): {"logprob": -token / 1000, "rank": 1}} for token in tokens[1:])]
        fields = {"prompt_token_ids": tokens} if ids else {}
        return ok(chat("x", len(tokens), prompt_logprobs=table, **fields))

    return behave


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("heard", [False, True])
def test_options_of_a_chat_are_scored_after_its_prompt(server: Server, ids: bool, heard: bool) -> None:
    server.behave = _vllm(ids)
    options = (" Saturn", " the moon")
    if heard:
        found = OpenAIAudio("m", server.url, system_prompt="Be brief.").loglikelihoods([spoken(*options)] * 2)
    else:
        found = OpenAIText("m", server.url, api="chat").loglikelihoods([text("Which?", *options)] * 2)
    expected = tuple(-sum(map(ord, option.replace(" ", ""))) / 1000 for option in options)
    assert found == [pytest.approx(expected), pytest.approx(expected)]


def test_a_chat_template_that_writes_answers_elsewhere_is_refused(server: Server) -> None:
    server.behave = _vllm(template=lambda answer: "<think></think> <a> " + answer)
    with pytest.raises(EndpointError, match=r"another prompt.*score: generate"):
        OpenAIText("m", server.url, api="chat").loglikelihoods([text("Which?", " a", " b")])


@pytest.mark.parametrize("answer", [ok(chat("x")), failed(422, {"detail": "Unexpected fields: {'prompt_logprobs'}"})])
def test_a_chat_server_without_log_probabilities_is_told(server: Server, answer: Answer) -> None:
    server.behave = lambda call: answer
    with pytest.raises(EndpointError, match=r"prompt_logprobs.*score: generate"):
        OpenAIText("m", server.url, api="chat").loglikelihoods([text("Which?", " a", " b")])


# --- generation ------------------------------------------------------------------------------------------------------


def test_completions_generate(server: Server) -> None:
    server.behave = lambda call: ok(completion(" Saturn\nQuestion: and"))
    system = OpenAIText("m", server.url)
    assert system.generate([text("Q: x\nA:")], max_new_tokens=9, stop=["\n"]) == [" Saturn"]
    assert server.calls[0].path == "/v1/completions"
    assert server.calls[0].json == {
        "model": "m",
        "prompt": "Q: x\nA:",
        "temperature": 0.0,
        "max_tokens": 9,
        "stop": ["\n"],
    }
    assert system.usage == Usage(requests=1, prompt_tokens=7, completion_tokens=1)
    assert system.tokens() == Tokens(7, 1)


def test_a_server_that_counts_no_tokens_is_not_said_to_read_none(server: Server) -> None:
    server.behave = lambda call: ok({**completion("x"), "usage": None})
    system = OpenAIText("m", server.url)
    system.generate([text("Q:")], max_new_tokens=1, stop=[])
    assert system.tokens() is None


def test_chat_generates(server: Server) -> None:
    server.behave = lambda call: ok(chat("Saturn.\nIt has rings"))
    system = OpenAIText("m", server.url, api="chat", system_prompt="Be brief.")
    assert system.generate([text("Which?")], max_new_tokens=9, stop=["\n"]) == ["Saturn."]
    assert server.calls[0].path == "/v1/chat/completions"
    assert server.calls[0].json == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}],
        "temperature": 0.0,
        "max_tokens": 9,
        "stop": ["\n"],
    }


def test_a_request_that_is_refused_for_what_it_holds_is_named(server: Server) -> None:
    server.behave = lambda call: failed(400, {"error": {"message": "maximum context length is 8 tokens"}})
    for api in ("chat", "completions"):
        with pytest.raises(EndpointError, match=r"^item 'long': .*answered 400 \(maximum context length"):
            OpenAIText("m", server.url, api=api).generate([text("x", name="long")], max_new_tokens=1, stop=[])  # type: ignore[arg-type]


def test_a_filtered_question_has_no_answer_and_stops_no_run(server: Server) -> None:
    filtered = failed(400, {"error": {"message": "The prompt was filtered.", "code": "content_filter"}})
    server.behave = lambda call: filtered if b"bad" in call.body else ok(chat("yes"))
    system = OpenAIText("m", server.url, api="chat")
    assert system.generate([text("bad"), text("good")], max_new_tokens=1, stop=[]) == ["", "yes"]


def test_the_field_of_the_limit_may_be_named(server: Server) -> None:
    system = OpenAIText(
        "m", server.url, api="chat", max_tokens_field="max_completion_tokens", extra={"temperature": None}
    )
    system.generate([text("x")], max_new_tokens=5, stop=[])
    assert server.calls[0].json == {
        "model": "m", "messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 5,
    }  # fmt: skip


def test_options_may_be_listed_and_the_listed_answer_is_read(server: Server) -> None:
    from salad_eval.answers.choice import extract_choice

    request = text("Which planet has rings?\nAnswer:", " Saturn", " Mars")
    server.behave = lambda call: ok(chat("Saturn"))
    (said,) = OpenAIText("m", server.url, api="chat", list_options=True).generate([request], max_new_tokens=9, stop=[])
    assert server.calls[0].json["messages"][0]["content"] == (
        "Answer with one of these options, word for word, and nothing else:\n- Saturn\n- Mars\n\nWhich planet has rings?\nAnswer:"
    )
    assert extract_choice(said, ("Saturn", "Mars"), lettered=False) == 0


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": "yes"}, "yes"),
        ({"content": None}, ""),  # nothing left by a filter, or by thinking as long as was allowed
        ({"content": None, "refusal": "I can't."}, "I can't."),
        ({"role": "assistant", "content": "", "reasoning_content": "hm"}, ""),
    ],
)
def test_what_a_chat_said(server: Server, message: dict[str, Any], said: str) -> None:
    server.behave = lambda call: ok({"choices": [{"message": message}]})
    assert OpenAIText("m", server.url, api="chat").generate([text("x")], max_new_tokens=1, stop=[]) == [said]


MALFORMED = {
    "no choices": ({"object": "list"}, "choices: field required"),
    "empty choices": ({"choices": []}, "choices: .*at least 1"),
    "too many choices": ({"choices": [{"text": "a", "message": {"content": "a"}}] * 2}, "choices: .*at most 1"),
    "no message": ({"choices": [{"index": 0}]}, r"choices\.0\.(message|text): field required"),
    "not text": ({"choices": [{"text": 7, "message": {"content": 7}}]}, r"choices\.0\..*valid string"),
    "a list": ([1, 2], "the reply: .*dictionary"),
    "null": (None, "the reply: .*dictionary"),
}


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_reply_of_another_shape_is_one_error(server: Server, name: str, api: Any) -> None:
    table, message = MALFORMED[name]
    server.behave = lambda call: ok(table)
    with pytest.raises(EndpointError, match=f"{server.url}.*{message}.*OpenAI-compatible"):
        OpenAIText("m", server.url, api=api).generate([text("x")], max_new_tokens=1, stop=[])
    assert len(server.calls) == 1


def test_a_text_system_refuses_audio(server: Server) -> None:
    for ask in (
        lambda s: s.loglikelihoods([spoken("a", "b")]),
        lambda s: s.generate([spoken()], max_new_tokens=1, stop=[]),
    ):
        with pytest.raises(ModelError, match="reads text only"):
            ask(OpenAIText("m", server.url))
    assert server.calls == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"api": "responses"}, "api is 'responses'; expected completions or chat"),
        ({"list_options": True}, "need api: chat"),
        (
            {"api": "chat", "max_tokens_field": "n"},
            "max_tokens_field is 'n'; expected one of max_tokens, max_completion_tokens",
        ),
        ({"api": "chat", "tokenizer": "x"}, "tokenizer is for api: completions"),
        ({"base_url": "https://a:b@h/v1"}, "user name or password"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        OpenAIText("m", **options)


# --- audio -----------------------------------------------------------------------------------------------------------


def _hears(call: Call) -> Answer:
    """A model that hears: a token a word, and one a hundredth of a second."""
    content = call.json["messages"][-1]["content"]
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    sounds = [base64.b64decode(p["input_audio"]["data"]) for p in parts if p["type"] == "input_audio"]
    samples = sum(len(soundfile.read(io.BytesIO(sound))[0]) for sound in sounds)
    return ok(
        chat(f"heard {samples}", prompt_tokens=sum(len(p.get("text", "").split()) for p in parts) + samples // 160)
    )


def test_audio_stands_in_its_place_as_wav(server: Server) -> None:
    server.behave = _hears
    system, sound = OpenAIAudio("m", server.url), tone(0.25)
    assert system.generate([spoken(audio=sound)], max_new_tokens=9, stop=[]) == ["heard 4000"]
    body = server.calls[-1].json
    first, second, third = body["messages"][0]["content"]
    assert (first, third) == ({"type": "text", "text": "Question: "}, {"type": "text", "text": "\nAnswer:"})
    assert (second["type"], second["input_audio"]["format"]) == ("input_audio", "wav")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(second["input_audio"]["data"])), dtype="int16")
    assert rate == 16_000
    assert np.array_equal(samples, to_pcm16(sound.samples))
    assert system.usage.audio_seconds == 0.25


def test_audio_is_resampled_where_asked(server: Server) -> None:
    server.behave = _hears
    system = OpenAIAudio("m", server.url, sample_rate_hz=8000)
    assert system.generate([spoken(audio=tone(0.25))], max_new_tokens=9, stop=[]) == ["heard 2000"]


def test_a_server_that_drops_audio_is_found_out_before_anything_is_scored(server: Server) -> None:
    server.behave = lambda call: ok(chat("yes", prompt_tokens=11))
    with pytest.raises(
        EndpointError, match="audio does not reach the model 'm': its prompt has 11 tokens with audio and 11 without"
    ):
        OpenAIAudio("m", server.url).generate([spoken()], max_new_tokens=1, stop=[])


def test_a_server_that_counts_nothing_proves_nothing(server: Server) -> None:
    server.behave = lambda call: ok({"choices": [{"message": {"content": "yes"}}]})
    with pytest.raises(EndpointError, match=r"counts no tokens.*check_audio: false"):
        OpenAIAudio("m", server.url).generate([spoken()], max_new_tokens=1, stop=[])
    assert OpenAIAudio("m", server.url, check_audio=False).generate([spoken()], max_new_tokens=1, stop=[]) == ["yes"]


def test_hearing_is_checked_once(server: Server) -> None:
    server.behave = _hears
    system = OpenAIAudio("m", server.url)
    for _ in range(3):
        system.generate([spoken(), spoken()], max_new_tokens=1, stop=[])
    assert len(server.calls) == 2 + 6


def test_an_audio_system_reads_text_too(server: Server) -> None:
    server.behave = _hears
    OpenAIAudio("m", server.url).generate([text("only text")], max_new_tokens=1, stop=[])
    assert [call.json["messages"][0]["content"] for call in server.calls] == ["only text"]


# --- transcription ---------------------------------------------------------------------------------------------------


def _form(call: Call) -> dict[str, bytes]:
    import email

    head = f"Content-Type: {call.headers['Content-Type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + call.body).get_payload()
    return {p.get_param("name", header="content-disposition"): p.get_payload(decode=True) for p in parts}  # type: ignore[union-attr, misc, arg-type]


def _transcribes(call: Call) -> Answer:
    assert call.path == "/v1/audio/transcriptions"
    samples, _ = soundfile.read(io.BytesIO(_form(call)["file"]))
    return ok({"text": f"  {len(samples)}\n samples "})


def test_transcription(server: Server) -> None:
    server.behave = _transcribes
    asr = OpenAIASR("whisper-1", server.url, language="en", prompt="SALAD")
    sounds = [tone(0.1 * k) for k in range(1, 6)]
    assert asr.transcribe(sounds) == [f"{1600 * k} samples" for k in range(1, 6)]
    form = _form(server.calls[0])
    assert {name: value for name, value in form.items() if name != "file"} == {
        "model": b"whisper-1", "response_format": b"json", "temperature": b"0", "language": b"en", "prompt": b"SALAD",
    }  # fmt: skip
    assert asr.usage.requests == 5
    assert asr.usage.audio_seconds == pytest.approx(1.5)


def test_no_recording_is_paid_for_twice(server: Server) -> None:
    server.behave = _transcribes
    asr = OpenAIASR("m", server.url)
    assert asr.transcribe([tone(), tone(0.3), tone()]) == ["3200 samples", "4800 samples", "3200 samples"]
    asr.transcribe([tone(0.3)])
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (Audio(np.zeros(0, np.float32), 16_000), "recording 1 is 0.000 s long"),
        (tone(0.05), "recording 1 is 0.050 s long"),
        (Audio(np.full(8000, np.nan, np.float32), 16_000), "recording 1 holds samples that are not finite"),
    ],
)
def test_a_recording_without_speech_is_not_sent(server: Server, audio: Audio, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        OpenAIASR("m", server.url).transcribe([tone(), audio])
    assert server.calls == []


def test_a_recording_that_is_refused_is_told_from_an_endpoint_that_refuses(server: Server) -> None:
    asr = OpenAIASR("m", server.url, concurrency=1)
    server.behave = lambda call: failed(400, {"error": {"message": "cannot decode"}})
    with pytest.raises(EndpointError, match=r"answered 400.*cannot decode"):
        asr.transcribe([tone(), tone(0.3)])
    server.behave = lambda call: _transcribes(call) if len(call.body) < 8000 else failed(400, {"detail": "too long"})
    with pytest.raises(AudioError, match=r"recording 1 was refused.*too long"):
        asr.transcribe([tone(), tone(0.5), tone(0.15)])
    assert asr.transcribe([tone(), tone(0.15)]) == ["3200 samples", "2400 samples"]
    with pytest.raises(AudioError, match="recording 0 was refused"):
        asr.transcribe([tone(0.5)])


@pytest.mark.parametrize("reply", [{}, {"text": None}, {"text": 7}, []])
def test_a_transcription_of_another_shape(server: Server, reply: object) -> None:
    server.behave = lambda call: ok(reply)
    with pytest.raises(EndpointError, match="not a transcription"):
        OpenAIASR("m", server.url).transcribe([tone()])


# --- as plug-ins -----------------------------------------------------------------------------------------------------


def test_protocols_and_fingerprints(tiny_models: dict[str, Path]) -> None:
    url = "http://h:1/v1?sig=abc"
    systems = [
        OpenAIText("m", url),
        OpenAIText("m", url, api="chat"),
        OpenAIText("m", url, api="chat", list_options=True),
        OpenAIText("m", url, api="chat", system_prompt="Be brief."),
        OpenAIText("m", url, tokenizer=str(tiny_models["base"])),
        OpenAIText("m", url, revision="2"),
        OpenAIText("n", url),
        OpenAIAudio("m", url),
        OpenAIAudio("m", url, sample_rate_hz=16_000),
        OpenAIASR("m", url),
        OpenAIASR("m", url, language="en"),
    ]
    prints = [system.fingerprint() for system in systems]
    assert len(set(prints)) == len(prints)
    assert prints[0] == "openai-text(m@http://h:1/v1,api=completions)"
    assert OpenAIText("m", url, concurrency=1, timeout_s=3.0).fingerprint() == prints[0]
    assert all("abc" not in shown for shown in prints)
    assert all(isinstance(system, ASR if isinstance(system, OpenAIASR) else System) for system in systems)


def test_wav_bytes_are_what_soundfile_reads() -> None:
    sound = tone(0.1, rate=22_050)
    samples, rate = soundfile.read(io.BytesIO(wire.wav_bytes(sound)), dtype="int16")
    assert rate == 22_050
    assert np.array_equal(samples, to_pcm16(sound.samples))


def test_log_probabilities_that_are_no_numbers_are_handed_on(server: Server) -> None:
    """What is not finite is scored as missing by ``respond``, with a reason."""
    server.behave = _echo(lambda k: -math.inf)
    (found,) = OpenAIText("m", server.url).loglikelihoods([text("a", " b", " c")])
    assert found == (-math.inf, -math.inf)
    assert "Infinity" in json.dumps(found[0])
