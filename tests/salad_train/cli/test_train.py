"""``salad train``: what it asks for, what it refuses and how it says so, and Stage II through trainer plug-ins on tiny models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from salad_eval.cli.main import main as salad
from salad_eval.errors import DataError, ModelError, SaladError, UnknownNameError, UserInputError
from salad_eval.pipeline.engines import Workshop
from salad_eval.pipeline.executor import WorkerProcesses
from salad_eval.records import read_jsonl
from salad_train.cli import train as cli_train
from salad_train.cli.train import app
from salad_train.model.loading import load_salad
from salad_train.recipe import load_recipe, voice_of
from salad_train.selection.files import write_selection
from salad_train.speech.synthesise import STATED, synthesise, tokenizer_of, write_synthesis
from salad_train.training.plan import StepLog
from salad_train.training.stages import SpeechSource
from salad_train.types import Cluster, ClusterWeight, SelectedDocument, Selection, TextDocument
from tests.helpers import speech_llm_world as world


def options(changes: dict[str, Any]) -> list[str]:
    return [part for key, value in changes.items() for part in ("--set", f"{key}={json.dumps(value)}")]


def run(*arguments: str | Path) -> str:
    """What the command prints; errors as they are raised."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


# --- what is asked for -----------------------------------------------------------------------------------------------

