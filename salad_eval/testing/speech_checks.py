"""One list of checks that every family of speech LLMs has to pass, for pytest; and the requests with sound that they ask.

A family's tests subclass ``SpeechSystemChecks``: they save a tiny random checkpoint of the real class with its real
processor, and say how that class's own ``forward`` and processor see a prompt.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from salad_eval.audio.sound import resample, sha256_of
from salad_eval.errors import AudioError, ModelError, RoomError
from salad_eval.systems.hf_text import HFTextSystem
from salad_eval.systems.speech.family import SpeechFamily, recordings_of
from salad_eval.systems.speech.system import SpeechLLMSystem
from salad_eval.testing.checkpoint_files import unseen, with_beside
from salad_eval.types import Audio, AudioSegment, Distributional, Request, System, TextSegment

OPTIONS = (" H", " Au by chemists", " Paris")
LENGTHS = ("gold", "What is the symbol for gold?", "a river in the rain")  # 0.24 s, 1.7 s, 1.1 s


# --- requests --------------------------------------------------------------------------------------------------------


def sound(text: str, voice: str = "a", rate: int = 16_000) -> Audio:
    """About 60 ms a character: each character a tone of its own, the voice its pitch. Equal text and voice, equal
    sound.

    A little noise, as all recordings have it: in bands of nothing but rounding errors, Parakeet's normalisation would
        enlarge those.
    """
    pitch = 1.0 + int(hashlib.sha256(voice.encode()).hexdigest(), 16) % 7 / 20
    t = np.arange(int(0.06 * rate)) / rate
    tones = [np.sin(2 * np.pi * pitch * (200 + 37 * (ord(c) % 64)) * t) * np.hanning(len(t)) for c in text]
    noise = np.random.default_rng(len(text)).standard_normal(len(t) * len(text))
    return Audio((0.3 * np.concatenate(tones) + 1e-3 * noise).astype(np.float32), rate)


def heard(text: str, voice: str = "a", rate: int = 16_000) -> AudioSegment:
    """A recording of ``text``, 60 ms a character."""
    audio = sound(text, voice, rate)
    return AudioSegment(audio, sha256_of(audio))


def ask(item: str, *prompt: str | AudioSegment, options: tuple[str, ...] = OPTIONS) -> Request:
    return Request(item, tuple(TextSegment(part) if isinstance(part, str) else part for part in prompt), options)


def family_of(system: SpeechLLMSystem) -> SpeechFamily:
    return cast("SpeechFamily", system.llm)


# --- the list of checks ----------------------------------------------------------------------------------------------


class SpeechSystemChecks:
    """Subclass this as ``Test…``; each check then runs on that family's tiny checkpoint."""

    architecture: Any
    """The transformers class of the checkpoint."""
    system_class: type[SpeechLLMSystem] = SpeechLLMSystem
    markup: str
    """One recording in a prompt without a chat template, as the model's documentation writes it."""
    too_long_seconds: float | None = 31.0
    """A recording longer than the encoder hears; ``None`` where it hears any."""
    chat = False
    """Whether the checks ask in the chat format: only where the class hears nothing else."""
    can_branch = True
    says_nothing: tuple[str, ...] = ()
    """Settings files of the checkpoint that hold nothing but the name of a class."""
    atol = 1e-4

    # --- what a subclass provides ---

    @staticmethod
    def save(folder: Path, seed: int = 0) -> None:
        """Write a tiny random checkpoint and its processor."""
        raise NotImplementedError

    @staticmethod
    def save_text_lm(model: Any, folder: Path) -> None:
        """Write the model's own text LLM, weights unchanged, for ``AutoModelForCausalLM``."""
        raise NotImplementedError

    def own_inputs(self, processor: Any, request: Request, answer: str = "") -> Mapping[str, torch.Tensor]:
        """What the class's own processor makes of a plain prompt and an answer, in one call."""
        text = "".join(self.markup if isinstance(s, AudioSegment) else s.text for s in request.prompt)
        rate = processor.feature_extractor.sampling_rate
        sounds = [resample(s.audio, rate).samples for s in recordings_of(request)]
        inputs: Mapping[str, torch.Tensor] = processor(
            text=text + answer, audio=sounds, sampling_rate=rate, return_tensors="pt"
        )
        return inputs

    def answer_ids(self, processor: Any, answer: str) -> list[int]:
        """An answer's token ids where it follows the prompts used here."""
        ids: list[int] = processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return ids

    # --- fixtures ---

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("speech-llm")
        self.save(path)
        return path

    @pytest.fixture(scope="class")
    def system(self, folder: Path) -> SpeechLLMSystem:
        return self.system_class(str(folder), device="cpu", chat_template=self.chat)

    @pytest.fixture(scope="class")
    def chat_system(self, folder: Path) -> SpeechLLMSystem:
        return self.system_class(str(folder), device="cpu", chat_template=True)

    @pytest.fixture(scope="class")
    def own(self, folder: Path) -> tuple[Any, Any]:
        """The model and processor as transformers loads them."""
        from transformers import AutoProcessor

        return self.architecture.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)

    def own_logprobs(self, own: tuple[Any, Any], request: Request) -> list[float]:
        """Summed log-probability of each option by one plain forward pass each, through the processor."""
        model, processor = own
        values = []
        for option in request.continuations:
            inputs = self.own_inputs(processor, request, option)
            ids = self.answer_ids(processor, option)
            assert inputs["input_ids"][0, -len(ids) :].tolist() == ids
            with torch.no_grad():
                logprobs = model(**inputs).logits[0, -len(ids) - 1 : -1].log_softmax(-1)
            values.append(float(logprobs[torch.arange(len(ids)), ids].sum()))
        return values

    # --- audio reaches the model ---

    def test_it_is_a_system_that_gives_distributions(self, system: SpeechLLMSystem) -> None:
        assert isinstance(system, System)
        assert isinstance(system, Distributional)

    def test_a_recording_takes_positions_of_the_lm(self, system: SpeechLLMSystem) -> None:
        request = ask("a", "Question:", heard("What is the symbol for gold?"), "\nAnswer:")
        rows = system._hear([request])
        prefixes, _, _ = system._encoded([request])
        n = len(next(iter(rows.values())))
        assert n > 1
        assert len(prefixes[0]) > n

    def test_another_waveform_another_answer_the_same_one_the_same(self, system: SpeechLLMSystem) -> None:
        prompts = [("Q:", heard("gold", voice), "A:") for voice in ("a", "b", "a")]
        one, two, three = system.loglikelihoods([ask(str(i), *p) for i, p in enumerate(prompts)])
        assert one == pytest.approx(three, abs=1e-5)
        assert max(abs(a - b) for a, b in zip(one, two, strict=True)) > 1e-3

    def test_sound_of_another_rate_is_resampled(self, system: SpeechLLMSystem) -> None:
        own_rate = ask("a", "Q:", heard("a river in the rain", rate=family_of(system).sampling_rate_hz), "A:")
        higher = ask("b", "Q:", heard("a river in the rain", rate=48_000), "A:")
        one, other = system.loglikelihoods([own_rate, higher])
        assert np.isfinite(other).all()
        lengths = [len(rows) for rows in system._hear([own_rate, higher]).values()]
        assert lengths[0] == lengths[1]
        assert one != other

    def test_equal_sound_is_encoded_once(self, system: SpeechLLMSystem, monkeypatch: pytest.MonkeyPatch) -> None:
        encoded: list[int] = []
        original = family_of(system).audio_rows

        def counted(recordings: Sequence[np.ndarray]) -> list[torch.Tensor]:
            encoded.append(len(recordings))
            return original(recordings)

        monkeypatch.setattr(family_of(system), "audio_rows", counted)
        system._heard.clear()
        requests = [ask(str(i), "Q:", heard("gold"), f" is {i}") for i in range(4)] + [ask("x", heard("rain"), " is")]
        system.loglikelihoods(requests)
        system.distributions(requests[:2])
        assert sum(encoded) == 2

    @pytest.mark.parametrize("text", LENGTHS)
    def test_speech_is_scored_as_the_model_itself_scores_it(
        self, system: SpeechLLMSystem, own: tuple[Any, Any], text: str
    ) -> None:
        request = ask("a", "Question:", heard(text), "\nAnswer:")
        np.testing.assert_allclose(
            system.loglikelihoods([request])[0], self.own_logprobs(own, request), atol=self.atol, rtol=0
        )

    def test_two_recordings_stand_where_they_were_spoken(self, system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        first, second = heard("gold"), heard("a river in the rain", "b")
        forth, back = ask("a", first, " or", second, "\nAnswer:"), ask("b", second, " or", first, "\nAnswer:")
        found = system.loglikelihoods([forth, back])
        np.testing.assert_allclose(found[0], self.own_logprobs(own, forth), atol=self.atol, rtol=0)
        np.testing.assert_allclose(found[1], self.own_logprobs(own, back), atol=self.atol, rtol=0)
        assert max(abs(a - b) for a, b in zip(*found, strict=True)) > 1e-3

    # --- the same numbers, however they are computed ---

    def requests(self) -> list[Request]:
        """Recordings of several lengths, in several numbers, and text."""
        return [
            ask("a", "Question:", heard(LENGTHS[1]), "\nAnswer:"),
            ask("b", "The capital of France is"),
            ask("c", heard("rain"), " and", heard(LENGTHS[2]), "."),
            ask("d", "Question:", heard("gold", "b"), "\nAnswer:", options=(" H",)),
            ask("e", "Question:", heard(LENGTHS[1]), "\nThe answer is"),
        ]

    def test_a_batch_is_its_members_alone_and_order_does_not_matter(self, system: SpeechLLMSystem) -> None:
        system._heard.clear()
        together = system.loglikelihoods(self.requests())
        system._heard.clear()
        backwards = system.loglikelihoods(self.requests()[::-1])[::-1]
        for request, row, other in zip(self.requests(), together, backwards, strict=True):
            system._heard.clear()
            np.testing.assert_allclose(system.loglikelihoods([request])[0], row, atol=1e-4, rtol=0)
            np.testing.assert_allclose(other, row, atol=1e-4, rtol=0)

    def test_recordings_of_unlike_lengths_are_encoded_as_if_alone(self, system: SpeechLLMSystem) -> None:
        sounds = [resample(heard(text).audio, family_of(system).sampling_rate_hz).samples for text in LENGTHS]
        together = family_of(system).audio_rows(sounds)
        for sound, rows in zip(sounds, together, strict=True):
            alone = family_of(system).audio_rows([sound])[0]
            assert alone.shape == rows.shape
            torch.testing.assert_close(rows, alone, atol=1e-4, rtol=0)

    def test_with_and_without_a_cached_prefix(self, system: SpeechLLMSystem, monkeypatch: pytest.MonkeyPatch) -> None:
        from salad_eval.systems import branching
        from salad_eval.systems.passes import CacheUnusable

        assert branching.can_branch(system.llm.language_model(has_audio=True)) == self.can_branch
        cached = system.loglikelihoods(self.requests())

        def unusable(*args: object, **kwargs: object) -> Any:
            raise CacheUnusable

        monkeypatch.setattr(branching, "_score_cached", unusable)
        uncached = system.loglikelihoods(self.requests())
        for one, other in zip(cached, uncached, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4, rtol=0)

    def test_the_distributions_hold_the_log_probabilities(self, system: SpeechLLMSystem) -> None:
        request = self.requests()[0]
        values = system.loglikelihoods([request])[0]
        for option, value, rows in zip(OPTIONS, values, system.distributions([request])[0], strict=True):
            ids = self.answer_ids(family_of(system).processor, option)
            assert rows.dtype == np.float32
            assert float(rows[np.arange(len(ids)), ids].sum()) == pytest.approx(value, abs=1e-3)
            np.testing.assert_allclose(np.exp(rows).sum(-1), 1.0, atol=1e-3)

    # --- text ---

    def test_text_is_answered_as_by_its_own_text_llm(
        self, system: SpeechLLMSystem, own: tuple[Any, Any], tmp_path: Path
    ) -> None:
        self.save_text_lm(own[0], tmp_path)
        own[1].tokenizer.save_pretrained(tmp_path)
        text_lm = HFTextSystem(str(tmp_path), device="cpu")
        requests = [ask("a", "The capital of France is"), ask("b", "Question: What is gold?\nAnswer: "), ask("c", "")]
        np.testing.assert_allclose(system.loglikelihoods(requests), text_lm.loglikelihoods(requests), atol=1e-4, rtol=0)
        options = {"max_new_tokens": 5, "stop": ("\n",)}
        assert system.generate(requests[:2], **options) == text_lm.generate(requests[:2], **options)  # type: ignore[arg-type]

    def test_text_in_the_chat_template_is_as_hf_text_would_ask(
        self, chat_system: SpeechLLMSystem, own: tuple[Any, Any], tmp_path: Path
    ) -> None:
        self.save_text_lm(own[0], tmp_path)
        own[1].tokenizer.chat_template = own[1].chat_template
        own[1].tokenizer.save_pretrained(tmp_path)
        text_lm = HFTextSystem(str(tmp_path), device="cpu", chat_template=True)
        requests = [ask("a", "The capital of France is"), ask("b", "Question: What is gold?\nAnswer:")]
        np.testing.assert_allclose(
            chat_system.loglikelihoods(requests), text_lm.loglikelihoods(requests), atol=1e-4, rtol=0
        )

    # --- generation ---

    def test_generation_is_the_models_own(self, system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        model, processor = own
        ends = (" again:", "\nAnswer:", " is what")
        requests = [ask("a", "Say", heard(text), end, options=()) for text, end in zip(LENGTHS, ends, strict=True)]
        expected = []
        for request in requests:
            inputs = self.own_inputs(processor, request)
            with torch.no_grad():
                ids = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
            eos = processor.tokenizer.eos_token_id
            ended = ids.tolist()[: ids.tolist().index(eos)] if eos in ids else ids.tolist()
            expected.append(processor.tokenizer.decode(ended, skip_special_tokens=True))
        assert system.generate(requests, max_new_tokens=6, stop=()) == expected
        assert len(set(expected)) > 1

    # --- chat ---

    def test_a_chat_prompt_is_the_processors_own(self, chat_system: SpeechLLMSystem, own: tuple[Any, Any]) -> None:
        model, processor = own
        sound = heard("What is the symbol for gold?")
        rate = processor.feature_extractor.sampling_rate
        turn = [{"type": "audio", "audio": resample(sound.audio, rate).samples}, {"type": "text", "text": "Answer."}]
        inputs = self.chat_inputs(processor, [{"role": "user", "content": turn}])
        request = ask("a", sound, "Answer.", options=("H", "Paris"))
        prompt = chat_system._prompts([request], 2048)[0]
        assert len(prompt) == inputs["input_ids"].shape[1]
        ids = model.generate(**inputs, max_new_tokens=4, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
        eos = processor.tokenizer.eos_token_id
        expected = processor.tokenizer.decode(ids[: ids.index(eos)] if eos in ids else ids, skip_special_tokens=True)
        assert chat_system.generate([request], max_new_tokens=4, stop=()) == [expected]
        one, two = chat_system.loglikelihoods([request])[0]
        assert one - two == pytest.approx(
            self.appended_logprob(model, inputs, self.answer_ids(processor, "H"))
            - self.appended_logprob(model, inputs, self.answer_ids(processor, "Paris")),
            abs=self.atol,
        )

    @staticmethod
    def appended_logprob(model: Any, inputs: Mapping[str, torch.Tensor], ids: list[int]) -> float:
        """Log-probability of ``ids`` after a prompt, by a plain forward pass over both."""
        whole = dict(inputs)
        whole["input_ids"] = torch.cat([whole["input_ids"], torch.tensor([ids])], dim=1)
        whole["attention_mask"] = torch.ones_like(whole["input_ids"])
        with torch.no_grad():
            logprobs = model(**whole).logits[0, -len(ids) - 1 : -1].log_softmax(-1)
        return float(logprobs[torch.arange(len(ids)), ids].sum())

    def chat_inputs(self, processor: Any, messages: list[dict[str, Any]]) -> Mapping[str, torch.Tensor]:
        inputs: Mapping[str, torch.Tensor] = processor.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
        )
        return inputs

    # --- what cannot be answered ---

    def test_too_long_a_recording_is_refused(self, system: SpeechLLMSystem) -> None:
        if self.too_long_seconds is None:
            pytest.skip("this class hears recordings of any length that its LM holds")
        rate = family_of(system).sampling_rate_hz
        long = AudioSegment(Audio(np.zeros(int(self.too_long_seconds * rate), np.float32), rate), "0" * 64)
        with pytest.raises(AudioError, match=r"'a'.*hears"):
            system.loglikelihoods([ask("a", "Q:", long, "A:")])

    def test_empty_sound_is_refused(self, system: SpeechLLMSystem) -> None:
        silence = AudioSegment(Audio(np.zeros(0, np.float32), 16_000), "0" * 64)
        with pytest.raises(AudioError, match="'a'"):
            system.loglikelihoods([ask("a", "Q:", silence, "A:")])

    def test_a_text_that_holds_the_placeholder_is_refused(self, system: SpeechLLMSystem) -> None:
        with pytest.raises(ModelError, match="placeholder"):
            system.loglikelihoods([ask("a", f"Q {family_of(system).audio_token}:", heard("gold"), "A:")])

    def test_a_prompt_that_does_not_fit_is_refused(self, folder: Path) -> None:
        system = self.system_class(str(folder), device="cpu", chat_template=self.chat, max_length=16)
        with pytest.raises(RoomError, match="room for"):
            system.loglikelihoods([ask("a", "Q:", heard("What is the symbol for gold?"), "A:")])
        assert len(system.loglikelihoods([ask("b", "a long text " * 20)])[0]) == len(OPTIONS)

    def test_a_checkpoint_without_its_processor_is_refused(self, folder: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        for name in ("processor_config.json", "preprocessor_config.json"):
            (copy / name).unlink(missing_ok=True)
        with pytest.raises(ModelError, match="processor"):
            self.system_class(str(copy), device="cpu")

    def test_a_checkpoint_without_its_tokenizer_is_refused(self, folder: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        for path in copy.iterdir():
            if path.name.startswith(("tok", "tekken", "vocab", "merges")):
                path.unlink()
        with pytest.raises(ModelError, match=r"processor|tokenizer"):
            self.system_class(str(copy), device="cpu")

    def test_a_checkpoint_with_weights_missing_is_refused(self, folder: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        weights = load_file(copy / "model.safetensors")
        lost = next(name for name in sorted(weights) if "layers.0" in name and name.endswith("weight"))
        del weights[lost]
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match="missing keys"):
            self.system_class(str(copy), device="cpu")

    def test_the_fingerprint_tells_checkpoints_and_settings_apart(self, folder: Path, tmp_path: Path) -> None:
        self.save(tmp_path, seed=9)
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        prints = {
            self.system_class(str(folder), device="cpu").fingerprint(),
            self.system_class(str(folder), device="cpu", dtype="bfloat16").fingerprint(),
            self.system_class(str(tmp_path), device="cpu").fingerprint(),
            self.system_class(str(folder), device="cpu", chat_template=True, system_prompt="Be brief.").fingerprint(),
        }
        assert len(prints) == 4
        assert self.system_class(str(copy), device="cpu").fingerprint() in prints  # wherever the folder lies
        assert self.system_class(str(folder), device="cpu").fingerprint() in prints

    def test_each_file_of_the_checkpoint_and_none_beside_it_is_in_the_fingerprint(
        self, folder: Path, chat_system: SpeechLLMSystem, tmp_path: Path
    ) -> None:
        def fingerprint(path: str) -> str:
            return self.system_class(path, device="cpu", chat_template=True).fingerprint()

        assert unseen(folder, tmp_path, fingerprint, self.says_nothing) == []
        assert fingerprint(str(with_beside(folder, tmp_path))) == chat_system.fingerprint()
