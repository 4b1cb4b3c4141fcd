"""The typed plan: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from salad_eval.errors import UnknownNameError, UserInputError
from salad_eval.pipeline.plan import DEFAULT_RESAMPLES, Plan
from salad_eval.validation import parse_setting, with_overrides

SMALL: dict[str, Any] = {
    "tasks": ["t"],
    "voices": ["en-us"],
    "tts": {"name": "pyttsx3"},
    "asr": {"name": "transformers-ctc", "options": {"pretrained": "x"}},
    "base": {"system": "hf-text", "options": {"pretrained": "x"}},
    "adapted": {"system": "salad", "options": {"pretrained": "x"}},
}


def test_defaults() -> None:
    plan = Plan.from_mapping(SMALL)
    assert (plan.split, plan.limit, plan.seed, plan.conditions, plan.n_resamples) == (
        "test",
        None,
        0,
        ("clean",),
        DEFAULT_RESAMPLES,
    )
    assert (plan.shots, plan.spoken_shots, plan.score, plan.slice_fields, plan.created) == (
        None,
        None,
        None,
        None,
        None,
    )
    assert plan.folder == Path("runs/run")


def test_the_nano_preset() -> None:
    plan = Plan.preset("nano")
    assert (plan.name, plan.tasks, plan.split, plan.voices) == (
        "nano",
        ("salad_nano",),
        "test",
        ("en-us+f3", "en-us+m7"),
    )
    assert (plan.tts.name, plan.asr.name, plan.asr.options) == (
        "pyttsx3",
        "transformers-ctc",
        {"pretrained": "nano/asr"},
    )
    assert (plan.base.system, plan.base.options) == ("hf-text", {"pretrained": "nano/base"})
    assert (plan.adapted.system, plan.adapted.options) == ("salad", {"pretrained": "nano/speech"})


def test_the_presets_voices_are_those_nobody_trained_on() -> None:
    from salad_train.nano.world import EVALUATION_VOICES, TRAINING_VOICES

    assert Plan.preset("nano").voices == EVALUATION_VOICES
    assert not {voice.partition(",")[0] for voice in TRAINING_VOICES} & set(EVALUATION_VOICES)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"voises": ["x"]}, "unknown key 'voises'; did you mean 'voices'?"),
    "unknown nested key": ({"base.option": {}}, "unknown key 'base.option'; did you mean 'options'? (known: system, options)"),
    "name where a table belongs": ({"tts": "pyttsx3"}, "tts is 'pyttsx3': "),
    "text where a number belongs": ({"limit": "ten"}, "limit is 'ten': input should be a valid integer"),
    "number where a text belongs": ({"base.system": 3}, "base.system is 3: input should be a valid string"),
    "a number too small": ({"limit": 0}, "limit is 0: input should be greater than or equal to 1"),
    "a negative seed": ({"seed": -1}, "seed is -1: "),
    "negative shots": ({"shots": -1}, "shots is -1: "),
    "too few resamples": ({"n_resamples": 10}, "n_resamples is 10: "),
    "true is no number": ({"limit": True}, "limit is True: "),
    "unknown score": ({"score": "acc"}, "score is 'acc': input should be 'll', 'll_norm', 'll_bytes'"),
    "nothing spoken": ({"speak": "none"}, "speak is 'none': input should be 'context' or 'context+choices'"),
    "a data folder without a name": ({"data_dir": ""}, "data_dir is '': "),
    "no tasks": ({"tasks": []}, "tasks is []: "),
    "an empty name": ({"voices": [""]}, "voices.0 is '': "),
    "a voice twice": ({"voices": ["a", "a"]}, "voices names 'a' twice"),
    "unknown perturbation": ({"perturbations": ["clean", "nose,snr=1"]}, "conditions.1 is 'nose,snr=1': unknown perturbation 'nose'"),
    "a perturbation's setting": ({"perturbations": "noise,snr=loud"}, "snr is 'loud', expected a number from -20 to 60."),
    "a comma YAML took for its own": ({"perturbations": ["noise", "snr=10"]}, "snr is missing, expected 'noise,snr=N' (in quotes"),
    "an empty perturbation": ({"perturbations": [""]}, "conditions.0 is '': "),
    "no perturbations": ({"perturbations": []}, "conditions is []: "),
    "a perturbation twice": ({"perturbations": ["noise,snr=10", "noise, snr=10.0"]}, "conditions names 'noise,snr=10' twice"),
    "several faults": ({"seed": -1, "shots": -1}, "shots is -1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_fault_is_named_with_its_value_and_what_was_expected(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(UserInputError) as caught:
        Plan.from_mapping(with_overrides(SMALL, changes), "my plan")
    assert message in str(caught.value)
    assert str(caught.value).startswith("my plan: ")
    assert not str(caught.value).endswith("..")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("key", [key for key in SMALL if key not in ("voices", "tts")])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(UserInputError, match=f"the key '{key}' is missing"):
        Plan.from_mapping({name: value for name, value in SMALL.items() if name != key})


def test_a_plan_of_recordings_needs_no_voices_and_no_tts() -> None:
    plan = Plan.from_mapping({name: value for name, value in SMALL.items() if name not in ("voices", "tts")})
    assert (plan.voices, plan.tts) == ((), None)


def test_one_name_stands_for_a_list_of_one() -> None:
    plan = Plan.from_mapping({**SMALL, "tasks": "t", "voices": "en-us"})
    assert (plan.tasks, plan.voices) == (("t",), ("en-us",))


def test_equal_conditions_are_one_and_their_earlier_name_is_read() -> None:
    plan = Plan.from_mapping({**SMALL, "conditions": ["clean", "noise, snr=10.0", "telephone"]})
    assert plan.conditions == ("clean", "noise,snr=10", "telephone")
    assert Plan.from_mapping(plan.model_dump(mode="json")) == plan
    assert Plan.from_mapping({**SMALL, "perturbations": "noise,snr=1e1"}).conditions == ("noise,snr=10",)
    with pytest.raises(UserInputError, match="two names of one key"):
        Plan.from_mapping({**SMALL, "perturbations": ["clean"], "conditions": ["clean"]})


SETTINGS = {
    "limit=5": ("limit", 5),
    "base.options.dtype=bfloat16": ("base.options.dtype", "bfloat16"),
    "voices=[a, b]": ("voices", ["a", "b"]),
    "perturbations=noise,snr=10": ("perturbations", "noise,snr=10"),
    "perturbations=[clean, 'noise,snr=10']": ("perturbations", ["clean", "noise,snr=10"]),
    "base.options.pretrained=a=b": ("base.options.pretrained", "a=b"),
    "score=": ("score", None),
    "spoken_shots=true": ("spoken_shots", True),
}


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_are_read_as_yaml(text: str) -> None:
    assert parse_setting(text) == SETTINGS[text]


@pytest.mark.parametrize("text", ["limit", "=5", "limit=[", ""])
def test_a_malformed_setting_is_explained(text: str) -> None:
    with pytest.raises(UserInputError, match="--set"):
        parse_setting(text)


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    table = {"a": 1, "b": {"c": 2, "d": 3}}
    assert with_overrides(table, {"b.c": 5, "e.f.g": 6}) == {"a": 1, "b": {"c": 5, "d": 3}, "e": {"f": {"g": 6}}}
    assert table == {"a": 1, "b": {"c": 2, "d": 3}}
    with pytest.raises(UserInputError, match="'a' is 1, which has no keys below it"):
        with_overrides(table, {"a.b": 1})


def test_a_plan_file_round_trips(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(SMALL))
    plan = Plan.from_yaml(file, {"limit": 3})
    assert (plan.name, plan.limit) == ("mine", 3)
    (tmp_path / "plan.json").write_text(json.dumps(plan.model_dump(mode="json")))
    assert Plan.from_yaml(tmp_path / "plan.json") == plan


BAD_FILES = {
    "tasks: [": "is not valid YAML",
    "- a\n": "a plan is a mapping",
    "": "a plan is a mapping",
    "1: 2\n": "a plan is a mapping",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_bad_file_is_explained(text: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    with pytest.raises(UserInputError, match=BAD_FILES[text]):
        Plan.from_yaml(file)


def test_unknown_plans_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown preset 'nana'; did you mean 'nano'"):
        Plan.preset("nana")
    with pytest.raises(UserInputError, match="no plan at"):
        Plan.from_yaml(tmp_path / "nowhere.yaml")


# --- what was typed wrong in a way that PyYAML or pydantic does not put into words -----------------------------------

TYPOS = {
    "Seed=1": "unknown key 'Seed'; did you mean 'seed'?",
    "base.Foo=1": "unknown key 'base.Foo' (known: system, options)",
    "name=2024-01-13": "name is datetime.date(2024, 1, 13): ",
}


@pytest.mark.parametrize("text", TYPOS)
def test_a_typo_is_named(text: str) -> None:
    with pytest.raises(UserInputError) as caught:
        Plan.from_mapping(with_overrides(SMALL, dict([parse_setting(text)])))
    assert TYPOS[text] in str(caught.value)


@pytest.mark.parametrize("value", ["2024-13-01", "0b_", "!!bool x", "[" * 2000])
def test_yaml_that_is_none_is_said_in_a_sentence(value: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(f"name: {value}\n")
    for attempt in (lambda: parse_setting(f"name={value}"), lambda: Plan.from_yaml(tmp_path / "plan.yaml")):
        with pytest.raises(UserInputError, match="is not valid YAML"):
            attempt()


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("-2E+3", -2000.0), ("1.5e2", 150.0), ("'1e-4'", "1e-4"), ("e5", "e5")]
)
def test_a_number_with_an_exponent_is_a_number(text: str, value: object) -> None:
    assert parse_setting(f"x={text}") == ("x", value)


def test_a_plan_is_anchored_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = Plan.from_mapping({**SMALL, "tasks": ["salad_nano", "mine/quiz.yaml"], "audio_store": "audio"})
    anchored = plan.anchored()
    assert anchored.tasks == ("salad_nano", str(tmp_path / "mine/quiz.yaml"))
    assert (anchored.audio_store, anchored.data_dir) == (str(tmp_path / "audio"), None)
    assert anchored.anchored() == anchored