TWO = "--stage 2 --recipe nano --selection x"
REFUSED: dict[str, tuple[str, type[SaladError], str]] = {
    "a selection for Stage I": ("--stage 1 --recipe nano --selection x", UserInputError, "--selection belongs to --stage 2"),
    "a Stage I for Stage I": ("--stage 1 --recipe nano --stage1 x", UserInputError, "--stage1 belongs to --stage 2"),
    "a trainer for Stage I": ("--stage 1 --recipe nano --trainer dry_run", UserInputError, "--trainer dry_run belongs to --stage 2"),
    "no selection": ("--stage 2 --recipe nano", UserInputError, "--stage 2 needs --selection"),
    "a selection that is not there": ("--stage 2 --recipe nano --selection gone", DataError, "gone holds no finished selection"),
    "an unknown recipe": ("--stage 1 --recipe nono", UnknownNameError, "unknown recipe 'nono'; did you mean 'nano'?"),
    "an unknown trainer": (f"{TWO} --trainer hff", UnknownNameError, "unknown trainers plug-in 'hff'; did you mean 'hf'?"),
    "an unknown option of it": (f"{TWO} --set-trainer speed=1", UserInputError, "trainers plug-in 'hf' has no option 'speed'"),
    "a setting that is none": ("--stage 1 --recipe nano --set steps", UserInputError, "expected key=value"),
    "an unknown key": ("--stage 1 --recipe nano --set stage1.train.step=1", UserInputError, "did you mean 'steps'?"),
    "no manifest": ("--stage 1 --recipe qwen2.5-0.5b", UserInputError, "natural.recordings.libriheavy.source is not set"),
    "a Stage I that is not there": (f"{TWO} --stage1 gone", UserInputError, "gone holds no finished Stage I"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_said(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, kind, message = REFUSED[case]
    with pytest.raises(kind) as caught:
        run(*arguments.split())
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_stage_one_gets_the_recipe_s_plan_data_and_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from salad_train.training import stages

    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": doc.text}) + "\n" for doc in world.documents(4)), encoding="utf-8")
    seen: list[Any] = []

    def stage1(plan: Any, heard: SpeechSource, replay: Any, out: Path, shop: Workshop) -> Path:
        assert isinstance(shop.models, WorkerProcesses)
        seen.append((plan, len(heard.documents), len(replay), out))
        return out / "model"

    monkeypatch.setattr(stages, "stage1", stage1)
    changes = {"natural.documents.source": str(texts), "text": {"source": str(texts), "max_documents": 3}}
    said = run("--stage", "1", "--recipe", "nano", "--device", "auto", *options({**changes, "engine.models": 2}))
    plan, n_heard, n_replay, out = seen[0]
    assert (plan.device, plan.base, n_heard, n_replay, out) == ("auto", "nano/base", 4, 3, Path("runs/nano/stage1"))
    assert "4 documents to hear, 3 to read; to runs/nano/stage1" in said
    assert said.endswith("model: runs/nano/stage1/model\n")


# --- Stage II on tiny models -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> dict[str, Any]:
    """Settings that bring the recipe ``nano`` down to tiny random models and a few documents."""
    folder = tmp_path_factory.mktemp("small")
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": doc.text}) + "\n" for doc in world.documents(6)), encoding="utf-8")
    return {
        "natural.documents.source": str(texts),
        "text": {"source": str(texts)},
        "audio_store": str(folder / "audio"),
        "voice.workers": 1,
        "stage2.init": str(tiny_models["speech"]),
        "stage2.base": str(tiny_models["base"]),
        "stage2.voices": ["en-us+f3"],
        "stage2.natural_share": 0,
        "stage2.save_dtype": "float32",
        "stage2.train.steps": 2,
        "stage2.train.log_every": 1,
        "stage2.train.bf16": False,
    }


@pytest.fixture(scope="module")
def selected(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a selection of three documents, spoken."""
    folder = tmp_path_factory.mktemp("selected")
    documents = [TextDocument(f"web-{k}", doc.text, "web") for k, doc in enumerate(world.documents(3))]
    chosen = Selection(
        signal="uniform",
        gamma=0.0,
        budget_seconds=12.0,
        seed=0,
        clusters=(Cluster(0, 3, 300, ("gold",), {"web": 1.0}),),
        weights=(ClusterWeight(0, 1.0, 1.0, 1.0),),
        documents=tuple(SelectedDocument(document, 0, 1.0, "all there is", 4.0) for document in documents),
        signature="a small selection",
    )
    write_selection(chosen, folder)
    recipe = load_recipe("nano", small)
    voice = voice_of(recipe)
    made = synthesise(chosen, recipe.stage2, tokenizer_of(recipe.stage2), voice)
    write_synthesis(made, chosen, recipe.stage2, voice.fingerprint(), folder)
    return folder


def stage2(small: dict[str, Any], selected: Path, out: Path, *more: str, **changes: Any) -> str:
    stated = {**small, **{key.replace("__", "."): value for key, value in changes.items()}}
    return run(
        "--stage", "2", "--recipe", "nano", *options(stated), "--selection", selected, "--out", out, *more
    )  # fmt: skip


def test_stage_two_trains_on_what_was_selected_and_spoken(
    small: dict[str, Any], selected: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    said = stage2(small, selected, tmp_path)
    assert said.endswith(f"hf: {tmp_path / 'model'}\n")
    assert "selected documents" in said
    assert [line.step for line in read_jsonl(tmp_path / "train.jsonl", StepLog)] == [1, 2]
    before, after = load_salad(str(tiny_models["speech"]))[0], load_salad(str(tmp_path / "model"))[0]
    assert any(not torch.equal(tensor, after.state_dict()[name]) for name, tensor in before.state_dict().items())


def test_a_dry_run_trains_nothing_and_writes_what_would_be_trained_on(
    small: dict[str, Any], selected: Path, tmp_path: Path
) -> None:
    said = stage2(small, selected, tmp_path, "--trainer", "dry_run")
    assert said.splitlines()[-1].startswith("dry_run: ")
    assert not list(tmp_path.rglob("*.safetensors"))
    assert any(path.stat().st_size for path in tmp_path.rglob("documents.jsonl"))


def test_a_base_that_reads_other_tokens_is_refused(small: dict[str, Any], selected: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="different tokenizers; a teacher must read the student's tokens"):
        stage2(small, selected, tmp_path, stage2__base="nano/base")


def test_a_checkpoint_that_is_not_there_is_not_passed_over(
    small: dict[str, Any], selected: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserInputError, match=r"stage2\.checkpoint is .*gone, and no checkpoint is there"):
        stage2(small, selected, tmp_path / "out", stage2__checkpoint=str(tmp_path / "gone"))


def test_a_checkpoint_of_another_model_is_refused(small: dict[str, Any], selected: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    other = tmp_path / "step-0000001"
    other.mkdir()
    for name in ("model", "optimizer"):
        save_file({"adapter.other": torch.zeros(2)}, other / f"{name}.safetensors")
    (other / "state.json").write_text('{"step": 1, "keep": true}')
    with pytest.raises(DataError, match="another"):
        stage2(small, selected, tmp_path / "out", stage2__checkpoint=str(other))


def test_a_synthesis_must_be_there_and_be_this_selection_s(
    small: dict[str, Any], selected: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in selected.iterdir():
        if path.name != STATED:
            (bare / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserInputError, match=r"holds no finished synthesis.*`salad synthesise"):
        stage2(small, bare, tmp_path / "out")
    assert "hf: " in stage2(small, bare, tmp_path / "out", "--synthesis", str(selected))
    with pytest.raises(UserInputError, match="made by another plan"):
        stage2(small, selected, tmp_path / "other", stage2__cuts=2)
    with pytest.raises(UserInputError, match="made by another voice"):
        stage2(small, selected, tmp_path / "other", voice__options__rate=150)


def test_a_folder_in_which_something_else_was_trained_is_refused(
    small: dict[str, Any], selected: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    texts, init, out = tmp_path / "texts.jsonl", tmp_path / "speech", tmp_path / "out"
    shutil.copy(small["text"]["source"], texts)
    shutil.copytree(tiny_models["speech"], init)
    full = {"stage2.train.tune": "full", "stage2.train.lm_lr": 1e-5}  # so that text is read as well
    mine = {**small, "text": {"source": str(texts)}, "stage2.init": str(init), **full}
    said = stage2(mine, selected, out)
    assert stage2(mine, selected, out) == said  # nothing has changed: it is finished
    with texts.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"text": "One more text to be read, of a good many words."}) + "\n")
    with pytest.raises(UserInputError, match=r"holds a training of something else: other replay text\."):
        stage2(mine, selected, out)
    texts.write_text(Path(small["text"]["source"]).read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UserInputError, match="another plan"):
        stage2(mine, selected, out, stage2__train__steps=3)
    config = json.loads((init / "config.json").read_text(encoding="utf-8"))
    (init / "config.json").write_text(json.dumps({**config, "initializer_range": 0.5}), encoding="utf-8")
    with pytest.raises(UserInputError, match="something else: other speech LLM"):
        stage2(mine, selected, out)


# --- as a command ----------------------------------------------------------------------------------------------------


def test_only_the_main_process_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    cli_train.say("one of many")
    monkeypatch.setenv("RANK", "0")
    cli_train.say("the first")
    monkeypatch.delenv("RANK")
    cli_train.say("alone")
    assert capsys.readouterr().out == "the first\nalone\n"


def test_it_is_a_command_of_salad(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        salad(["train", "--stage", "2", "--recipe", "nano"])
    assert caught.value.code == 2
    assert "salad: --stage 2 needs --selection" in capsys.readouterr().err


def test_it_is_a_module_for_launchers_and_its_help_is_light() -> None:
    """``accelerate launch -m`` and torchrun start a module."""
    probe = (
        "import sys; sys.argv = ['x', '--help']\n"
        "import runpy\n"
        "try: runpy.run_module('salad_train.cli.train', run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'transformers', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr
    assert "--selection" in found.stdout
