"""Balanced k-means against exact optima and planted truth; what is said of clusters; their likeness to domains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from salad_eval.errors import UserInputError
from salad_train.selection.clusters import affinity, describe_clusters
from salad_train.selection.kmeans import balanced_assignment, balanced_kmeans
from salad_train.types import Clustering, TextDocument


def gaussian(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def blobs(k: int, each: int, d: int, seed: int, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """``k`` well parted blobs of ``each`` points, shuffled, and the blob of each point."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(k), each))
    centres = np.eye(k, d) * 3 if d >= k else rng.permutation(k)[:, None] * np.full(d, 3.0)
    return (centres[truth] + spread * rng.standard_normal((len(truth), d))).astype(np.float32), truth


def sizes(labels: np.ndarray, k: int) -> np.ndarray:
    return np.bincount(labels, minlength=k)


def squared(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((points[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)


def least_balanced_cost(points: np.ndarray, centroids: np.ndarray) -> float:
    """The optimum over all assignments with sizes within one, by brute linear assignment: every cluster has ⌈n/K⌉
    places, of which the last is taken by a dummy unless it is needed.
    """
    n, k = len(points), len(centroids)
    low, high = n // k, -(-n // k)
    costs = np.repeat(squared(points, centroids), high, axis=1)  # column j·high + p: place p of cluster j
    dummies = k * high - n
    if dummies:
        forbidden = np.where(np.arange(k * high) % high < low, costs.sum() + 1, 0.0)
        costs = np.concatenate([costs, np.tile(forbidden, (dummies, 1))])
    rows, columns = linear_sum_assignment(costs)
    return float(costs[rows, columns][rows < n].sum())


# --- sizes, assignment, determinism ----------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 99), st.data())
@settings(max_examples=80, deadline=None)
def test_every_point_has_a_cluster_and_sizes_are_within_one(n: int, d: int, seed: int, data: Any) -> None:
    k = data.draw(st.integers(1, n))
    points = gaussian(n, d, seed)
    if data.draw(st.booleans()):
        points = np.round(points)  # many equal points
    clustering = balanced_kmeans(points, k, seed=seed, n_init=1)
    counts = sizes(clustering.labels, k)
    assert clustering.labels.dtype == np.int64
    assert counts.sum() == n
    assert (counts.min(), counts.max()) == (n // k, -(-n // k))
    assert clustering.centroids.shape == (k, d)
    exact = sum(((points[clustering.labels == j] - clustering.centroids[j]) ** 2).sum() for j in range(k))
    assert clustering.inertia == pytest.approx(exact, rel=1e-3, abs=1e-4)


@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 99), st.data())
@settings(max_examples=80, deadline=None)
def test_the_assignment_is_the_exact_optimum(n: int, d: int, seed: int, data: Any) -> None:
    k = data.draw(st.integers(1, n))
    points, centroids = gaussian(n, d, seed), gaussian(k, d, seed + 1000) * data.draw(st.sampled_from([0.2, 1, 5]))
    labels = balanced_assignment(points, centroids)
    cost = squared(points, centroids)[np.arange(n), labels].sum()
    assert sizes(labels, k).max() - sizes(labels, k).min() <= 1
    assert cost == pytest.approx(least_balanced_cost(points, centroids), rel=1e-5, abs=1e-4)


@pytest.mark.parametrize(("n", "k", "d"), [(600, 7, 2), (900, 30, 8), (500, 499, 3)])
def test_the_assignment_is_the_exact_optimum_in_larger_cases(n: int, k: int, d: int) -> None:
    points, centroids = gaussian(n, d, 0) * np.linspace(0.2, 3, d, dtype=np.float32), gaussian(k, d, 1)
    labels = balanced_assignment(points, centroids)
    cost = squared(points, centroids)[np.arange(n), labels].sum()
    assert cost == pytest.approx(least_balanced_cost(points, centroids), rel=1e-5)


@pytest.mark.parametrize("structured", [False, True])
def test_the_clustering_is_a_fixed_point_but_for_a_hundredth(structured: bool) -> None:
    points = blobs(9, 70, 12, 3, spread=0.8)[0] if structured else gaussian(630, 12, 3)
    clustering = balanced_kmeans(points, 8, seed=0)
    assert clustering.inertia <= 1.01 * least_balanced_cost(points, clustering.centroids)


def test_beyond_the_first_points_looked_at_the_assignment_is_still_exact() -> None:
    # 6,000 points, more than are looked at at once, four fifths of which begin in one cluster
    points = np.concatenate([gaussian(4800, 2, 0) * 0.5, gaussian(1200, 2, 1) + 6])
    centroids = np.array([[0.0, 0.0], [6.0, 6.0], [8.0, 5.0]])
    labels = balanced_assignment(points, centroids)
    cost = squared(points, centroids)
    # no exchange of any two points, and so no chain of two, can gain
    gain = np.array([[np.min((cost[:, b] - cost[:, a])[labels == a]) for b in range(3)] for a in range(3)])
    assert list(sizes(labels, 3)) == [2000, 2000, 2000]
    assert min(gain[a, b] + gain[b, a] for a in range(3) for b in range(3)) >= -1e-4


def test_equal_arguments_give_equal_labels_whatever_the_threads() -> None:
    points = gaussian(9000, 6, 0)
    first, again, threaded = (balanced_kmeans(points, 40, seed=5, n_init=1, n_threads=t) for t in (1, 1, 3))
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.labels, threaded.labels)
    np.testing.assert_array_equal(first.centroids, threaded.centroids)


def test_the_order_of_points_changes_the_quality_little() -> None:
    points = gaussian(3000, 8, 0)
    order = np.random.default_rng(1).permutation(3000)
    one, other = balanced_kmeans(points, 12, seed=0), balanced_kmeans(points[order], 12, seed=0)
    assert one.inertia == pytest.approx(other.inertia, rel=0.02)


@given(st.integers(2, 12), st.integers(1, 30), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_planted_blobs_of_equal_size_are_found_exactly(k: int, each: int, seed: int) -> None:
    points, truth = blobs(k, each, 12, seed)
    labels = balanced_kmeans(points, k, seed=seed).labels
    assert len(set(zip(labels.tolist(), truth.tolist(), strict=True))) == k


def test_a_corpus_larger_than_its_samples_finds_planted_blobs_too() -> None:
    points, truth = blobs(8, 2500, 8, 0, spread=0.2)
    labels = balanced_kmeans(points, 8, seed=0, batch_size=4000).labels
    assert len(set(zip(labels.tolist(), truth.tolist(), strict=True))) == 8


def test_it_is_better_than_an_even_cut_at_random() -> None:
    points = gaussian(2000, 4, 0)
    clustering = balanced_kmeans(points, 16, seed=0)
    assert clustering.inertia < 0.65 * ((points - points.mean(axis=0)) ** 2).sum()


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0), (1e6, 0), (1, 1000), (1e15, 0)])
def test_scale_and_origin_of_the_points_do_not_matter(scale: float, shift: float) -> None:
    points = blobs(4, 30, 4, 0)[0]
    plain = balanced_kmeans(points, 4, seed=0)
    moved = balanced_kmeans((points * np.float32(scale) + np.float32(shift)).astype(np.float32), 4, seed=0)
    np.testing.assert_array_equal(plain.labels, moved.labels)
    assert moved.inertia == pytest.approx(plain.inertia * scale**2, rel=1e-2)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_equal_points_are_dealt_out_evenly(k: int) -> None:
    clustering = balanced_kmeans(np.ones((50, 3), np.float32), k, seed=0)
    assert sizes(clustering.labels, k).max() - sizes(clustering.labels, k).min() <= 1
    assert clustering.inertia == pytest.approx(0, abs=1e-9)


