"""`salad nano train` in miniature: a world of a few sentences goes through every part of it, and its card says what was measured."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from salad_eval.audio.store import AudioStore
from salad_train.nano import train, world
from salad_train.nano.asr import AsrPlan
from salad_train.nano.base import BasePlan, batches, train_tokenizer
from salad_train.nano.card import Making, write_card
from salad_train.nano.train import INTERLEAVE, NanoPlan, completion_borders, question_borders, train_nano
from salad_train.speech.interleave import interleave
from salad_train.speech.speaker import TTSSpeaker
from salad_train.speech.utterances import Utterance
from salad_train.training.stage_plan import AdapterSize
from tests.helpers.gap_world import item, report, scores

TINY = NanoPlan(
    n_questions=8,
    n_statements=4,
    n_narrative=4,
    n_replay=16,
    steps=2,
    adapter=AdapterSize(hidden_size=32, intermediate_size=32, layers=1, heads=2, kv_heads=2),
    base=BasePlan(vocab_size=300, hidden_size=32, intermediate_size=48, layers=1, heads=2, epochs=1, tokens_per_batch=400),
    asr=AsrPlan(
        n_sentences=12, vocab_size=48, middle_vocab_size=40, mel_bins=32, hidden_size=32, intermediate_size=64, layers=2,
        heads=2, subsampling_channels=4, epochs=1, seconds_per_batch=20, voices=("en-us+m1",),
    ),
)  # fmt: skip


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> list[world.Document]:
    documents = world.corpus(0, n_everyday=60)
    of_kind = {kind: [d for d in documents if d.kind == kind] for kind in ("question", "statements", "narrative")}
    heard = [d for kind in of_kind.values() for d in kind if d.domain in world.HEARD_DOMAINS][:400:40]
    chosen = [*heard, *of_kind["question"][:10], *of_kind["statements"][:10], *of_kind["narrative"][:4]]
    monkeypatch.setattr(world, "corpus", lambda seed: chosen)
    return chosen


def test_everything_is_built_once_and_loads_as_any_other_model(
    small_world: list[world.Document], tmp_path: Path
) -> None:
    out, work = tmp_path / "models", tmp_path / "work"
    train_nano(TINY, out, work, workers=1)
    stamps = {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()}
    assert {file.parent.name for file in stamps} == {"base", "asr", "speech"}
    train_nano(TINY, out, work, workers=1)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()} == stamps, "made a second time"

    from transformers import AutoModelForCausalLM, AutoModelForCTC, AutoProcessor, AutoTokenizer

    import salad_train.model as speech_models

    base = AutoModelForCausalLM.from_pretrained(out / "base")
    assert base.dtype == torch.float32
    assert AutoTokenizer.from_pretrained(out / "base").eos_token_id == base.config.eos_token_id
    assert AutoModelForCTC.from_pretrained(out / "asr").dtype == torch.float32
    speech = speech_models.SaladForConditionalGeneration.from_pretrained(out / "speech")
    assert speech.dtype == torch.float32
    assert type(AutoProcessor.from_pretrained(out / "speech")).__name__ == "SaladProcessor"
    for name in ("base", "asr", "speech"):
        assert Making.of(out / name).measured["seconds"] > 0


def test_another_plan_makes_another_model(small_world: list[world.Document], tmp_path: Path) -> None:
    import dataclasses

    out = tmp_path / "models"
    train_nano(TINY, out, tmp_path / "work", workers=1)
    digests = {name: json.loads((out / name / train.DONE).read_text())["digest"] for name in ("base", "asr", "speech")}
    train_nano(dataclasses.replace(TINY, steps=3), out, tmp_path / "work", workers=1)
    again = {name: json.loads((out / name / train.DONE).read_text())["digest"] for name in ("base", "asr", "speech")}
    assert again["base"] == digests["base"]
    assert again["asr"] == digests["asr"]
    assert again["speech"] != digests["speech"]


def test_questions_are_spoken_whole_where_the_document_allows_it() -> None:
    documents = [d for d in world.corpus(0, n_everyday=100) if d.kind == "question"][:200]
    tokenizer = train_tokenizer([d.text for d in documents], 400)
    whole = 0
    for document in documents:
        borders = question_borders(document)
        assert borders is not None
        assert document.text[: borders[0]] == "Question:"
        assert document.text[borders[1] :].startswith("\nAnswer:")
        spoken = [
            s.text for s in interleave(document, tokenizer, INTERLEAVE, seed=0, epoch=0, preferred=borders).speech
        ]
        whole += spoken == [document.text[borders[0] : borders[1]]]
    assert whole > 100, whole
    assert question_borders(world.Document("d", "home", "A cup stands on a shelf.")) is None


@pytest.mark.parametrize(
    ("text", "kind", "pieces"),
    [
        (
            "The symbol for gold is Au. Gold melts at 1064 degrees.",
            "statements",
            ["The symbol for gold", " is Au.", " Gold melts at", " 1064 degrees."],
        ),
        ("Cats purr.", "statements", ["Cats purr."]),
        ("Question: Who sings?\nAnswer: Birds", "question", ["Question:", " Who sings?", "\nAnswer: Birds"]),
    ],
)
def test_statements_would_like_to_be_heard_up_to_what_completes_them(text: str, kind: str, pieces: list[str]) -> None:
    borders = completion_borders(world.Document("d", "any", text, kind))  # type: ignore[arg-type]
    assert borders is not None
    edges = [0, *borders, len(text)]
    assert [text[a:b] for a, b in itertools.pairwise(edges)] == pieces


def test_what_cannot_be_spoken_is_none_and_the_rest_is_kept(tmp_path: Path) -> None:
    store = AudioStore(tmp_path)
    voice = TTSSpeaker(store)
    rose, chinese, cups = (
        Utterance("d", text, who, 0, len(text))
        for text, who in (("a red rose", "en-us+m1"), ("\u4e16\u754c", "en-us+m1"), ("two cups", "en-us+f1"))
    )
    sounds = list(voice.speak([rose, chinese, cups]))
    assert sounds[1] is None
    assert sounds[0] is not None
    assert sounds[2] is not None
    assert sounds[0].seconds > 0.3
    again = list(voice.speak([rose]))
    assert again[0] is not None
    assert (again[0].samples == sounds[0].samples).all(), "spoken twice instead of kept"


def test_batches_hold_every_index_once_within_their_budget() -> None:
    import numpy as np

    lengths = [3, 40, 7, 7, 90, 12, 5, 33, 8, 1]
    found = list(batches(lengths, 96, np.random.default_rng(0)))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    assert all(max(lengths[i] for i in batch) * len(batch) <= 96 for batch in found)


def test_the_card_prints_what_was_measured(tmp_path: Path) -> None:
    items = [item(f"{domain}{k}", domain) for domain in ("home", "physics") for k in range(4)]
    found = [
        s
        for it in items
        for s in scores(it.id, 1.0, (1.0, 1.0), 1.0, (1.0, 1.0) if it.domain == "home" else (0.0, 0.0))
    ]
    gaps = report(items, found)
    path = write_card(
        tmp_path,
        [Making("base", {"seconds": 12.5, "steps": 3.0})],
        {"test": gaps},
        ("home",),
        "salad nano train --seed 0",
        90.0,
    )
    text = path.read_text(encoding="utf-8")
    assert "salad nano train --seed 0" in text
    assert "- `base`: seconds 12.5, steps 3" in text
    row = next(line for line in text.splitlines() if line.startswith("| physics |"))
    low, high = gaps.domains[1].gap.low, gaps.domains[1].gap.high
    assert low is not None
    assert high is not None
    assert f"100.0 [{100 * low:.1f}, {100 * high:.1f}]" in row
    assert "| home * |" in text
    assert gaps.signature in text
