"""Our systems as lm-eval models: lm-eval's own numbers on text, ours on speech, and no way past the audio."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError, ModelError, UnknownNameError, UserInputError
from salad_eval.lm_eval_bridge import MODELS, register_models
from salad_eval.lm_eval_bridge.audio_refs import marker
from salad_eval.types import Audio, AudioSegment, Request, TextSegment
from tests.helpers.tiny_causal_lm import save_tiny_llama

CHAT = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
PAIRS = [
    ("Question: Which metal is in bones?\nAnswer:", " calcium"),
    ("Question: Which metal is in bones?\nAnswer:", " iron oxide"),
    ("Question: Which metal is in bones?\nAnswer: ", "iron"),
    ("", " Paris"),
    ("The quick brown fox", " jumps over the lazy dog"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama of 64 positions whose tokenizer has a chat template."""
    path = save_tiny_llama(tmp_path_factory.mktemp("llama"), positions=64)
    (path / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def text(folder: Path) -> Any:
    from salad_eval.lm_eval_bridge.models import SaladTextLM

    return SaladTextLM(pretrained=str(folder), device="cpu")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1)


@pytest.fixture(scope="module")
def speech(tiny_models: dict[str, Path]) -> Any:
    from salad_eval.lm_eval_bridge.models import SaladSpeechLM

    return SaladSpeechLM(pretrained=str(tiny_models["speech"]), device="cpu")


@pytest.fixture
def store(tmp_path: Path) -> AudioStore:
    return AudioStore(tmp_path / "audio")


def sound(store: AudioStore, seed: int) -> str:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(8_000)
    return store.put(Audio(samples.astype(np.float32), 16_000))


def instances(kind: str, arguments: Sequence[tuple[Any, ...]], *, one_document: bool = False) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [
        Instance(kind, {}, args, n if one_document else 0, metadata=("task", 0 if one_document else n, 1))  # type: ignore[arg-type]
        for n, args in enumerate(arguments)
    ]


def refs(store: AudioStore, *digests: str) -> dict[str, Any]:
    return {"audio": [{"path": str(store.path(digest)), "sha256": digest} for digest in digests]}


def greedy_pairs(theirs: Any) -> list[tuple[str, str]]:
    """Contexts with the token that greedy decoding gives, where that is a token of its own when written out."""
    contexts = ["Mars is red", "Iron", "The moon", "carbon dioxide", "Which planet", "Jupiter is"]
    settings = {"until": [], "max_gen_toks": 1, "do_sample": False}
    answers = theirs.generate_until(instances("generate_until", [(c, settings) for c in contexts]), disable_tqdm=True)
    pairs = [(context, answer) for context, answer in zip(contexts, answers, strict=True) if answer.strip()]
    flags = theirs.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
    return [pair for pair, (_, greedy) in zip(pairs, flags, strict=True) if greedy]


# --- text: what lm-eval's own model finds ----------------------------------------------------------------------------


def test_log_probabilities_and_greediness_are_lm_evals(text: Any, theirs: Any) -> None:
    pairs = [*PAIRS, *greedy_pairs(theirs)]
    asked = instances("loglikelihood", pairs)
    expected, found = theirs.loglikelihood(asked, disable_tqdm=True), text.loglikelihood(asked)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert {greedy for _, greedy in found} == {True, False}


def test_greediness_of_options_is_computed_where_it_is_asked_for(folder: Path, text: Any, theirs: Any) -> None:
    from salad_eval.lm_eval_bridge.models import SaladTextLM

    context, answer = greedy_pairs(theirs)[0]
    options = instances("loglikelihood", [(context, answer), (context, " xyz")], one_document=True)
    assert [greedy for _, greedy in text.loglikelihood(options)] == [False, False]
    asked = SaladTextLM(pretrained=str(folder), greedy=True)
    assert [greedy for _, greedy in asked.loglikelihood(options)] == [True, False]


@pytest.mark.parametrize("words", [1, 20, 90])  # within the model's length, and in two and more windows
def test_rolling_log_probabilities_are_lm_evals(text: Any, theirs: Any, words: int) -> None:
    documents = [("the lazy dog barks at Mars " * words,), ("Iron rusts.",)]
    asked = instances("loglikelihood_rolling", documents)
    expected = theirs.loglikelihood_rolling(asked, disable_tqdm=True)
    assert text.loglikelihood_rolling(asked) == pytest.approx(expected, abs=1e-3)