def test_a_heap_of_equal_points_among_others_is_cut_up() -> None:
    points = gaussian(5000, 8, 0)
    points[:2000] = 0  # as texts of which the embedder knows nothing
    assert set(sizes(balanced_kmeans(points, 10, seed=0).labels, 10)) == {500}


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (np.zeros((0, 3), np.float32), {"k": 1}, "no points"),
        (np.zeros((3, 0), np.float32), {"k": 1}, "shape"),
        (np.zeros(3, np.float32), {"k": 1}, "shape"),
        (np.zeros((3, 2), np.float32), {"k": 4}, "4; expected 1 to 3"),
        (np.zeros((3, 2), np.float32), {"k": 0}, "0; expected 1 to 3"),
        (np.float32([[0, 1], [np.nan, 2]]), {"k": 1}, "point 1 holds a NaN"),
        (np.float32([[np.inf, 1], [0, 2]]), {"k": 1}, "point 0 holds"),
        (np.zeros((3, 2), np.float32), {"k": 1, "n_init": 0}, "n_init is 0"),
        (np.zeros((3, 2), np.float32), {"k": 1, "max_iter": 0}, "max_iter is 0"),
        (np.zeros((3, 2), np.float32), {"k": 1, "batch_size": 0}, "batch_size is 0"),
        (np.zeros((3, 2), np.float32), {"k": 1, "n_threads": 0}, "n_threads is 0"),
    ],
)
def test_bad_input_says_what_is_wrong(points: np.ndarray, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        balanced_kmeans(points, options.pop("k"), seed=0, **options)


def test_centroids_of_another_width_are_refused() -> None:
    with pytest.raises(UserInputError, match="centroids"):
        balanced_assignment(np.zeros((3, 2), np.float32), np.zeros((2, 5)))


# --- reading clusters ------------------------------------------------------------------------------------------------

DOCUMENTS = (
    TextDocument("a", "The whale is in the sea. The whale sings.", "animals"),
    TextDocument("b", "The shark is in the sea.", "animals"),
    TextDocument("c", "The star is in the sky. The star shines.", "astronomy"),
    TextDocument("d", "The comet is in the sky.", ""),
)
PAIRS = Clustering(labels=np.array([0, 0, 1, 1]), centroids=np.zeros((2, 3), np.float32), inertia=0.0)


def test_a_cluster_is_told_by_its_size_its_terms_and_its_domains() -> None:
    sea, sky = describe_clusters(DOCUMENTS, PAIRS, n_terms=2)
    assert (sea.id, sea.n_documents, sea.n_characters) == (0, 2, 41 + 24)
    assert sea.terms == ("sea", "shark")
    assert sky.terms == ("sky", "comet")
    assert sea.domains == {"animals": 1.0}
    assert sky.domains == {"astronomy": 1.0}  # of those that have a label


def test_words_that_are_as_common_everywhere_are_no_terms() -> None:
    for cluster in describe_clusters(DOCUMENTS, PAIRS, n_terms=99):
        assert not {"the", "is", "in"} & set(cluster.terms)


def test_shares_of_domains_are_sorted_and_add_up_to_one() -> None:
    documents = [TextDocument(str(i), "x", domain) for i, domain in enumerate(["b", "a", "c", "c"])]
    clustering = Clustering(np.zeros(4, np.int64), np.zeros((1, 2), np.float32), 0.0)
    (cluster,) = describe_clusters(documents, clustering)
    assert list(cluster.domains.items()) == [("c", 0.5), ("a", 0.25), ("b", 0.25)]
    assert cluster.terms == ()


def test_documents_and_labels_must_be_of_one_number() -> None:
    with pytest.raises(UserInputError, match="3 documents and 4 labels"):
        describe_clusters(DOCUMENTS[:3], PAIRS)


# --- clusters and domains --------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 20), st.integers(1, 4), st.integers(0, 99), st.sampled_from([1e-3, 0.1, 10]))
@settings(max_examples=60, deadline=None)
def test_affinities_are_shares(k: int, m: int, n_domains: int, seed: int, temperature: float) -> None:
    domains = [f"d{i}" for i in range(n_domains)]
    found = affinity(
        gaussian(k, 5, seed), gaussian(m, 5, seed + 1), [domains[i % n_domains] for i in range(m)], domains,
        temperature=temperature,
    )  # fmt: skip
    assert found.shape == (k, n_domains)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)


