"""``GapSampler``: which example comes next, by the gap of its domain or the weight of its cluster. Works in anybody's loop.

The order of an epoch is a pure function of (seed, epoch, the weights and where in the epoch they changed), so a run that was
stopped goes on with exactly the examples that were left.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch.utils.data import Sampler

from salad_eval.errors import DataError, UserInputError, did_you_mean
from salad_eval.records import from_json, to_json
from salad_eval.report.json import REPORT_FILE, load_report
from salad_eval.types import GapReport
from salad_train.steering.gaps import domain_gaps
from salad_train.types import Selection

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback, TrainerState
from salad_train.steering.weights import (
    FLOOR,
    GAMMA,
    OTHERS,
    SELECTION_FILE,
    check_split,
    cluster_weights,
    domain_weights,
)

_SHOWN = 5

AnyTrainer = TypeVar("AnyTrainer", bound="Trainer")


@dataclass(frozen=True, slots=True)
class WeightUpdate:
    """From the ``position``-th example of ``epoch`` on (over all replicas), groups weigh so much; the largest weight is 1."""

    epoch: int
    position: int
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SamplerState:
    """All that a ``GapSampler`` needs to go on where another was, with what must be the same in both."""

    seed: int
    n_examples: int
    num_samples: int
    replacement: bool
    epoch: int
    position: int
    updates: tuple[WeightUpdate, ...]


class GapSampler(Sampler[int]):
    """Indices of examples, drawn by the gap of their domain, or by the weight a selection gives them.

    >>> sampler = GapSampler("runs/nano", domains=dataset["domain"])                 # doctest: +SKIP
    >>> loader = DataLoader(dataset, batch_size=8, sampler=sampler)                  # a loop of your own, or
    >>> sampler.attach(trainer)                                                      # a transformers.Trainer

    Args:
        source: a gap report (the record, its file or its run's folder) or a selection (the record or its folder).
        domains: for a report, the domain of every example in the order of the data set.
        ids: for a selection, the id of every example.
        num_samples: examples an epoch, over all replicas; by default as many as there are. Brought down to a multiple of
            ``num_replicas``.
        replacement: draw with replacement. Without, an epoch is a permutation in which heavy examples tend to come first: the
            weights then matter where ``num_samples`` is less than all.
        gamma, floor: see ``domain_weights``.
        others: weight of examples that the source knows nothing of, relative to the mean of those it knows; 0 leaves them out,
            ``None`` makes them an error.
        num_replicas, rank: of a data-parallel loop of your own; ranks get disjoint places of one order, equally many. transformers'
            Trainer and accelerate share out batches themselves: leave them at 1 and 0 there.
        allow_test_split: take a report of the test split.

    Call ``set_epoch`` before each epoch, as with ``DistributedSampler``: equal epochs have equal orders.
    """

    def __init__(
        self,
        source: GapReport | Selection | str | os.PathLike[str],
        *,
        domains: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        num_samples: int | None = None,
        seed: int = 0,
        replacement: bool = True,
        gamma: float = GAMMA,
        floor: float = FLOOR,
        others: float | None = None,
        num_replicas: int = 1,
        rank: int = 0,
        allow_test_split: bool = False,
    ) -> None:
        if not (math.isfinite(gamma) and gamma >= 0 and 0 < floor <= 1):
            raise UserInputError(f"gamma is {gamma}, floor is {floor}; expected gamma ≥ 0 and floor in (0, 1].")
        if others is not None and not (math.isfinite(others) and others >= 0):
            raise UserInputError(f"others is {others}; expected a weight ≥ 0, or None.")
        if num_replicas < 1 or not 0 <= rank < num_replicas:
            raise UserInputError(f"rank is {rank} of num_replicas {num_replicas}; expected 0 ≤ rank < num_replicas.")
        self.gamma, self.floor, self.others = gamma, floor, others
        self.seed, self.replacement = seed, replacement
        self.num_replicas, self.rank = num_replicas, rank
        self.allow_test_split = allow_test_split
        known = _read(source)
        self._domains: tuple[str, ...] | None = None  # those of the data, where a report steers
        if isinstance(known, GapReport):
            labels, weights = self._by_domain(known, domains, ids)
        else:
            labels, weights = self._by_id(known, domains, ids)
        self._names = sorted(weights)
        self._groups = np.array([self._names.index(label) for label in _distinct(labels)])[_codes(labels)]
        self.n_examples = len(self._groups)
        self.num_samples = self._checked(num_samples, weights)
        self.epoch = 0
        self._updates: list[WeightUpdate] = [WeightUpdate(0, 0, weights)]
        self._position = 0  # of this epoch's indices, over all replicas, how many were given out
        self._resumes = False  # whether the next iteration goes on at the position
        self._version = 0

    # --- weights

    def _by_domain(
        self, report: GapReport, domains: Sequence[str] | None, ids: Sequence[str] | None
    ) -> tuple[list[str], dict[str, float]]:
        if domains is None or ids is not None:
            raise UserInputError("a gap report weighs domains: give domains, the domain of every example (and no ids).")
        if not len(domains):
            raise UserInputError("domains is empty; expected the domain of every example of the data set.")
        rows = {row.name for row in report.domains}
        labels = list(domains)
        if rows and self.others is None and (unknown := sorted(set(labels) - rows)):
            raise UserInputError(
                f"the data has {len(unknown)} domains that the report lacks: {_listed(unknown)}{did_you_mean(unknown[0], rows)}. "
                f"The report has: {', '.join(sorted(rows))}. Relabel them, or give their weight as others=…"
            )
        present = sorted(rows & set(labels))
        if rows and not present:
            raise UserInputError(
                f"no example is of a domain of the report. The data has {_listed(sorted(set(labels)))}, the report {_listed(sorted(rows))}."
            )
        if missing := sorted(rows - set(present)):
            warnings.warn(
                f"the data has no example of {len(missing)} domains of the report, whose gaps it cannot close: {_listed(missing)}.",
                stacklevel=3,
            )
        self._domains = tuple(present)
        weights = domain_weights(
            report, present or None, gamma=self.gamma, floor=self.floor, allow_test_split=self.allow_test_split
        )
        return self._with_others(labels, weights)

    def _by_id(
        self, selection: Selection, domains: Sequence[str] | None, ids: Sequence[str] | None
    ) -> tuple[list[str], dict[str, float]]:
        if ids is None or domains is not None:
            raise UserInputError("a selection weighs documents: give ids, the id of every example (and no domains).")
        labels, weights = cluster_weights(selection, ids)
        unknown = [example for example, label in zip(ids, labels, strict=True) if label == OTHERS]
        if len(unknown) == len(ids):
            raise UserInputError(
                f"none of {len(ids)} examples is in the selection. Examples are called {_listed(unknown)}, "
                f"documents of the selection {_listed([chosen.document.id for chosen in selection.documents])}."
            )
        if unknown and self.others is None:
            raise UserInputError(
                f"{len(unknown)} of {len(ids)} examples are not in the selection: {_listed(unknown)}. "
                "Leave them out with others=0, or give their weight."
            )
        return self._with_others(labels, weights)

    def _with_others(self, labels: list[str], weights: dict[str, float]) -> tuple[list[str], dict[str, float]]:
        """Labels that ``weights`` lacks become one group, which weighs ``others`` × the mean known example."""
        if self.others is None:
            return labels, weights
        labels = [label if label in weights else OTHERS for label in labels]
        counts = Counter(labels)
        if counts[OTHERS]:
            known = sum(counts[name] for name in weights)
            mean = math.fsum(counts[name] * weight for name, weight in weights.items()) / known
            weights = {**weights, OTHERS: self.others * mean}
        return labels, weights

    def _checked(self, num_samples: int | None, weights: Mapping[str, float]) -> int:
        usable = int((self._per_example(weights) > 0).sum())
        total = num_samples if num_samples is not None else self.n_examples if self.replacement else usable
        if total < self.num_replicas:
            raise UserInputError(
                f"num_samples is {total}; expected at least 1 for each of {self.num_replicas} replicas."
            )
        if not self.replacement and total > usable:
            raise UserInputError(
                f"num_samples is {total}, and without replacement there are {usable} examples to draw. Lower it, or draw with replacement."
            )
        return total // self.num_replicas * self.num_replicas

    def _per_example(self, weights: Mapping[str, float]) -> np.ndarray:
        """(n_examples,) float64."""
        return np.array([weights[name] for name in self._names])[self._groups]

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of an example of each group now; the largest of those the source knows is 1."""
        return self._updates[-1].weights

    @property
    def shares(self) -> dict[str, float]:
        """The share of each group among what is drawn with replacement, by the weights of now."""
        mass = np.bincount(self._groups, self._per_example(self.weights), minlength=len(self._names))
        return dict(zip(self._names, (mass / mass.sum()).tolist(), strict=True))

    @property
    def updates(self) -> tuple[WeightUpdate, ...]:
        """The weights there have been, the first ones included."""
        return tuple(self._updates)

    @property
    def position(self) -> int:
        """How many of this epoch's indices were given out, over all replicas."""
        return self._position

    def update(self, report: GapReport | str | os.PathLike[str]) -> WeightUpdate:
        """Weigh by a newer report from the next index on, also in the middle of an epoch.

        Where no gap is left, all domains of the report weigh the same from then on. Raises ``UserInputError`` where the sampler was made
        from a selection, or the report lacks a domain of the data.
        """
        if self._domains is None:
            raise UserInputError(
                "this sampler was made from a selection, whose weights no report changes. Make it from a report, with domains=…"
            )
        known = report if isinstance(report, GapReport) else load_report(report)
        check_split(known, self.allow_test_split)
        if lost := sorted(set(self._domains) - {row.name for row in known.domains}):
            raise UserInputError(
                f"the new report lacks {len(lost)} domains of the data: {_listed(lost)}. Measure on the first one's task."
            )
        gaps = domain_gaps(known)
        if max(gaps[name] for name in self._domains) <= 0:
            weights = dict.fromkeys(self._domains, 1.0)
        else:
            weights = domain_weights(
                known, self._domains, gamma=self.gamma, floor=self.floor, allow_test_split=self.allow_test_split
            )
        if OTHERS in self._names:
            labels = [self._names[group] for group in self._groups]
            _, weights = self._with_others(labels, weights)
        self._updates.append(WeightUpdate(self.epoch, self._position, weights))
        self._version += 1
        return self._updates[-1]

    # --- order

    def __len__(self) -> int:
        """Indices an epoch, of this rank."""
        return self.num_samples // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        if not self._resumes:
            self._position = 0
        self._resumes = False
        epoch, version = self.epoch, self._version
        order = self.order(epoch)
        while self._position < self.num_samples and self.epoch == epoch:
            if version != self._version:
                order, version = self.order(epoch), self._version
            index = int(order[self._position + self.rank])
            self._position += self.num_replicas
            yield index

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration is of. Naming the current one again changes nothing."""
        if epoch != self.epoch:
            self.epoch, self._position, self._resumes = epoch, 0, False

    def order(self, epoch: int) -> np.ndarray:
        """(num_samples,) int64: all indices of an epoch over all replicas; rank r gets every ``num_replicas``-th from r on."""
        before = [update for update in self._updates if update.epoch < epoch]
        within = [update for update in self._updates if update.epoch == epoch]
        pieces = [WeightUpdate(epoch, 0, (before or self._updates[:1])[-1].weights), *within]
        order = np.zeros(self.num_samples, dtype=np.int64)
        for piece, later in zip(pieces, [*pieces[1:], None], strict=True):
            start = min(piece.position, self.num_samples)
            if start == self.num_samples or (later is not None and later.position == start):
                continue  # overtaken before anything was drawn
            weights = self._per_example(piece.weights)
            rng = np.random.default_rng([self.seed, epoch, start])
            if self.replacement:
                order[start:] = _with_replacement(weights, self.num_samples - start, rng)
            else:
                weights[order[:start]] = 0.0
                order[start:] = _without_replacement(weights, self.num_samples - start, rng)
        return order

    # --- state

    def state_dict(self, consumed: int | None = None) -> dict[str, Any]:
        """Everything that going on needs, as JSON values.

        ``consumed``: how many of this rank's indices of the epoch were really trained on, where a loader reads ahead of the training
        (worker processes do); by default all that were given out.
        """
        position = self._position if consumed is None else consumed * self.num_replicas
        if not 0 <= position <= self.num_samples:
            raise UserInputError(f"consumed is {consumed}; expected 0 to {len(self)}, the indices of an epoch.")
        state = SamplerState(
            self.seed, self.n_examples, self.num_samples, self.replacement, self.epoch, position, tuple(self._updates)
        )
        found = to_json(state)
        return found if isinstance(found, dict) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the sampler of that state was: the next iteration gives exactly the indices that were left of its epoch.

        Raises ``DataError`` where the state is of other data, another seed or another way of drawing.
        """
        found = from_json(SamplerState, dict(state))
        for name in ("seed", "n_examples", "num_samples", "replacement"):
            if getattr(found, name) != getattr(self, name):
                raise DataError(
                    f"the state is of a sampler with {name} {getattr(found, name)!r}, this one has {getattr(self, name)!r}: "
                    "its order would be another. Make the sampler as it was made then."
                )
        if found.position % self.num_replicas:
            raise DataError(
                f"the state stands at index {found.position}, which {self.num_replicas} replicas cannot share. Go on with as many as then."
            )
        self.replay(found.updates)
        self.epoch, self._position, self._resumes = found.epoch, found.position, True

    def replay(self, updates: Sequence[WeightUpdate]) -> None:
        """Take another run's weights, and where they changed, for one's own. Iteration begins at the start of the epoch: what a
        trainer does that skips the batches it had."""
        for update in updates:
            if set(update.weights) != set(self._names):
                raise DataError(
                    f"weights of {_listed(sorted(update.weights))} do not fit this data's {_listed(self._names)}. "
                    "Go on with the data that the run began with."
                )
        self._updates = list(updates) or self._updates[:1]
        self._position, self._resumes = 0, False
        self._version += 1

    # --- in a trainer

    def attach(self, trainer: AnyTrainer) -> AnyTrainer:
        """Make a ``transformers.Trainer`` (or a subclass that keeps its data loader) train by this sampler; returns the trainer.

        Raises ``UserInputError`` where the trainer's data is not what the sampler was made for.
        """
        if self.num_replicas != 1:
            raise UserInputError(
                f"num_replicas is {self.num_replicas}; a Trainer shares batches out among processes itself. Leave it at 1."
            )
        data: Any = trainer.train_dataset
        if data is None or not hasattr(data, "__len__"):
            raise UserInputError(
                "the trainer has no train_dataset with a length; a sampler needs examples to choose from."
            )
        if len(data) != self.n_examples:
            raise UserInputError(
                f"the trainer's train_dataset has {len(data)} examples, the sampler was made for {self.n_examples}. "
                "Give the sampler a label for every example of that data set, in its order."
            )
        if not hasattr(trainer, "_get_train_sampler"):
            raise UserInputError(f"{type(trainer).__name__} does not ask for a sampler as transformers' Trainer does.")
        trainer._get_train_sampler = lambda *_: self  # type: ignore[method-assign]
        trainer.add_callback(_epoch_setter(self))
        return trainer


def _epoch_setter(sampler: GapSampler) -> TrainerCallback:
    """Trainer and accelerate name the epoch to samplers, but not in a resumed run of several processes (accelerate 1.x): there the
    sampler lies one wrapper deeper than is looked for."""
    from transformers import TrainerCallback

    class EpochSetter(TrainerCallback):
        def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
            sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))

    return EpochSetter()


