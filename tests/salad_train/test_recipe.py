"""Recipes: those that ship, what a YAML may say, how faults are told, and where documents and speech come from."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from salad_eval.audio.sound import write_audio
from salad_eval.audio.store import AudioStore
from salad_eval.errors import DataError, UnknownNameError, UserInputError
from salad_eval.pipeline.cluster import RayWorkers
from salad_eval.pipeline.executor import InProcess, WorkerProcesses
from salad_eval.types import Audio
from salad_eval.validation import parse, parse_setting
from salad_train.cli.options import engine_keys
from salad_train.nano import train as nano_train
from salad_train.nano import world as nano_world
from salad_train.recipe import (
    Recipe,
    checkpoint_before_decay,
    known_recipes,
    load_recipe,
    natural_source,
    replay_documents,
    stage2_data,
    voice_of,
    workshop_of,
)
from salad_train.speech.interleave import WordRange
from salad_train.speech.manifests import Recording, TimedWord
from salad_train.speech.natural import NaturalSpeaker
from salad_train.speech.speaker import TTSSpeaker
from salad_train.speech.utterances import Utterance
from salad_train.training.batches import BatchLimits
from salad_train.training.stage_plan import AdapterSize, Stage1Plan
from salad_train.training.stages import SpeechSource, borders_of
from salad_train.types import TextDocument

SMALL: dict[str, Any] = {
    "natural": {"documents": {"source": "nano/narrow_speech"}},
    "text": {"source": "nano/corpus"},
    "corpus": {"source": "nano/corpus"},
    "stage1": {"base": "b", "encoder": "e", "voices": ["v"], "train": {"steps": 10}},
    "stage2": {"init": "i", "base": "b", "voices": ["v"], "train": {"steps": 5}},
}


def write(path: Path, table: object) -> Path:
    path.write_text(yaml.safe_dump(table), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def one_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded corpus is made once for all these tests."""
    monkeypatch.setattr(nano_world, "corpus", _corpus)


_corpus = functools.cache(nano_world.corpus)


# --- those that ship -------------------------------------------------------------------------------------------------


def test_what_ships() -> None:
    assert known_recipes() == ("nano", "qwen2.5-0.5b", "qwen2.5-3b", "qwen2.5-7b")
    assert all(load_recipe(name).name == name for name in known_recipes())


# The paper's hyper-parameters, as digested.
REPORTED: dict[str, tuple[float, float]] = {"qwen2.5-3b": (1e-3, 5e-5), "qwen2.5-7b": (1e-4, 5e-6)}


@pytest.mark.parametrize("name", [name for name in known_recipes() if name != "nano"])
def test_the_qwen_recipes_state_what_the_paper_reports(name: str) -> None:
    recipe = load_recipe(name)
    one, two = recipe.stage1, recipe.stage2
    size = name.rpartition("-")[2].upper()
    assert (one.base, one.encoder, two.base) == (f"Qwen/Qwen2.5-{size}", "kyutai/mimi", f"Qwen/Qwen2.5-{size}")
    assert one.adapter == AdapterSize(960, 2560, 12, 15, 5)
    assert (one.interleave.text, one.interleave.speech) == (WordRange(10, 30), WordRange(5, 15))
    assert two.interleave == one.interleave
    for stage, tokens in ((one, 24e9), (two, 1.9e9)):
        a_step = stage.limits.tokens * stage.train.micro_batches
        assert a_step == 2**20
        assert stage.train.steps * a_step == pytest.approx(tokens, abs=a_step)
        assert (stage.train.alpha, stage.train.weight_decay, stage.train.decay_share) == (1.0, 0.1, 0.2)
        assert (stage.train.muon_lr, stage.train.tune, stage.replay_share) == (0.0, "full", pytest.approx(1 / 3))
        assert (stage.train.adapter_lr, stage.train.lm_lr) == REPORTED.get(name, REPORTED["qwen2.5-3b"])
    assert one.train.warmup_steps == 500
    assert two.selected_share == two.natural_share == pytest.approx(two.replay_share)
    assert recipe.corpus.source == "HuggingFaceFW/fineweb-edu"


@pytest.mark.parametrize("name", [name for name in known_recipes() if name != "nano"])
def test_stage_two_goes_on_from_where_stage_one_leaves_its_state_before_the_decay(name: str) -> None:
    recipe = load_recipe(name)
    left = recipe.folder(1)
    assert recipe.stage2.init == str(left / "model")
    assert recipe.stage2.checkpoint == str(left / "checkpoints" / f"step-{recipe.stage1.train.decay_start:07d}")


