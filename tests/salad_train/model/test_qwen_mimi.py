"""The recipe ``qwen2.5-0.5b``, end to end on tiny random Qwen2 and Mimi checkpoints in their real formats: Stage I from a manifest of
WAVs, Stage II from where Stage I stood before its decay, with a selection that is spoken for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from salad_eval.audio.sound import write_audio
from salad_eval.audio.store import AudioStore
from salad_eval.records import read_jsonl
from salad_train.cli.train import app
from salad_train.model.loading import load_salad
from salad_train.recipe import Recipe, load_recipe, voice_of
from salad_train.selection.files import write_selection
from salad_train.speech.synthesise import synthesise, tokenizer_of, write_synthesis
from salad_train.training.plan import StepLog
from salad_train.types import Cluster, ClusterWeight, SelectedDocument, Selection, TextDocument
from tests.helpers import speech_llm_world as world

SECONDS_A_CHARACTER = 0.06  # of world.sound


def write_manifest(folder: Path, n: int) -> Path:
    """WAVs in which every character takes its 60 ms, so that the times of words are known; a few rows are of no use."""
    rows: list[dict[str, Any]] = []
    for doc in world.documents(n):
        write_audio(folder / f"{doc.id}.wav", world.sound(doc.text))
        ends, words = 0, []
        for word in doc.text.split():
            start = doc.text.index(word, ends)
            ends = start + len(word)
            words.append([word, start * SECONDS_A_CHARACTER, ends * SECONDS_A_CHARACTER])
        rows.append({"id": doc.id, "audio": f"{doc.id}.wav", "text": doc.text, "words": words})
    rows += [{"id": "dead", "audio": "gone.wav", "text": "Gone."}, {**rows[0], "id": "untimed", "words": None}]
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings_for(folder: Path) -> dict[str, Any]:
    """What makes the recipe small, and whole on this machine."""
    base, encoder = world.save_parts(folder, "qwen2", "mimi")
    manifest = write_manifest(folder, 8)
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": doc.text}) + "\n" for doc in world.documents(10)), encoding="utf-8")
    changes: dict[str, Any] = {
        "natural.recordings.libriheavy.source": str(manifest),
        "natural.recordings.emilia": None,
        "natural.aligner": None,
        "audio_store": str(folder / "audio"),
        "voice.workers": 1,
        "stage1.encoder": str(encoder),
        "stage1.adapter": {"hidden_size": 24, "intermediate_size": 48, "layers": 2, "heads": 3, "kv_heads": 1},
        "stage1.train.steps": 3,
        "stage1.train.decay_share": 0.4,
        "stage2.train.steps": 2,
    }
    for key in ("text", "corpus"):
        changes |= {
            f"{key}.source": str(texts),
            f"{key}.dataset_name": None,
            f"{key}.streaming": False,
            f"{key}.language": None,
        }
    for stage in ("stage1", "stage2"):
        changes |= {
            f"{stage}.base": str(base),
            f"{stage}.device": "cpu",
            f"{stage}.save_dtype": "float32",
            f"{stage}.limits": {"tokens": 600, "sequences": 4},
            f"{stage}.interleave.text": {"low": 2, "high": 6},
            f"{stage}.interleave.speech": {"low": 2, "high": 5},
            f"{stage}.train.warmup_steps": 1,
            f"{stage}.train.micro_batches": 1,
            f"{stage}.train.log_every": 1,
            f"{stage}.train.bf16": False,
        }
    return changes


def selection() -> Selection:
    documents = [TextDocument(f"web-{k}", doc.text) for k, doc in enumerate(world.documents(4))]
    return Selection(
        signal="uniform",
        gamma=0.0,
        budget_seconds=12.0,
        seed=0,
        clusters=(Cluster(0, 4, 400, ("gold",), {}),),
        weights=(ClusterWeight(0, 1.0, 1.0, 1.0),),
        documents=tuple(SelectedDocument(document, 0, 1.0, "all there is", 4.0) for document in documents),
        signature="a small selection",
    )


def run(*arguments: str) -> str:
    found = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def as_options(changes: dict[str, Any]) -> list[str]:
    return [
        part
        for key, value in changes.items()
        for part in ("--set", f"{key}={yaml.safe_dump(value, default_flow_style=True).removesuffix('...' + chr(10)).strip()}")
    ]  # fmt: skip


@pytest.mark.usefixtures("one_thread")
def test_both_stages_of_the_recipe(tmp_path: Path) -> None:
    changes = settings_for(tmp_path)
    options = as_options(changes)
    one, two = tmp_path / "one", tmp_path / "two"

    said = run("--stage", "1", "--recipe", "qwen2.5-0.5b", *options, "--out", str(one))
    assert "8 recordings" in said
    assert "1 dead_path, such as dead" in said
    assert "1 no_word_times, such as libriheavy/untimed" in said
    assert f"model: {one / 'model'}" in said
    model, processor = load_salad(str(one / "model"))
    assert (type(model.language_model).__name__, type(model.encoder).__name__) == ("Qwen2ForCausalLM", "MimiModel")
    heard = processor(text="<|audio|> is", audio=world.sound("gold", rate=processor.sampling_rate).samples)
    assert torch.isfinite(model(**heard).logits).all()
    log = read_jsonl(one / "train.jsonl", StepLog)
    assert [line.step for line in log] == [1, 2, 3]
    assert all(line.speech_kl is not None or line.replay_kl is not None for line in log)
    noted = json.loads((one / "speech.json").read_text())["heard"]
    assert noted["left_out"] == {}
    whole = sum(len(doc.text) for doc in world.documents(8)) * SECONDS_A_CHARACTER
    assert 0.1 * whole < noted["seconds"] < 0.8 * whole  # spans of the recordings, and not all of them

    recipe = load_recipe("qwen2.5-0.5b", changes).after(one)
    assert recipe.stage2.checkpoint == str(one / "checkpoints" / "step-0000002")
    speak(recipe, tmp_path / "selected")
    said = run(
        "--stage", "2", "--recipe", "qwen2.5-0.5b", *options, "--stage1", str(one), "--selection", str(tmp_path / "selected"),
        "--out", str(two),
    )  # fmt: skip
    assert f"hf: {two / 'model'}" in said
    after, _ = load_salad(str(two / "model"))
    assert torch.isfinite(after(**heard).logits).all()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, after.state_dict()[name])}
    assert any(name.startswith("adapter.") for name in moved)
    assert not any(name.startswith("encoder.") for name in moved)
    noted = json.loads((two / "speech.json").read_text())
    assert noted["selected"]["examples"] > 0
    assert noted["natural"]["examples"] == 8


def speak(recipe: Recipe, folder: Path) -> None:
    """What ``salad select`` and ``salad synthesise`` leave."""
    chosen = selection()
    write_selection(chosen, folder)
    voice = voice_of(recipe, AudioStore(recipe.audio_store))
    made = synthesise(chosen, recipe.stage2, tokenizer_of(recipe.stage2), voice)
    write_synthesis(made, chosen, recipe.stage2, voice.fingerprint(), folder)


@pytest.fixture
def one_thread() -> None:
    torch.set_num_threads(1)