def _with_replacement(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n indices, each drawn by weight: the inverse of the cumulative distribution."""
    cumulative = np.cumsum(weights)
    drawn = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    last = int(np.flatnonzero(weights)[-1])  # rounding may reach the end of the last interval
    return np.minimum(drawn, last)


def _without_replacement(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n indices in the order of successive draws by weight among those left: the n first of exponential clocks with the weights
    as rates (Efraimidis & Spirakis 2006, *Weighted random sampling with a reservoir*)."""
    clocks = np.full(len(weights), np.inf)
    alive = weights > 0
    clocks[alive] = rng.exponential(size=len(weights))[alive] / weights[alive]
    return np.argsort(clocks, kind="stable")[:n]


def _read(source: GapReport | Selection | str | os.PathLike[str]) -> GapReport | Selection:
    if isinstance(source, (GapReport, Selection)):
        return source
    path = Path(source)
    if path.is_dir() and (path / SELECTION_FILE).exists() and not (path / REPORT_FILE).exists():
        from salad_train.selection.files import read_selection

        return read_selection(path)
    return load_report(path)


def _distinct(labels: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(labels))


def _codes(labels: Sequence[str]) -> np.ndarray:
    """(n,) int64: the place of each label among the distinct ones."""
    places = {label: place for place, label in enumerate(_distinct(labels))}
    return np.array([places[label] for label in labels], dtype=np.int64)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
