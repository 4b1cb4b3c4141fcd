"""Against a real server: ``transformers serve`` with tiny random models, in a process of its own on 127.0.0.1."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from salad_eval.audio.sound import from_pcm16, to_pcm16
from salad_eval.errors import ModelError
from salad_eval.served.asr import OpenAIASR
from salad_eval.served.endpoint import EndpointError
from salad_eval.served.systems import OpenAIAudio, OpenAIText
from salad_eval.types import AudioSegment, Request, TextSegment

NEEDED = ("fastapi", "uvicorn", "openai", "multipart")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING),
    reason=f"transformers serve needs {', '.join(MISSING)}: pip install 'transformers[serving]' python-multipart",
)
START_S = 60.0
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROMPTS = ("Question: Which planet has rings?\nAnswer:", "The sun is", "A dog barked at")


@dataclass(frozen=True)
class Served:
    url: str
    text: Path
    whisper: Path
    audio: Path
    log: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    _save_models(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = "from transformers.cli.transformers import main; main()"
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(folder / "hf"),
    }  # fmt: skip
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", command, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            stdout=output, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip
        try:
            _wait_until_healthy(process, port, log)
            yield Served(f"http://127.0.0.1:{port}/v1", folder / "text", folder / "whisper", folder / "audio", log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _save_models(folder: Path) -> None:
    import torch
    from transformers import Qwen2ForCausalLM

    from tests.helpers.qwen_world import qwen_config, qwen_tokenizer
    from tests.helpers.tiny_recognisers import save_whisper
    from tests.salad_eval.systems.speech.test_qwen2_audio import TestQwen2Audio

    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(3)
    Qwen2ForCausalLM(qwen_config(tokenizer)).save_pretrained(folder / "text")
    tokenizer.save_pretrained(folder / "text")
    save_whisper(folder / "whisper")
    (folder / "audio").mkdir()
    TestQwen2Audio.save(folder / "audio")


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    pause, end = threading.Event(), time.monotonic() + START_S
    session = requests.Session()
    session.trust_env = False
    while time.monotonic() < end and process.poll() is None:
        try:
            if session.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                return
        except requests.RequestException:
            pause.wait(0.1)
    pytest.fail(f"transformers serve did not start within {START_S:.0f} s: {log.read_text(errors='replace')[-2000:]}")


def _asked(prompt: str, *options: str) -> Request:
    return Request("i", (TextSegment(prompt),), options)


def _heard(seconds: float, voice: str = "a") -> AudioSegment:
    from salad_eval.testing.speech_checks import heard

    return heard("x" * round(seconds / 0.06), voice)


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_served_model_writes_what_the_same_model_writes_here(served: Served, api: str) -> None:
    from salad_eval.systems.hf_text import HFTextSystem

    requests_ = [_asked(prompt) for prompt in PROMPTS]
    here = HFTextSystem(str(served.text), device="cpu", chat_template=api == "chat")
    there = OpenAIText(str(served.text), served.url, api=api, concurrency=2)  # type: ignore[arg-type]
    settings = {"max_new_tokens": 12, "stop": ()}
    expected = here.generate(requests_, **settings)  # type: ignore[arg-type]
    assert there.generate(requests_, **settings) == expected  # type: ignore[arg-type]
    assert len(set(expected)) == 3
    assert there.usage.requests == 3
    assert 12 <= there.usage.completion_tokens <= 36
    if api == "completions":
        assert there.usage.prompt_tokens == sum(len(here.tokenizer.encode(prompt)) for prompt in PROMPTS)


def test_a_stop_string_cuts_it(served: Served) -> None:
    system = OpenAIText(str(served.text), served.url)
    (whole,) = system.generate([_asked(PROMPTS[0])], max_new_tokens=12, stop=())
    stop = whole[len(whole) // 2]
    (cut,) = system.generate([_asked(PROMPTS[0])], max_new_tokens=12, stop=(stop,))
    assert cut == whole[: whole.index(stop)]


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_it_gives_no_log_probabilities_and_that_is_said(served: Served, api: str) -> None:
    system = OpenAIText(str(served.text), served.url, api=api)  # type: ignore[arg-type]
    with pytest.raises(EndpointError, match=r"no log-probabilities of the prompt.*score: generate in the plan"):
        system.loglikelihoods([_asked(PROMPTS[0], " Saturn", " Mars")])


def test_an_unknown_model_is_one_error(served: Served) -> None:
    system = OpenAIText("no/such-model", served.url, max_attempts=1)
    with pytest.raises(EndpointError, match=r"answered \d{3}"):
        system.generate([_asked("x")], max_new_tokens=1, stop=())


# --- audio -----------------------------------------------------------------------------------------------------------


def test_a_served_speech_model_hears(served: Served) -> None:
    """The same answers as of the model's own processor and ``generate``, and other answers to other sounds."""
    from transformers import Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

    sounds = [_heard(0.6), _heard(0.6, "b"), _heard(1.5)]
    asked = [Request("i", (TextSegment("What is said in "), sound, TextSegment("?"))) for sound in sounds]
    system = OpenAIAudio(str(served.audio), served.url)
    said = system.generate(asked, max_new_tokens=12, stop=())
    assert len(set(said)) == 3
    assert system.generate(asked[:1], max_new_tokens=12, stop=()) == said[:1]
    assert system.usage.audio_seconds == pytest.approx(0.6 + 0.6 + 1.5 + 0.6, abs=0.05)

    model = Qwen2AudioForConditionalGeneration.from_pretrained(served.audio).eval()
    processor = Qwen2AudioProcessor.from_pretrained(served.audio)
    parts = [{"type": "text", "text": "What is said in "}, {"type": "audio"}, {"type": "text", "text": "?"}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
    )
    for sound, text in zip(sounds, said, strict=True):
        heard = from_pcm16(to_pcm16(sound.audio.samples))
        inputs = processor(text=prompt, audio=[heard], sampling_rate=sound.audio.sample_rate_hz, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert text == processor.decode(ids, skip_special_tokens=True)


def test_a_text_model_that_is_sent_audio_is_found_out(served: Served) -> None:
    """``transformers serve`` drops audio for a model that cannot hear, without a word."""
    system = OpenAIAudio(str(served.text), served.url)
    with pytest.raises(ModelError, match="audio does not reach the model"):
        system.generate([Request("i", (TextSegment("Question: "), _heard(0.6)))], max_new_tokens=3, stop=())


# --- transcription ---------------------------------------------------------------------------------------------------


def test_a_served_recogniser_hears_what_it_hears_here(served: Served) -> None:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    sounds = [_heard(0.6).audio, _heard(0.6, "b").audio, _heard(1.2).audio]
    asr = OpenAIASR(str(served.whisper), served.url)
    found = asr.transcribe(sounds)
    model = WhisperForConditionalGeneration.from_pretrained(served.whisper).eval()
    processor = WhisperProcessor.from_pretrained(served.whisper)
    for sound, text in zip(sounds, found, strict=True):
        inputs = processor(from_pcm16(to_pcm16(sound.samples)), sampling_rate=sound.sample_rate_hz, return_tensors="pt")
        ids = model.generate(**inputs)
        assert text == " ".join(processor.batch_decode(ids, skip_special_tokens=True)[0].split())
    assert asr.usage.requests == 3