def test_generation_is_lm_evals(text: Any, theirs: Any) -> None:
    settings = [
        {"until": ["e", "\n"], "max_gen_toks": 12, "do_sample": False},
        {"until": "a", "max_gen_toks": 5, "temperature": 0.0},
    ]
    arguments = [(context, setting) for context, _ in PAIRS if context for setting in settings]
    asked = instances("generate_until", arguments)
    expected = [theirs.generate_until([one], disable_tqdm=True)[0] for one in asked]
    assert text.generate_until(asked) == expected


def test_chat_templates_are_lm_evals(text: Any, theirs: Any) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which metal?"}]
    assert text.apply_chat_template(turns) == theirs.apply_chat_template(turns)
    assert text.chat_template(True) == CHAT
    assert text.tokenizer_name.startswith("salad-text-")
    prompt = text.apply_chat_template(turns)
    asked = instances("loglikelihood", [(prompt, " iron")])
    expected = theirs.loglikelihood(asked, disable_tqdm=True)
    assert text.loglikelihood(asked)[0][0] == pytest.approx(expected[0][0], abs=1e-4)


def test_sampling_is_refused(text: Any) -> None:
    for settings in ({"do_sample": True}, {"temperature": 0.7}):
        with pytest.raises(ModelError, match=r"task, document 0: generation_kwargs ask for sampling"):
            text.generate_until(instances("generate_until", [("x", settings)]))


# --- speech: what our own system finds -------------------------------------------------------------------------------


def spoken(store: AudioStore, *digests: str) -> tuple[str, dict[str, Any]]:
    return f"Question: {' then '.join(map(marker, digests))}\nAnswer:", refs(store, *digests)


def test_spoken_requests_are_the_systems_own(speech: Any, store: AudioStore) -> None:
    a, b = sound(store, 1), sound(store, 2)
    arguments = [
        (context, option, audio)
        for context, audio in (spoken(store, a), spoken(store, b), spoken(store, a, b))
        for option in (" a", " b")
    ]
    found = speech.loglikelihood(instances("loglikelihood", arguments, one_document=True))

    def prompt(*digests: str) -> Request:
        segments: list[Any] = [TextSegment("Question: ")]
        for n, digest in enumerate(digests):
            segments += [TextSegment(" then ")] if n else []
            segments.append(AudioSegment(store.get(digest), digest))
        return Request("x", (*segments, TextSegment("\nAnswer:")), (" a", " b"))

    expected = speech.system.loglikelihoods([prompt(a), prompt(b), prompt(a, b)])
    assert [value for value, _ in found] == pytest.approx([value for row in expected for value in row], abs=1e-4)
    assert found[0][0] != found[2][0], "another sound, another number"
    settings = {"until": [], "max_gen_toks": 4, "do_sample": False}
    generated = speech.generate_until(instances("generate_until", [(*spoken(store, a)[:1], settings, refs(store, a))]))
    assert generated == speech.system.generate([prompt(a)], max_new_tokens=4, stop=())


def test_text_and_spoken_requests_may_come_mixed(speech: Any, store: AudioStore) -> None:
    a = sound(store, 1)
    context, audio = spoken(store, a)
    mixed = [("Question: who?\nAnswer:", " a"), (context, " a", audio), ("Question: who?\nAnswer:", " b")]
    found = [value for value, _ in speech.loglikelihood(instances("loglikelihood", mixed))]
    alone = [speech.loglikelihood(instances("loglikelihood", [one]))[0][0] for one in mixed]
    assert found == pytest.approx(alone, abs=1e-4)


def test_text_requests_are_those_of_its_language_model(speech: Any, theirs: Any) -> None:
    asked = instances("loglikelihood", PAIRS[:3])
    found = [value for value, _ in speech.loglikelihood(asked)]
    requests = [Request("x", (TextSegment(context),), (option,)) for context, option in PAIRS[:3]]
    assert found == pytest.approx([row[0] for row in speech.system.loglikelihoods(requests)], abs=1e-4)
    assert speech.loglikelihood_rolling(instances("loglikelihood_rolling", [("abc",)]))[0] < 0


