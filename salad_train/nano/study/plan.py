"""Which runs the study is made of. A run is a frozen record; its key names its line in ``runs.jsonl``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from salad_eval.errors import UserInputError
from salad_eval.identity import digest

Breadth = Literal["narrow", "broad", "untrue"]
BREADTHS: tuple[Breadth, ...] = ("narrow", "broad", "untrue")
Part = Literal["stage1", "stage2", "budgets", "gamma", "clusters", "tuning", "transfer", "untrue"]
# In the order in which they are made.
PARTS: tuple[Part, ...] = ("stage2", "budgets", "stage1", "tuning", "transfer", "gamma", "clusters", "untrue")

SIGNALS = ("uniform", "misalignment", "distillation", "gap", "learnability")
GAMMA, CLUSTERS, BUDGET = 5.0, 32, 2700.0  # where another of the three is varied
# Seconds of made speech and the steps of Stage II: with more to hear, more steps to get through it, the same for all signals.
STEPS = {900.0: 150, 2700.0: 300, 5400.0: 450}
_DESIGN = 2  # raised when what a run does is changed: records of another design are not taken for this one's


@dataclass(frozen=True, slots=True)
class Stage1Run:
    """Stage I from a fresh adapter at a constant rate, measured as the data it has heard grows.

    ``breadth``: the narrow speech set (the heard domains), speech of all domains, or the narrow set with its answers exchanged:
    text that the LLM would not have written, where fitting the text and keeping to the LLM are not the same.
    """

    alpha: float
    breadth: Breadth
    seed: int


@dataclass(frozen=True, slots=True)
class Stage2Run:
    """Stage II from the shipped model, with so many seconds of selected speech.

    Attributes:
        tune: what is trained beside the adapter. replay: whether plain text is read in between.
        held_back: half of the domains that Stage I never heard are kept out of the corpus (drawn by the seed): does speech of the
            others help them?
        listens: ask the test questions also in other voices, through noise and by telephone.
    """

    signal: str
    seed: int
    gamma: float = GAMMA
    clusters: int = CLUSTERS
    budget_seconds: float = BUDGET
    tune: Literal["adapter", "lora", "full"] = "adapter"
    replay: bool = True
    held_back: bool = False
    listens: bool = False

    def __post_init__(self) -> None:
        if self.budget_seconds not in STEPS:
            raise UserInputError(
                f"budget_seconds is {self.budget_seconds:g}; expected one of {', '.join(f'{b:g}' for b in STEPS)}."
            )

    @property
    def steps(self) -> int:
        """Optimiser steps of Stage II."""
        return STEPS[self.budget_seconds]


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """The whole study. ``parts`` may name fewer of them; what is there already is not made again."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    parts: tuple[Part, ...] = PARTS
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    budgets: tuple[float, ...] = tuple(STEPS)
    gammas: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0, 8.0)
    cluster_numbers: tuple[int, ...] = (16, 32, 64)

    def __post_init__(self) -> None:
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise UserInputError(f"seeds are {self.seeds}; expected at least one, each once.")
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown:
            raise UserInputError(f"parts are {self.parts}; expected some of {PARTS}.")

    def runs(self) -> dict[str, Stage1Run | Stage2Run]:
        """Every run by its key, each once, in the order in which they are made: part by part, and within a part all arms of one
        seed before the next seed, so that a study that is stopped has whole pairs."""
        found: dict[str, Stage1Run | Stage2Run] = {}
        for part in PARTS:
            if part in self.parts:
                for seed in self.seeds:
                    for run in _RUNS_OF[part](self, seed):
                        found.setdefault(run_key(run), run)
        return found


_Runs = Iterator[Stage1Run | Stage2Run]


def _stage1_runs(plan: StudyPlan, seed: int) -> _Runs:
    for alpha, breadth in itertools.product(plan.alphas, ("narrow", "broad")):
        yield Stage1Run(alpha, breadth, seed)  # type: ignore[arg-type]


