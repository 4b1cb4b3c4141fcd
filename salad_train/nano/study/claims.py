"""What is said of the method, each as one number that could have come out otherwise: the paper's claims and the questions it left open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from salad_eval.types import Estimate
from salad_train.nano import world
from salad_train.nano.study import analysis
from salad_train.nano.study.analysis import Difference, Explained, Runs, Transfer, over_seeds, stage1_by_seed
from salad_train.nano.study.plan import BREADTHS, Checkpoint, Record, Stage2Run

Value = Callable[[Checkpoint], float]
Verdict = Literal["yes", "not told", "the opposite"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement, the number that tells, and the sign that it must have for the statement to hold.

    Attributes:
        by: "paper", or "open" for what the paper left open and the issue's own bar.
        measured: with a 95% interval. unit: "nats", "points" (a share; shown times 100) or "R²".
    """

    statement: str
    by: Literal["paper", "open"]
    what: str
    measured: Estimate
    unit: Literal["nats", "points", "R²"]
    sign: Literal[1, -1]

    @property
    def verdict(self) -> Verdict:
        """By the interval; without one (a single seed) nothing is told."""
        side = analysis.side(self.measured)
        return "not told" if side == 0 else "yes" if side == self.sign else "the opposite"


def claims(
    records: Runs,
    before: Checkpoint,
    told: Sequence[Explained],
    moved: Transfer | None,
    pooled: Mapping[str, Difference],
    budgets: Sequence[float],
) -> tuple[Claim, ...]:
    """Those for which there are runs. ``before``: the shipped model; ``told`` and ``moved`` are ``analysis.explained`` and
    ``analysis.transfer`` of the records, ``pooled`` each signal's ``analysis.over_budgets`` over ``budgets``."""
    return (
        *_of_stage1(records),
        *_of_accuracy(told),
        *_of_selection(pooled, budgets),
        *_of_what_was_open(records, before, moved),
    )


def _of_stage1(records: Runs) -> Iterator[Claim]:
    alphas = sorted({record.stage1.alpha for record in records if record.stage1 is not None})
    if len(alphas) < 2:
        return
    least, most = alphas[0], alphas[-1]
    late = "M after all steps less M after half of them"
    for statement, alpha, breadth, sign in (
        (f"on narrow speech, α = {least:g} makes M grow with data", least, "narrow", 1),
        (f"on narrow speech, α = {most:g} makes M fall with data", most, "narrow", -1),
        (f"on speech that says what the LLM would not, α = {least:g} makes M grow with data", least, "untrue", 1),
        (f"on such speech, α = {most:g} makes M fall with data", most, "untrue", -1),
    ):
        mine = stage1_by_seed(records, alpha, breadth)  # type: ignore[arg-type]
        if mine:
            grown = over_seeds([r.checkpoints[-1].misalignment - r.checkpoints[-2].misalignment for r in mine.values()])
            by: Literal["paper", "open"] = "paper" if breadth == "narrow" else "open"
            yield Claim(statement, by, f"{late}, α = {alpha:g}, {breadth}", grown, "nats", sign)  # type: ignore[arg-type]
    for name, short, value in (("misalignment", "M", _m), ("forgetting", "F", _f)):
        for breadth in BREADTHS:
            found = _paired(stage1_by_seed(records, most, breadth), stage1_by_seed(records, least, breadth), value)
            if found is not None:
                yield Claim(
                    f"distillation leaves less {name} than fitting the text ({breadth} speech)",
                    "paper" if (short, breadth) == ("M", "narrow") else "open",
                    f"{short} at α = {most:g} less {short} at α = {least:g}, {breadth}",
                    found,
                    "nats",
                    -1,
                )
    found = _paired(stage1_by_seed(records, most, "broad"), stage1_by_seed(records, most, "narrow"), _m)
    if found is not None:
        yield Claim(
            "broad speech leaves less misalignment than narrow", "paper", f"M, broad less narrow, α = {most:g}", found, "nats", -1
        )  # fmt: skip