def test_a_cascade_reads_what_its_recogniser_hears(tiny_models: dict[str, Path], store: AudioStore) -> None:
    from salad_eval.lm_eval_bridge.models import SaladCascadeLM

    cascade = SaladCascadeLM(pretrained=str(tiny_models["base"]), asr=str(tiny_models["asr"]), device="cpu")
    digest = sound(store, 3)
    context, audio = spoken(store, digest)
    heard = cascade.system.asr.transcribe([store.get(digest)])[0].strip()
    (spoken_value, _), (read_value, _) = cascade.loglikelihood(
        instances("loglikelihood", [(context, " a", audio), (f"Question: {heard}\nAnswer:", " a")])
    )
    assert spoken_value == pytest.approx(read_value, abs=1e-5)
    assert cascade.tokenizer is cascade.system.text.tokenizer


def test_speech_llms_of_transformers_hear_and_read_too(speech: Any, store: AudioStore, tmp_path: Path) -> None:
    """Any registered speech system stands behind ``salad-speech``; here a tiny Qwen2-Audio."""
    import copy

    from lm_eval.models.huggingface import HFLM

    from salad_eval.systems.speech.system import SpeechLLMSystem
    from tests.salad_eval.systems.speech import test_qwen2_audio as qwen2_audio

    checks = qwen2_audio.TestQwen2Audio
    checks.save(tmp_path / "audio_llm")
    model = copy.copy(speech)
    model.system = system = SpeechLLMSystem(str(tmp_path / "audio_llm"), device="cpu")
    digest = sound(store, 1)
    context, audio = spoken(store, digest)
    found = model.loglikelihood(
        instances("loglikelihood", [(context, o, audio) for o in (" a", " b")], one_document=True)
    )
    segments = (TextSegment("Question: "), AudioSegment(store.get(digest), digest), TextSegment("\nAnswer:"))
    (expected,) = system.loglikelihoods([Request("x", segments, (" a", " b"))])
    assert [value for value, _ in found] == pytest.approx(expected, abs=1e-4)

    checks.save_text_lm(system.llm.model, tmp_path / "text_llm")
    model.tokenizer.save_pretrained(tmp_path / "text_llm")
    text_llm = HFLM(pretrained=str(tmp_path / "text_llm"), dtype="float32", device="cpu", batch_size=1)
    asked = instances("loglikelihood_rolling", [("Which planet has rings? Saturn.",)])
    assert model.loglikelihood_rolling(asked) == pytest.approx(
        text_llm.loglikelihood_rolling(asked, disable_tqdm=True), abs=1e-3
    )


# --- no way past the audio -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["loglikelihood", "generate_until"])
@pytest.mark.parametrize("fault", ["no audio", "empty", "no marker", "missing file", "damaged", "array"])
def test_a_spoken_request_is_never_answered_from_text(speech: Any, store: AudioStore, fault: str, method: str) -> None:
    digest = sound(store, 4)
    context, audio = spoken(store, digest)
    third: tuple[Any, ...] = (audio,)
    if fault == "no audio":
        third = ()
    elif fault == "empty":
        third = ({"audio": []},)
    elif fault == "no marker":
        context = "Question: who?\nAnswer:"
    elif fault == "missing file":
        store.path(digest).unlink()
    elif fault == "damaged":
        store.path(digest).write_bytes(store.path(sound(store, 5)).read_bytes())
    else:
        third = ({"audio": [np.zeros(3, dtype=np.float32)]},)
    second: Any = " a" if method == "loglikelihood" else {"until": [], "max_gen_toks": 2, "do_sample": False}
    with pytest.raises(AudioError):
        getattr(speech, method)(instances(method, [(context, second, *third)]))


def test_a_text_model_does_not_hear(text: Any, store: AudioStore) -> None:
    context, audio = spoken(store, sound(store, 6))
    with pytest.raises(ModelError, match=r"salad-text reads text\. Use --model salad-speech"):
        text.loglikelihood(instances("loglikelihood", [(context, " a", audio)]))
    with pytest.raises(ModelError, match="there is none of speech"):
        text.loglikelihood_rolling(instances("loglikelihood_rolling", [(context,)]))


# --- lm-eval's response cache ----------------------------------------------------------------------------------------


class Counting:
    """A system that says how many requests it was asked."""

    def __init__(self, system: Any) -> None:
        self.system, self.n = system, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.system, name)

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        self.n += len(requests)
        found: list[tuple[float, ...]] = self.system.loglikelihoods(requests)
        return found