@pytest.mark.parametrize("name", [name for name in known_recipes() if name != "nano"])
def test_recordings_are_yours_to_state(name: str) -> None:
    with pytest.raises(UserInputError, match=r"--set natural\.recordings\.libriheavy\.source="):
        natural_source(load_recipe(name))
    with pytest.raises(UserInputError, match=r"--set natural\.recordings\.emilia\.source="):
        natural_source(load_recipe(name, {"natural.recordings.libriheavy": None}))
    with pytest.raises(UserInputError, match=r"natural has neither recordings nor documents"):
        load_recipe(name, {"natural.recordings.libriheavy": None, "natural.recordings.emilia": None})


@pytest.fixture
def nano_stage1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What ``salad nano train`` hands to Stage I."""
    found: dict[str, Any] = {}

    def stage1(plan: Stage1Plan, heard: SpeechSource, replay: Any, out: Path) -> Path:
        found.update(plan=plan, heard=heard, replay=replay)
        (out / "model").mkdir(parents=True)
        (out / "speech.json").write_text('{"heard": {"examples": 1, "seconds": 1.0}}')
        return out / "model"

    monkeypatch.setattr(nano_train, "stage1", stage1)
    plan = nano_train.NanoPlan()
    documents = nano_world.corpus(plan.seed)
    nano_train.train_speech(plan, documents, Path("nano"), tmp_path / "out", tmp_path, AudioStore(tmp_path / "audio"))
    return found


def test_the_nano_recipe_is_what_made_the_shipped_model(nano_stage1: dict[str, Any]) -> None:
    recipe = load_recipe("nano")
    made_by: Stage1Plan = nano_stage1["plan"]
    # The one makes the models, the other begins with them by name.
    assert recipe.stage1 == dataclasses.replace(made_by, base="nano/base", encoder="nano/asr")
    heard: SpeechSource = nano_stage1["heard"]
    ours = natural_source(recipe)
    assert [(d.id, d.text) for d in ours.documents] == [(d.id, d.text) for d in heard.documents]
    assert heard.preferred is not None
    for one, theirs in zip(ours.documents[::50], heard.documents[::50], strict=True):
        assert list(borders_of(one) or ()) == list(heard.preferred(theirs) or ())
    said = Utterance("x", "gold", "en-us+m1", 0, 4)
    assert ours.speaker.key(said) == heard.speaker.key(said)
    assert [(d.id, d.text) for d in replay_documents(recipe)] == [(d.id, d.text) for d in nano_stage1["replay"]]


def test_the_nano_recipe_s_second_stage_speaks_as_its_first() -> None:
    recipe = load_recipe("nano")
    for name in ("voices", "append_eos"):
        assert getattr(recipe.stage2, name) == getattr(recipe.stage1, name), name
    assert (recipe.stage2.init, recipe.stage2.base) == ("nano/speech", "nano/base")


# --- what a YAML may say ---------------------------------------------------------------------------------------------


def test_a_recipe_of_one_s_own(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "mine.yaml", SMALL))
    assert (recipe.name, recipe.folder(2)) == ("mine", Path("runs/mine/stage2"))
    assert recipe.stage1.adapter == AdapterSize()
    assert recipe.on_device("cuda").stage2.device == "cuda"
    assert recipe.stage2.device == "cpu"


SETTINGS: dict[str, tuple[dict[str, Any], Any]] = {
    "stage1.train.steps": ({"stage1.train.steps": 3}, lambda r: r.stage1.train.steps == 3),
    "the stage that is named": ({"stage1.interleave.prefer": 0.1}, lambda r: r.stage1.interleave.prefer == 0.1),
    "and no other": ({"stage1.interleave.prefer": 0.3}, lambda r: r.stage2.interleave.prefer == 0.1),
    "a list": ({"stage2.voices": ["a", "b"]}, lambda r: r.stage2.voices == ("a", "b")),
    "a table": ({"stage1.limits": {"tokens": 5, "sequences": 2}}, lambda r: r.stage1.limits == BatchLimits(5, 2)),
    "a number that YAML 1.1 misreads": (
        dict([parse_setting("stage1.train.lm_lr=5e-5")]),
        lambda r: r.stage1.train.lm_lr == 5e-5,
    ),
    "a whole number for a share": ({"stage1.replay_share": 0}, lambda r: r.stage1.replay_share == 0.0),
    "several sources": ({"corpus.source": ["a.jsonl", "b.jsonl"]}, lambda r: r.corpus.sources == ("a.jsonl", "b.jsonl")),
    "options of a plug-in": ({"voice.options.rate": 150}, lambda r: r.voice.options == {"rate": 150}),
    "LoRA": ({"stage1.train.tune": "lora", "stage1.train.lora.r": 4}, lambda r: r.stage1.train.lora.r == 4),
    "recordings for documents": (
        {"natural.documents": None, "natural.recordings.a.source": "x"},
        lambda r: r.natural.manifests["a"].source == "x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS)
def test_any_key_can_be_set(case: str) -> None:
    changes, is_so = SETTINGS[case]
    assert is_so(load_recipe("nano", changes))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"stage3": {}}, "unknown key 'stage3'; did you mean 'stage2'? (known: name, stage1, stage2, natural,"),
    "unknown nested key": ({"stage1.train.step": 1}, "unknown key 'stage1.train.step'; did you mean 'steps'?"),
    "unknown key of a manifest": ({"natural.recordings.a.sauce": "x"}, "unknown key 'natural.recordings.a.sauce'; did you mean 'source'?"),
    "unknown key of the aligner": (
        {"natural.aligner": {"pretrained": "x", "min_confidense": 1}},
        "unknown key 'natural.aligner.min_confidense'; did you mean 'min_confidence'?",
    ),
    "a missing key": ({"natural.aligner": {}}, "the key 'natural.aligner.pretrained' is missing"),
    "text for a number": ({"stage1.train.steps": "many"}, "stage1.train.steps is 'many': input should be a valid integer"),
    "a fraction for a whole number": ({"stage1.train.steps": 1.5}, "stage1.train.steps is 1.5: input should be a valid integer"),
    "true for a number": ({"stage1.train.steps": True}, "stage1.train.steps is True: input should be a valid integer"),
    "a number for a text": ({"stage1.base": 3}, "stage1.base is 3: input should be a valid string"),
    "a text for a table": ({"stage1.limits": "big"}, "stage1.limits is 'big': input should be an object"),
    "no voice": ({"stage1.voices": []}, "voices is empty"),
    "an unknown way to tune": ({"stage2.train.tune": "some"}, "stage2.train.tune is 'some': input should be 'adapter', 'lora' or 'full'"),
    "no steps": ({"stage1.train.steps": 0}, "steps is 0"),
    "an impossible span": ({"stage1.interleave.text": {"low": 5, "high": 2}}, "a span of 5 to 2 words"),
    "no worker": ({"voice.workers": 0}, "workers is 0"),
    "both kinds of speech": ({"natural.recordings.a.source": "x"}, "natural has both recordings and documents"),
    "two faults": ({"stage1.base": 3, "stage2.base": 4}, "stage2.base is 4"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_fault_names_its_key_and_what_was_expected(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(UserInputError) as caught:
        load_recipe("nano", changes)
    assert str(caught.value).startswith("recipe nano: ")
    assert message in str(caught.value)


def test_what_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'nan'; did you mean 'nano'\?"):
        load_recipe("nan")
    with pytest.raises(UserInputError, match="no recipe at"):
        load_recipe(tmp_path / "gone.yaml")
    with pytest.raises(UserInputError, match="this file holds a list"):
        load_recipe(write(tmp_path / "list.yaml", [1]))
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(UserInputError, match="is not valid YAML"):
        load_recipe(tmp_path / "broken.yaml")
    with pytest.raises(UserInputError, match="the key 'stage2' is missing"):
        load_recipe(write(tmp_path / "half.yaml", {key: value for key, value in SMALL.items() if key != "stage2"}))
    with pytest.raises(UserInputError, match="expected a mapping"):
        parse(Recipe, None, "it")
    with pytest.raises(UserInputError, match="no text, number, list or table"):
        load_recipe("nano", {"name": {1, 2}})


# --- Stage I's leavings ----------------------------------------------------------------------------------------------


def test_stage_two_can_go_on_from_any_stage_one(tmp_path: Path) -> None:
    recipe = load_recipe("nano")
    with pytest.raises(UserInputError, match="holds no finished Stage I"):
        recipe.after(tmp_path)
    (tmp_path / "model").mkdir()
    assert checkpoint_before_decay(tmp_path) is None
    assert (recipe.after(tmp_path).stage2.init, recipe.after(tmp_path).stage2.checkpoint) == (
        str(tmp_path / "model"),
        None,
    )
    for step, keep in ((100, False), (150, True), (180, False)):
        folder = tmp_path / "checkpoints" / f"step-{step:07d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"step": step, "keep": keep}))
    assert recipe.after(tmp_path).stage2.checkpoint == str(tmp_path / "checkpoints" / "step-0000150")


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two recordings, one with times for its words."""
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    write_audio(tmp_path / "a.wav", Audio(0.1 * noise, 16_000))
    timed = {"id": "r1", "audio": "a.wav", "text": "One two", "words": [["one", 0.1, 0.4], ["two", 0.5, 0.9]]}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (timed, {"id": "r2", "audio": "a.wav", "text": "Six"})))
    return path


