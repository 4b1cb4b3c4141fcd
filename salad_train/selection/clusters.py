"""What clusters of a corpus are about, and which benchmark domains they are like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from salad_eval.errors import UserInputError
from salad_train.corpus.documents import Texts
from salad_train.selection.terms import cluster_terms
from salad_train.types import Cluster, Clustering, TextDocument


def describe_clusters(
    documents: Sequence[TextDocument], clustering: Clustering, n_terms: int = 6
) -> tuple[Cluster, ...]:
    """Sizes, telling terms (``terms.cluster_terms``) and domain shares of every cluster, in the order of their labels.

    Raises ``UserInputError`` where documents and labels are not of one number.
    """
    if len(documents) != len(clustering.labels):
        raise UserInputError(
            f"there are {len(documents)} documents and {len(clustering.labels)} labels; expected one label a document."
        )
    k = clustering.k
    characters = np.bincount(clustering.labels, weights=[len(d.text) for d in documents], minlength=k)
    domains: list[Counter[str]] = [Counter() for _ in range(k)]
    for document, label in zip(documents, clustering.labels, strict=True):
        if document.domain:
            domains[label][document.domain] += 1
    terms = cluster_terms(Texts(documents), clustering.labels, k, n_terms)
    return tuple(
        Cluster(
            id=cluster,
            n_documents=int((clustering.labels == cluster).sum()),
            n_characters=int(characters[cluster]),
            terms=terms[cluster],
            domains={name: n / domains[cluster].total() for name, n in _by_count(domains[cluster])},
        )
        for cluster in range(k)
    )


def _by_count(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def affinity(
    centroids: np.ndarray,
    item_vectors: np.ndarray,
    item_domains: Sequence[str],
    domains: Sequence[str],
    *,
    temperature: float = 0.2,
) -> np.ndarray:
    """How much each cluster is like each benchmark domain: (K, n_domains), rows add up to 1.

    A domain's weight is the mean over its items of exp(cosine / temperature) with the cluster's centroid, an item's
    vote being the larger the nearer it is: a kernel classifier (Nadaraya and Watson) with equal prior weight for every
    domain, however many items it has. Low temperatures listen to the nearest items alone, high ones make all domains
    alike.

    ``centroids`` (K, d) and ``item_vectors`` (m, d) come from one embedder. Items of zeros and items of domains that
    are not among ``domains`` are left out; a domain without items has affinity 0.

    Raises ``UserInputError`` for shapes that do not fit, a temperature that is not positive, and no items to compare
    with.
    """
    if item_vectors.ndim != 2 or centroids.ndim != 2 or centroids.shape[1] != item_vectors.shape[1]:
        raise UserInputError(
            f"centroids {centroids.shape} and item vectors {item_vectors.shape} are not of one width. "
            "Embed both with one embedder."
        )
    if len(item_domains) != len(item_vectors):
        raise UserInputError(f"there are {len(item_vectors)} item vectors and {len(item_domains)} domains of items.")
    if not temperature > 0:
        raise UserInputError(f"temperature is {temperature}; expected more than 0.")
    column = {domain: place for place, domain in enumerate(domains)}
    place = np.array([column.get(domain, -1) for domain in item_domains], dtype=np.int64)
    kept = (place >= 0) & (np.linalg.norm(item_vectors, axis=1) > 0)
    if not kept.any():
        raise UserInputError(
            "no benchmark item of the report's domains has a word that the embedder knows. "
            "Is this the corpus' language?"
        )
    items, place = item_vectors[kept].astype(np.float64), place[kept]
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
    cosine = (centroids / np.where(lengths > 0, lengths, 1)) @ items.T
    kernel = np.exp((cosine - cosine.max(axis=1, keepdims=True)) / temperature)
    n_items = np.bincount(place, minlength=len(domains))
    member = np.zeros((len(items), len(domains)))
    member[np.arange(len(items)), place] = 1 / n_items[place]
    weights = kernel @ member
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