def test_the_cache_tells_models_and_sounds_apart(
    speech: Any, tiny_models: dict[str, Path], store: AudioStore, tmp_path: Path
) -> None:
    from lm_eval.api.model import CachingLM

    from salad_eval.lm_eval_bridge.models import SaladSpeechLM

    other_folder = tmp_path / "other"
    shutil.copytree(tiny_models["speech"], other_folder)
    models = [speech, SaladSpeechLM(pretrained=str(other_folder), max_length=100)]
    a, b = spoken(store, sound(store, 1)), spoken(store, sound(store, 2))
    asked = instances("loglikelihood", [(c, o, audio) for c, audio in (a, b) for o in (" a", " b")], one_document=True)
    for round_, counts in enumerate(([2, 2], [0, 0])):
        for model, n in zip(models, counts, strict=True):
            model.system, plain = Counting(model.system), model.system
            cached = CachingLM(model, str(tmp_path / "cache.db"))
            found = cached.loglikelihood(asked)
            assert model.system.n == n, "a second model is not given the first one's answers, the same one its own"
            assert len({value for value, _ in found}) == 4
            cached.dbdict.close()
            model.system = plain
            assert round_ in (0, 1)
    with sqlite3.connect(tmp_path / "cache.db") as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert len([name for name in tables if name.startswith("salad-")]) == 2


# --- arguments -------------------------------------------------------------------------------------------------------


def test_lm_eval_makes_our_models_by_name(folder: Path) -> None:
    from lm_eval.api.registry import get_model

    register_models()
    register_models()
    for name in MODELS:
        assert name == get_model(name).NAME
    assert get_model("hf").__name__ == "HFLM", "lm-eval's own models are still there"
    lm_evals = {"batch_size": 1, "max_batch_size": None, "device": "cuda:0"}
    made = get_model("salad-text").create_from_arg_obj({"pretrained": str(folder), "dtype": "float32"}, lm_evals)
    again = get_model("salad-text").create_from_arg_string(f"pretrained={folder},device=cpu", lm_evals)
    assert made.system.fingerprint() == again.system.fingerprint()
    info = made.get_model_info()
    assert info["model_fingerprint"] == made.system.fingerprint()


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        ("SaladTextLM", {}, UserInputError, "model_args has no pretrained.*pretrained=nano"),
        ("SaladTextLM", {"pretrained": "nano", "dtyp": "float32"}, UserInputError, "did you mean 'dtype'"),
        ("SaladTextLM", {"pretrained": "nano", "system": "hf-txt"}, UnknownNameError, "did you mean 'hf-text'"),
        ("SaladSpeechLM", {"pretrained": "/no/such/folder"}, UserInputError, "no model folder"),
        ("SaladCascadeLM", {"pretrained": "/x"}, UserInputError, "model_args has no asr"),
        ("SaladCascadeLM", {"pretrained": "nano", "asr_system": "whispr"}, UnknownNameError, "whispr"),
        ("SaladCascadeLM", {"pretrained": "nano", "asr_devic": "cpu"}, UserInputError, "devic"),
    ],
)
def test_wrong_arguments_are_named(model: str, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    from salad_eval.lm_eval_bridge import models

    with pytest.raises(error, match=message):
        getattr(models, model)(**arguments)


def test_a_chat_template_that_cannot_be_used_is_refused(
    folder: Path, tmp_path: Path, tiny_models: dict[str, Path]
) -> None:
    from salad_eval.lm_eval_bridge.models import SaladTextLM

    without = SaladTextLM(pretrained=str(tiny_models["base"]))
    for ask in (without.chat_template, without.apply_chat_template):
        with pytest.raises(ModelError, match=r"its tokenizer has none\. Leave the flag out"):
            ask([{"role": "user", "content": "x"}])  # type: ignore[operator]
    twice = SaladTextLM(pretrained=str(folder), chat_template=True)
    with pytest.raises(ModelError, match=r"would wrap them twice.*chat_template=false"):
        twice.chat_template(True)
    assert without.chat_template(False) is None


def test_a_log_probability_that_is_no_number_stops_the_run(text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text.system, "loglikelihoods", lambda requests: [(float("nan"),)])
    with pytest.raises(ModelError, match="log-probability nan"):
        text.loglikelihood(instances("loglikelihood", [("a", " b"), ("a", " b")], one_document=True)[:1])