def _stage2_runs(plan: StudyPlan, seed: int) -> _Runs:
    for signal in SIGNALS:
        yield Stage2Run(signal, seed, listens=signal in ("uniform", "gap"))


def _budget_runs(plan: StudyPlan, seed: int) -> _Runs:
    for budget, signal in itertools.product([b for b in plan.budgets if b != BUDGET], SIGNALS):
        yield Stage2Run(signal, seed, budget_seconds=budget)


def _gamma_runs(plan: StudyPlan, seed: int) -> _Runs:
    for gamma in plan.gammas:
        if gamma == 0:
            yield Stage2Run("uniform", seed, listens=True)  # γ = 0 is uniform, whatever the signal
        else:
            yield Stage2Run("gap", seed, gamma=gamma, listens=gamma == GAMMA)


def _cluster_runs(plan: StudyPlan, seed: int) -> _Runs:
    for k in plan.cluster_numbers:
        yield Stage2Run("gap", seed, clusters=k, listens=k == CLUSTERS)


def _tuning_runs(plan: StudyPlan, seed: int) -> _Runs:
    yield Stage2Run("gap", seed, listens=True)
    for tune, replay in itertools.product(("lora", "full"), (True, False)):
        yield Stage2Run("gap", seed, tune=tune, replay=replay)  # type: ignore[arg-type]


def _transfer_runs(plan: StudyPlan, seed: int) -> _Runs:
    yield Stage2Run("gap", seed, held_back=True)


def _untrue_runs(plan: StudyPlan, seed: int) -> _Runs:
    for alpha in (min(plan.alphas), max(plan.alphas)):
        yield Stage1Run(alpha, "untrue", seed)


_RUNS_OF: Mapping[Part, Callable[[StudyPlan, int], _Runs]] = {
    "stage2": _stage2_runs,
    "budgets": _budget_runs,
    "stage1": _stage1_runs,
    "tuning": _tuning_runs,
    "transfer": _transfer_runs,
    "gamma": _gamma_runs,
    "clusters": _cluster_runs,
    "untrue": _untrue_runs,
}


def run_key(run: Stage1Run | Stage2Run) -> str:
    """Names a run by all that it states."""
    return digest(type(run).__name__, run, _DESIGN)[:16]


# --- what is measured ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model, measured.

    Attributes:
        step: optimiser steps made. heard_seconds: distinct speech heard so far in this run.
        forgetting, misalignment, distillation, after_speech, inside_text: nats per scored position over the probe of all domains.
        text, speech: share of right answers by domain on the test split (speech: mean over the unseen voices).
        right: for each item and voice, in their order, whether it was answered right by ear: bits, as hexadecimal digits.
    """

    step: int
    heard_seconds: float
    forgetting: float
    misalignment: float
    distillation: float
    after_speech: float
    inside_text: float
    text: Mapping[str, float]
    speech: Mapping[str, float]
    right: str

    @property
    def text_accuracy(self) -> float:
        """Mean over domains, which all have as many items."""
        return sum(self.text.values()) / len(self.text)

    @property
    def speech_accuracy(self) -> float:
        return sum(self.speech.values()) / len(self.speech)


@dataclass(frozen=True, slots=True)
class Record:
    """A line of ``runs.jsonl``: what was run and what was found.

    Attributes:
        selected_seconds: sound of the selection by domain (Stage II).
        held_back: domains kept out of the corpus. conditions: share of right answers by ear under each way of listening.
    """

    key: str
    stage1: Stage1Run | None
    stage2: Stage2Run | None
    checkpoints: tuple[Checkpoint, ...]
    selected_seconds: Mapping[str, float]
    held_back: tuple[str, ...]
    conditions: Mapping[str, float]
    seconds: float

    @property
    def last(self) -> Checkpoint:
        return self.checkpoints[-1]