def test_recordings_of_several_manifests_are_one_source(manifest: Path) -> None:
    changes = {"natural.documents": None, **{f"natural.recordings.{name}.source": str(manifest) for name in "ab"}}
    said: list[str] = []
    source = natural_source(load_recipe("nano", {**changes, "natural.recordings.b.domain": "talk"}), tell=said.append)
    assert isinstance(source.speaker, NaturalSpeaker)
    assert [(d.id, d.domain) for d in source.documents] == [("a/r1", "a"), ("b/r1", "talk")]
    assert said == ["2 recordings, 0.00 hours", "left out: 2 no_word_times, such as a/r2"]
    (sound,) = source.speaker.speak([Utterance("a/r1", "", "any", 0, 3)])
    assert sound is not None
    assert sound.seconds == pytest.approx(0.4)


def test_without_times_and_without_an_aligner_the_way_out_is_named(manifest: Path) -> None:
    manifest.write_text('{"audio": "a.wav", "text": "Six"}\n')
    changes = {"natural.documents": None, "natural.recordings.a.source": str(manifest)}
    with pytest.raises(DataError, match=r"1 no_word_times .*--set natural\.aligner\.pretrained=MODEL"):
        natural_source(load_recipe("nano", changes))


def test_an_aligner_times_what_has_no_times(manifest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from salad_train import recipe as module

    def with_times(recordings: Any, plan: Any, log: Any) -> Any:
        assert (plan.pretrained, log) == ("nano/asr", tmp_path / "work" / "alignment.jsonl")
        for one in recordings:
            yield one if one.words else dataclasses.replace(one, words=(TimedWord(0, 3, 0.0, 0.5),))

    monkeypatch.setattr(module, "with_word_times", with_times)
    changes = {
        "natural.documents": None,
        "natural.recordings.a.source": str(manifest),
        "natural.aligner.pretrained": "nano/asr",
    }
    source = natural_source(load_recipe("nano", changes), work=tmp_path / "work")
    assert [(one.id, len(one.words or ())) for one in source.documents if isinstance(one, Recording)] == [
        ("a/r1", 2),
        ("a/r2", 1),
    ]


def test_the_voice_is_the_recipe_s(tmp_path: Path) -> None:
    recipe = load_recipe("nano", {"voice.options": {"x": 1}, "audio_store": str(tmp_path / "sound")})
    voice = voice_of(recipe)
    assert isinstance(voice, TTSSpeaker)
    assert (voice.tts, voice.options, voice.store.root) == ("pyttsx3", {"x": 1}, tmp_path / "sound")
    assert voice_of(recipe, AudioStore(tmp_path / "other")).store.root == tmp_path / "other"


def test_the_work_is_done_where_the_recipe_says() -> None:
    here, afar = (workshop_of(load_recipe("nano", keys)) for keys in ({}, engine_keys("ray", "nowhere:1")))
    assert isinstance(here.models, InProcess)
    assert isinstance(here.voices(apart=False), WorkerProcesses)
    speaking = afar.voices(apart=False)
    assert isinstance(afar.models, RayWorkers)
    assert isinstance(speaking, RayWorkers)
    assert (speaking.cluster, speaking.cluster.address, speaking.workers) == (afar.models.cluster, "nowhere:1", None)
    several = workshop_of(load_recipe("nano", {"engine.models": 3, "timeout": 7.0})).models
    assert isinstance(several, WorkerProcesses)
    assert (several.workers, several.timeout) == (3, 7.0)
    with pytest.raises(UserInputError, match="timeout is 0"):
        load_recipe("nano", {"timeout": 0.0})


@pytest.mark.parametrize(
    ("changes", "n_natural", "n_replay"),
    [
        ({}, 1, None),
        ({"stage2.natural_share": 0.0}, None, None),
        ({"stage2.train.tune": "full", "stage2.train.lm_lr": 1e-4}, 1, 2),
        ({"stage2.train.tune": "full", "stage2.train.lm_lr": 1e-4, "stage2.replay_share": 0.0}, 1, None),
    ],
)
def test_stage_two_reads_only_what_has_a_share(
    changes: dict[str, Any], n_natural: int | None, n_replay: int | None, tmp_path: Path
) -> None:
    spoken, read = tmp_path / "spoken.jsonl", tmp_path / "read.jsonl"
    spoken.write_text('{"text": "A dog barked at the old man."}\n')
    read.write_text('{"text": "The old man went home."}\n{"text": "It was a dark night."}\n')
    sources = {"natural.documents.source": str(spoken), "text": {"source": str(read)}}
    recipe = load_recipe("nano", {**sources, **changes})
    documents = [TextDocument("a", "Gold is a metal.", "chemistry", (4,))]
    data = stage2_data(recipe, documents, audio=AudioStore(tmp_path / "audio"), frames=tmp_path / "frames")
    assert (data.selected.documents, data.selected.preferred, data.frames) == (
        documents,
        borders_of,
        tmp_path / "frames",
    )
    assert (None if data.natural is None else len(data.natural.documents)) == n_natural
    assert (len(data.replay) or None) == n_replay
