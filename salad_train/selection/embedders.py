"""Texts to vectors, for clustering a corpus and for carrying benchmark domains to its clusters.

The embedders are plug-ins of the group ``salad.embedders``. All give float32 rows of unit length, and a row of zeros
where a text holds nothing they know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from salad_eval.batches import of_like_length
from salad_eval.errors import MissingExtraError, UserInputError
from salad_eval.progress import track

TERM = r"(?u)\b\w+\b"
_COUNTING: Mapping[str, Any] = {"token_pattern": TERM, "sublinear_tf": True, "dtype": np.float32}


class TfidfEmbedder:
    """TF-IDF (logarithmic term frequency) and truncated SVD: latent semantic analysis (Deerwester et al. 1990). No
    weights.

    ``idf_power``: inverse document frequencies are raised to it. At 1, short texts cluster by their grammar ("what is
    the …"); at 2 and above by what they are about. ``width``: dimensions, fewer where the corpus has fewer documents
    or terms. ``max_terms``: vocabulary, by frequency. ``sample``: documents it is fitted on, drawn with ``seed``; all
    others are only projected.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        idf_power: float = 2.0,
        max_terms: int = 50_000,
        sample: int = 50_000,
        seed: int = 0,
    ) -> None:
        if not 0 <= idf_power < 10:
            raise UserInputError(f"embedder option idf_power is {idf_power}; expected 0 to 10, usually 1 to 3.")
        self.idf_power = idf_power
        _check_positive(width=width, max_terms=max_terms, sample=sample)
        self.width, self.max_terms, self.sample, self.seed = width, max_terms, sample, seed
        self._vectorizer: Any = None
        self._projection: np.ndarray | None = None

    def fingerprint(self) -> str:
        return (
            f"tfidf:width={self.width},idf_power={self.idf_power},max_terms={self.max_terms},"
            f"sample={self.sample},seed={self.seed}"
        )

    def fit(self, texts: Sequence[str]) -> None:
        """Learn vocabulary, inverse document frequencies and the projection. Raises ``UserInputError`` for no texts."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = _sample(texts, self.sample, self.seed)
        vectorizer = TfidfVectorizer(max_features=self.max_terms, **_COUNTING)
        self._vectorizer, self._projection = vectorizer, None
        if not any(re.search(TERM, text) for text in texts):
            return  # nothing but punctuation: no vocabulary, and every text embeds to zeros
        vectorizer.fit(texts)
        vectorizer.idf_ = vectorizer.idf_**self.idf_power
        counts = vectorizer.transform(texts)
        if min(counts.shape) <= self.width:  # too small to project: its own axes are few enough
            self._projection = np.linalg.svd(counts.toarray(), full_matrices=False)[2].T.astype(np.float32)
            return
        svd = TruncatedSVD(self.width, n_iter=4, random_state=self.seed)
        self._projection = np.ascontiguousarray(svd.fit(counts).components_.T.astype(np.float32))

    def learnt(self) -> dict[str, np.ndarray]:
        """The terms as UTF-8 with line ends between them, their inverse document frequencies, and the projection; none of these where
        no term was found."""
        vectorizer = self._fitted()
        if self._projection is None:
            return {}
        terms = "\n".join(vectorizer.get_feature_names_out()).encode()
        return {"terms": np.frombuffer(terms, np.uint8), "idf": vectorizer.idf_, "projection": self._projection}

    def recall(self, learnt: Mapping[str, np.ndarray]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        terms = learnt["terms"].tobytes().decode().split("\n") if learnt else None
        self._vectorizer, self._projection = TfidfVectorizer(vocabulary=terms, **_COUNTING), None
        if learnt:
            self._vectorizer.idf_ = learnt["idf"]
            self._projection = learnt["projection"]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) float32; see ``Embedder``. Raises ``UserInputError`` before ``fit``."""
        vectorizer = self._fitted()
        if self._projection is None or not len(texts):
            return np.zeros((len(texts), 1), dtype=np.float32)
        return unit_rows(vectorizer.transform(texts) @ self._projection)

    def _fitted(self) -> Any:
        if self._vectorizer is None:
            raise UserInputError(
                "the tfidf embedder was asked to embed before it was fitted to a corpus. Call fit first."
            )
        return self._vectorizer