def _of_accuracy(told: Sequence[Explained]) -> Iterator[Claim]:
    for row in told:
        if row.stage == "both":
            statement = f"{row.accuracy} follows {row.divergence}"
            yield Claim(statement, "paper", "leave-one-out R², all checkpoints", row.leave_one_out, "R²", 1)


def _of_selection(pooled: Mapping[str, Difference], budgets: Sequence[float]) -> Iterator[Claim]:
    at = f"by ear, all budgets ({', '.join(f'{budget:g}' for budget in budgets)} s)"
    for signal, found in pooled.items():
        by: Literal["paper", "open"] = "paper" if signal == "misalignment" else "open"
        yield Claim(f"selection by {signal} beats uniform", by, at, found.over_seeds, "points", 1)


def _of_what_was_open(records: Runs, before: Checkpoint, moved: Transfer | None) -> Iterator[Claim]:
    def arm(**changed: object) -> dict[int, Record]:
        return analysis.by_seed(records, Stage2Run("gap", 0, **changed))  # type: ignore[arg-type]

    usual, full, lora = arm(), arm(tune="full"), arm(tune="lora")
    bare_full, bare_lora = arm(tune="full", replay=False), arm(tune="lora", replay=False)
    with_and_without = "with replay less without"
    for statement, what, first, second, value, unit, sign in (
        ("a high γ beats a low one", "by ear, γ = 5 less γ = 1", usual, arm(gamma=1.0), _speech, "points", 1),
        ("a higher γ still is better", "by ear, γ = 8 less γ = 5", arm(gamma=8.0), usual, _speech, "points", 1),
        ("finer clusters are better", "by ear, K = 64 less K = 16", arm(clusters=64), arm(clusters=16), _speech, "points", 1),
        # With the adapter alone no batch is text, so what it is compared with must hear as many batches: without replay.
        ("training the whole LLM beats the adapter alone", "by ear, no replay", bare_full, usual, _speech, "points", 1),
        ("LoRA on the LLM beats the adapter alone", "by ear, no replay", bare_lora, usual, _speech, "points", 1),
        ("training the whole LLM beats LoRA", "by ear, no replay", bare_full, bare_lora, _speech, "points", 1),
        ("text replay keeps the whole LLM from forgetting", f"F, {with_and_without}", full, bare_full, _f, "nats", -1),
        ("text replay keeps LoRA from forgetting", f"F, {with_and_without}", lora, bare_lora, _f, "nats", -1),
        ("text replay costs accuracy by ear (whole LLM)", f"by ear, {with_and_without}", full, bare_full, _speech, "points", -1),
        ("text replay costs accuracy by ear (LoRA)", f"by ear, {with_and_without}", lora, bare_lora, _speech, "points", -1),
        ("text replay keeps accuracy by reading (whole LLM)", f"by reading, {with_and_without}", full, bare_full, _text, "points", 1),
    ):  # fmt: skip
        found = _paired(first, second, value)
        if found is not None:
            yield Claim(statement, "open", what, found, unit, sign)  # type: ignore[arg-type]
    if usual:
        lost = over_seeds([analysis.change(r.last, before, world.HEARD_DOMAINS) for r in usual.values()])
        statement = "Stage II costs accuracy by ear in the domains that Stage I heard"
        yield Claim(statement, "open", "by ear in them, gap, after less before", lost, "points", -1)
    if moved is not None:
        statement = "selected speech helps domains that it does not touch"
        yield Claim(statement, "open", "by ear in domains kept out, after less before", moved.kept_out, "points", 1)


def _paired(first: Mapping[int, Record], second: Mapping[int, Record], value: Value) -> Estimate | None:
    """``value`` of the last checkpoint of ``first`` less that of ``second``, over their common seeds; ``None`` without one."""
    seeds = sorted(first.keys() & second.keys())
    return over_seeds([value(first[seed].last) - value(second[seed].last) for seed in seeds]) if seeds else None


def _m(checkpoint: Checkpoint) -> float:
    return checkpoint.misalignment


def _f(checkpoint: Checkpoint) -> float:
    return checkpoint.forgetting


def _text(checkpoint: Checkpoint) -> float:
    return checkpoint.text_accuracy


def _speech(checkpoint: Checkpoint) -> float:
    return checkpoint.speech_accuracy