AXES = np.eye(3, dtype=np.float32)


def test_a_cluster_is_like_the_domain_whose_items_it_lies_among() -> None:
    found = affinity(AXES * 0.3, AXES[[0, 1, 2]], ["x", "y", "z"], ["x", "y", "z"], temperature=0.05)
    np.testing.assert_allclose(found, np.eye(3), atol=1e-6)
    warm = affinity(AXES, AXES, ["x", "y", "z"], ["x", "y", "z"], temperature=1.0)
    e = np.e
    np.testing.assert_allclose(warm[0], [e / (e + 2), 1 / (e + 2), 1 / (e + 2)])


def test_the_number_of_a_domains_items_gives_it_no_weight() -> None:
    once = affinity(AXES[:1], AXES[[0, 1]], ["x", "y"], ["x", "y"], temperature=0.5)
    often = affinity(AXES[:1], AXES[[0, 1, 1, 1]], ["x", "y", "y", "y"], ["x", "y"], temperature=0.5)
    np.testing.assert_allclose(once, often)


def test_a_domain_without_items_a_foreign_item_and_an_unknown_text_count_for_nothing() -> None:
    vectors = np.concatenate([AXES, np.zeros((1, 3), np.float32)])
    found = affinity(AXES, vectors, ["x", "y", "other", "y"], ["x", "y", "empty"], temperature=0.1)
    assert not found[:, 2].any()
    np.testing.assert_allclose(found[2], [0.5, 0.5, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("nan")}, "temperature"),
        ({"item_domains": ["x"]}, "3 item vectors and 1 domains"),
        ({"item_vectors": np.ones((3, 2), np.float32)}, "one width"),
        ({"item_vectors": np.zeros((3, 3), np.float32)}, "no benchmark item"),
        ({"domains": ["elsewhere"]}, "no benchmark item"),
    ],
)
def test_affinity_names_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "centroids": AXES, "item_vectors": AXES, "item_domains": ["x", "y", "x"], "domains": ["x", "y"],
        "temperature": 0.1,
    } | changes  # fmt: skip
    with pytest.raises(UserInputError, match=message):
        affinity(**arguments)