class LanguageModelEmbedder:
    """The base LLM's own last hidden states, averaged over a text's tokens.

    Special tokens are left out of the average (the first position of many LLMs is an outlier that says nothing of the
    text). Hidden states share a large common direction, in which all texts look alike: ``fit`` measures it as the mean
    over a sample of the corpus, and it is taken off (Mu and Viswanath 2018, "All-but-the-top").

    ``max_tokens``: longer texts are embedded by their beginning. ``batch_tokens`` bounds rows × padded length of a
    forward pass.
    """

    def __init__(
        self,
        pretrained: str = "nano/base",
        *,
        max_tokens: int = 512,
        batch_tokens: int | None = None,
        sample: int = 2048,
        seed: int = 0,
        dtype: str = "float32",
        device: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        _check_positive(max_tokens=max_tokens, batch_tokens=1 if batch_tokens is None else batch_tokens, sample=sample)
        self.pretrained, self.max_tokens, self.sample, self.seed = pretrained, max_tokens, sample, seed
        self._batch_tokens, self._dtype = batch_tokens, dtype
        self._options = {"device": device, "revision": revision, "trust_remote_code": trust_remote_code}
        self._loaded: tuple[Any, Any] | None = None
        self._mean: np.ndarray | None = None

    def fingerprint(self) -> str:
        from salad_eval.checkpoints import model_identity

        weights = model_identity(self.pretrained, self._loaded[0] if self._loaded else None)
        return f"lm:{weights},max_tokens={self.max_tokens},sample={self.sample},seed={self.seed},dtype={self._dtype}"

    def fit(self, texts: Sequence[str]) -> None:
        """Measure the mean embedding of a sample. Raises ``UserInputError`` for no texts."""
        states = self._states(_sample(texts, self.sample, self.seed), lambda batches: track(batches, "fitting"))
        known = np.any(states != 0, axis=1)
        self._mean = states[known].mean(axis=0) if known.sum() > 1 else None

    def learnt(self) -> dict[str, np.ndarray]:
        return {} if self._mean is None else {"mean": self._mean}

    def recall(self, learnt: Mapping[str, np.ndarray]) -> None:
        self._mean = learnt.get("mean")

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, hidden size) float32; see ``Embedder``."""
        states = self._states(texts)
        if self._mean is not None:
            known = np.any(states != 0, axis=1)
            states[known] -= self._mean
        return unit_rows(states)

    def _states(
        self, texts: Sequence[str], each: Callable[[list[list[int]]], Iterable[list[int]]] = iter
    ) -> np.ndarray:
        import torch

        from salad_eval.checkpoints import default_batch_tokens, load_causal_lm

        if self._loaded is None:
            self._loaded = load_causal_lm(self.pretrained, dtype=self._dtype, **self._options)  # type: ignore[arg-type]
        model, tokenizer = self._loaded
        backbone = model.base_model
        encoded = [self._encode(tokenizer, text) for text in texts]
        lengths = [len(ids) for ids, _ in encoded]
        states = np.zeros((len(texts), model.get_input_embeddings().weight.shape[1]), dtype=np.float32)
        known = [i for i, (_, content) in enumerate(encoded) if any(content)]
        batches = list(of_like_length(lengths, self._batch_tokens or default_batch_tokens(model), places=known))
        for rows in each(batches):
            width = lengths[rows[-1]]
            ids = torch.zeros((len(rows), width), dtype=torch.long)
            real, pooled = torch.zeros_like(ids), torch.zeros((len(rows), width, 1))
            for place, row in enumerate(rows):
                tokens, content = encoded[row]
                ids[place, : len(tokens)] = torch.tensor(tokens)
                real[place, : len(tokens)] = 1
                pooled[place, : len(tokens), 0] = torch.tensor(content, dtype=torch.float32)
            with torch.inference_mode():
                last = backbone(
                    input_ids=ids.to(model.device), attention_mask=real.to(model.device), use_cache=False
                ).last_hidden_state
            pooled = pooled.to(last.device)
            means = (last.float() * pooled).sum(dim=1) / pooled.sum(dim=1)
            states[rows] = means.cpu().numpy()
        return states

    def _encode(self, tokenizer: Any, text: str) -> tuple[list[int], list[bool]]:
        """Token ids, and which of them are of the text."""
        encoding = tokenizer(text, truncation=True, max_length=self.max_tokens, return_special_tokens_mask=True)
        return encoding["input_ids"], [special == 0 for special in encoding["special_tokens_mask"]]


class SentenceTransformerEmbedder:
    """A model of the package ``sentence-transformers``, an extra. Pre-trained: ``fit`` learns nothing."""

    def __init__(
        self,
        pretrained: str = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        batch_size: int = 64,
        device: str | None = None,
        revision: str | None = None,
    ) -> None:
        _check_positive(batch_size=batch_size)
        self.pretrained, self.batch_size, self.device, self.revision = pretrained, batch_size, device, revision
        self._model: Any = None

    def fingerprint(self) -> str:
        return f"sentence-transformers:{self.pretrained}@{self.revision or 'main'}"

    def fit(self, texts: Sequence[str]) -> None:
        _sample(texts, len(texts) or 1, 0)

    def learnt(self) -> dict[str, np.ndarray]:
        return {}

    def recall(self, learnt: Mapping[str, np.ndarray]) -> None:
        """There is nothing to recall."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) float32; see ``Embedder``. Raises ``MissingExtraError`` where the package is not installed."""
        model = self._load()
        rows = np.asarray(
            model.encode(list(texts), batch_size=self.batch_size, convert_to_numpy=True, show_progress_bar=False),
            dtype=np.float32,
        ).reshape(len(texts), -1)
        rows[[not text.strip() for text in texts]] = 0
        return unit_rows(rows)

    def _load(self) -> Any:
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError:
                raise MissingExtraError(
                    "the embedder 'sentence-transformers'",
                    "sentence-transformers",
                    'pip install "salad-gap[sentence-transformers]"',
                ) from None
            self._model = SentenceTransformer(self.pretrained, device=self.device, revision=self.revision)
        return self._model


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows (n, width) scaled to length one; rows of zeros stay so."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 1e-12, lengths, 1) * (lengths > 1e-12)).astype(np.float32)


def _check_positive(**options: int) -> None:
    for name, value in options.items():
        if value < 1:
            raise UserInputError(f"embedder option {name} is {value}; expected at least 1.")


def _sample(texts: Sequence[str], most: int, seed: int) -> Sequence[str]:
    """At most ``most`` texts, in the order of the corpus."""
    if len(texts) == 0:
        raise UserInputError("there are no texts to fit an embedder to: the corpus is empty after its filters.")
    if len(texts) <= most:
        return texts
    chosen = np.random.default_rng([seed, 37]).choice(len(texts), size=most, replace=False)
    return [texts[i] for i in np.sort(chosen)]
