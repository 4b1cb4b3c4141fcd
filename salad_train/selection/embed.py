"""The corpus' texts to vectors, a chunk of them at a time: by this process, or by all that an engine has."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from salad_eval.errors import PluginError
from salad_eval.identity import digest
from salad_eval.pipeline.arrays import Packed
from salad_eval.pipeline.engines import Workshop
from salad_eval.pipeline.executor import Chunks, Work
from salad_eval.pipeline.tools import PluginRef, Tools
from salad_eval.progress import track
from salad_train.types import Embedder

CHUNK = 2_000  # texts whose term counts, or tokens, are held at once


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted embedder, so that another process can have it without the corpus: the plug-in, and what it learnt.

    ``sum``: of what it learnt; it may be of many megabytes, and is told from others in every chunk.
    """

    plugin: PluginRef
    learnt: Mapping[str, Packed]
    sum: str

    def __str__(self) -> str:
        return f"the embedder {self.plugin.name!r}"

    def key(self) -> str:
        return digest(self.plugin, self.sum)

    def open(self) -> Embedder:
        embedder: Embedder = self.plugin.open()
        embedder.recall({name: packed.array() for name, packed in self.learnt.items()})
        return embedder


def fit(embedder: PluginRef, texts: Sequence[str], shop: Workshop) -> Fitted:
    """Let the plug-in see the corpus, here. Raises ``PluginError`` for one that is no ``Embedder``."""
    opened = embedder.open()
    if not isinstance(opened, Embedder):
        raise PluginError(f"{embedder} is no embedder: it has no fit, learnt, recall or embed (see salad_train.types).")
    opened.fit(texts)
    learnt = {name: Packed.of(array) for name, array in opened.learnt().items()}
    fitted = Fitted(embedder, learnt, digest(learnt))
    shop.tools.put(fitted, opened)
    return fitted


def embed_texts(tools: Tools, setup: Fitted, chunk: Sequence[str]) -> list[str]:
    """A vector a text: the bytes of its float32 numbers, in base64."""
    rows = np.ascontiguousarray(tools.open(setup).embed(chunk), dtype="<f4")
    if rows.shape[:1] != (len(chunk),) or rows.ndim != 2:
        raise PluginError(
            f"{setup} gave vectors of shape {rows.shape} for {len(chunk)} texts; expected one row a text."
        )
    return [base64.b64encode(row).decode("ascii") for row in rows]


def embed(fitted: Fitted, texts: Sequence[str], shop: Workshop) -> np.ndarray:
    """(n, width) float32 of one text or more, which are taken a chunk at a time. Raises ``PluginError`` for vectors of several widths."""
    numbers = range(-(-len(texts) // CHUNK))
    chunks = Chunks(lambda number: texts[number * CHUNK : (number + 1) * CHUNK], numbers)
    rows = np.empty((0, 0), dtype=np.float32)
    at = 0
    for found in track(shop.models.map(Work(embed_texts, fitted, str(fitted)), chunks), "embedding", len(chunks)):
        part = np.frombuffer(b"".join(map(base64.b64decode, found)), dtype="<f4").reshape(len(found), -1)
        if not at:
            rows = np.empty((len(texts), part.shape[1]), dtype=np.float32)
        if part.shape[1] != rows.shape[1]:
            raise PluginError(f"{fitted} gave vectors of {rows.shape[1]} and of {part.shape[1]} numbers.")
        rows[at : (at := at + len(part))] = part
    return rows
