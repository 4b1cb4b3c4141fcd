"""A corpus is embedded in chunks, and comes out the same wherever they are worked on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from salad_eval.errors import PluginError
from salad_eval.pipeline.engines import Workshop
from salad_eval.pipeline.tools import PluginRef
from salad_eval.testing.installed import installed
from salad_train.selection import embed as embedding
from salad_train.selection.embed import embed, fit
from tests.helpers.tiny_causal_lm import TEXTS, save_tiny_llama

CORPUS = tuple(f"{TEXTS[n % 5]} Note {n % 7}." for n in range(11))


@pytest.fixture(autouse=True)
def four_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "CHUNK", 4)


class Flat:
    """One number a text, and as many texts as ``keeps``; ``wide``: two numbers from the second chunk on."""

    def __init__(self, keeps: int = 100, wide: bool = False) -> None:
        self.keeps, self.wide, self.calls = keeps, wide, 0

    def fingerprint(self) -> str:
        return "flat"

    def fit(self, texts: Any) -> None: ...

    def learnt(self) -> dict[str, np.ndarray]:
        return {}

    def recall(self, learnt: Any) -> None: ...

    def embed(self, texts: Any) -> np.ndarray:
        self.calls += 1
        return np.ones((min(len(texts), self.keeps), 2 if self.wide and self.calls > 1 else 1), dtype=np.float32)


def test_two_processes_give_what_this_one_gives(two_processes: Workshop) -> None:
    ref, here = PluginRef("salad.embedders", "tfidf", {"width": 3}), Workshop()
    fitted = fit(ref, CORPUS, here)
    rows = embed(fitted, CORPUS, here)
    assert (rows.dtype, rows.shape) == (np.float32, (11, 3))
    np.testing.assert_allclose(rows, here.tools.open(fitted).embed(CORPUS), atol=1e-5)  # chunks change nothing
    again = fit(ref, CORPUS, two_processes)
    assert again == fitted
    assert embed(again, CORPUS, two_processes).tobytes() == rows.tobytes()


@pytest.mark.parametrize("embedder", ["tfidf", "tfidf without words", "lm"])
def test_an_embedder_is_the_same_by_what_another_learnt(embedder: str, tmp_path: Path) -> None:
    name, _, without = embedder.partition(" ")
    options = {"width": 3} if name == "tfidf" else {"pretrained": str(save_tiny_llama(tmp_path)), "device": "cpu"}
    shop = Workshop()
    fitted = fit(PluginRef("salad.embedders", name, options), ["...", "?!"] if without else CORPUS, shop)
    texts = [*CORPUS, ""]
    assert fitted.open().embed(texts).tobytes() == shop.tools.open(fitted).embed(texts).tobytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"keeps": 3}, r"shape \(3, 1\) for 4 texts"), ({"wide": True}, "vectors of 1 and of 2 numbers")],
)
def test_vectors_that_fit_no_table_are_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    shop = Workshop()
    with installed(tmp_path, {"salad.embedders": {"flat": f"{__name__}:Flat"}}), pytest.raises(PluginError, match=said):
        embed(fit(PluginRef("salad.embedders", "flat", options), CORPUS, shop), CORPUS, shop)


def test_what_cannot_say_what_it_learnt_is_no_embedder(tmp_path: Path) -> None:
    with (
        installed(tmp_path, {"salad.embedders": {"half": "salad_eval.testing.voices:ToneTTS"}}),
        pytest.raises(PluginError, match="'half' is no embedder"),
    ):
        fit(PluginRef("salad.embedders", "half", {}), CORPUS, Workshop())
