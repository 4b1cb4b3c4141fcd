"""One task of lm-eval against ours on the same rows: what is asked in every form, and what is measured of every answer."""

from __future__ import annotations

import itertools
import json
import math
import numbers
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.measures import OPTION_METRICS, not_computed
from salad_eval.benchmarks.scoring import own_metrics, scorer_of
from salad_eval.errors import SaladError
from salad_eval.types import LOGPROB_SCORES, OWN_SCORES, Item, Response
from tests.parity.oracle import FORMS, LmEvalSide, Splits
from tests.parity.ours import OurSide, read, write_mirror
from tests.parity.search import FEWEST_ROWS, gold_varies

SHOTS = (0, 2)
Status = Literal["equal", "differs", "refused", "no rows", "vacuous", "does not load", "unsettled"]
_MOST_OWN, _LONGEST_OWN = 4, 40
_NONE_EITHER = "lm-eval shows no such shot either"
_LM_EVAL_FAILS = (AssertionError, LookupError, TypeError, ValueError)
_OF_ROWS = ("rows can be used", "cannot be a shot")
_WRONG = ("I do not know.", "", "none of these", "The answer is Q.", "-17")
_WAYS = ("{}", " {}", "{}.", "The answer is {}.", "The answer is ({}).", "So the answer is {}.", "Answer: {}", "#### {}", "\\boxed{{{}}}",
         "The final answer is {}. I hope it is correct.", "The best answer is {}.", "({})", "**{}**", "The correct answer is {}",
         "Final Answer: [{}]")  # fmt: skip


@dataclass
class Verdict:
    """What came of a task. ``n_items``: of the fewest of its forms; ``detail``: why it is not equal; ``quick``: as another task is, and
    asked in fewer forms or not at all (see ``sweep``); ``unshot``: why lm-eval itself has no shots of it, so that it was asked without.
    """

    status: Status
    detail: str = ""
    n_items: int = 0
    n_rejects: int = 0
    values: list[float] = field(default_factory=list)
    score: str = ""
    not_computed: tuple[str, ...] = ()
    quick: bool = False
    unshot: str = ""


class _Differs(Exception):
    pass


class _Unfit(Exception):
    pass


class _NoShots(Exception):
    """lm-eval cannot show shots of this task."""


def compared(path: Path, splits: Splits, *, on_disk: bool = False, quick: bool = False) -> Verdict:
    """Ask and score the task on these rows on both sides; ``quick``: with shots alone, plainly and in a chat.

    Where lm-eval itself has no shots of it (its code asserts that they are texts, and they are not), without shots.
    """
    every_shots, forms = (SHOTS[-1:], FORMS[:2]) if quick else (SHOTS, FORMS)
    try:
        return _compared(path, splits, on_disk, every_shots, forms)
    except _NoShots as cause:
        found = _compared(path, splits, on_disk, SHOTS[:1], forms)
        found.unshot = str(cause)
        return found


def _compared(path: Path, splits: Splits, on_disk: bool, every_shots: Sequence[int], forms: Sequence[str]) -> Verdict:
    with tempfile.TemporaryDirectory() as folder:
        mirror = Path(folder)
        try:
            task = load_task(str(path), speak="context")
            write_mirror(mirror, task, splits)
            ours = {shots: read(task, mirror, shots) for shots in every_shots}
        except SaladError as cause:
            if _NONE_EITHER in str(cause) and _fails_with_shots(path, splits):
                raise _NoShots(str(cause)[:200]) from None
            made_up = any(mark in str(cause) for mark in _OF_ROWS)  # a fault of rows is no fault of the task
            return Verdict("vacuous" if made_up else "refused", str(cause)[:400])
    first = ours[every_shots[0]]
    task = first.task
    verdict = Verdict("equal", score=task.score)
    verdict.not_computed = not_computed(task.measures, task.score)
    verdict.n_items = min(len(one.items) for one in ours.values())
    verdict.n_rejects = max(len(one.rejects) for one in ours.values())
    try:
        theirs = LmEvalSide(path, splits, on_disk=on_disk)
        for shots, form in itertools.product(every_shots, forms):
            _same_questions(ours[shots], theirs, shots, form)
            theirs = LmEvalSide(path, splits, on_disk=on_disk) if on_disk else theirs
        verdict.values = _same_measures(first, theirs)
    except _Differs as cause:
        return Verdict("differs", str(cause)[:600], verdict.n_items, verdict.n_rejects, score=task.score)
    except _Unfit as cause:
        return Verdict("vacuous", str(cause), score=task.score)
    problem = _vacuous(ours, first, verdict.values)
    if problem:
        reasons = sorted({f"{reject.reason} {reject.detail}"[:120] for one in ours.values() for reject in one.rejects})
        verdict.status, verdict.detail = "vacuous", "; ".join([problem, *reasons[:2]])
    return verdict


def unsettled(path: Path, splits: Splits) -> bool:
    """Whether lm-eval's own rows of a task are others each time it looks at them, on a disk too: it then scores what it did not ask."""
    theirs = LmEvalSide(path, splits, on_disk=True)
    return theirs.docs != theirs.docs


def _fails_with_shots(path: Path, splits: Splits) -> bool:
    try:
        LmEvalSide(path, splits).asked(SHOTS[-1], FORMS[0])
    except _LM_EVAL_FAILS:
        return True
    return False


def _same_questions(ours: OurSide, theirs: LmEvalSide, shots: int, form: str) -> None:
    try:
        asked = theirs.asked(shots, form)
    except _LM_EVAL_FAILS as cause:
        if shots:
            raise _NoShots(f"{type(cause).__name__}: {cause}"[:200]) from None
        raise _Unfit(f"lm-eval itself fails on these rows: {cause!r:.200}") from None
    where = f"{shots} shots, {form}"
    for number, pairs in ours.asked(form).items():
        expected = asked[number]
        if ours.task.score in LOGPROB_SCORES and ours.task.score != "ll_mutual_info":
            expected = expected[: len(pairs)] if len(expected) == 2 * len(pairs) else expected
        if pairs != expected:
            raise _Differs(f"{where}, row {number}: asked {_first_difference(pairs, expected)}")


def _first_difference(ours: Sequence[Any], theirs: Sequence[Any]) -> str:
    if len(ours) != len(theirs):
        return f"{len(ours)} pairs, lm-eval {len(theirs)}"
    mine, other = next((a, b) for a, b in zip(ours, theirs, strict=True) if a != b)
    if mine.continuation != other.continuation:
        return f"continuation {mine.continuation!r}, lm-eval {other.continuation!r}"
    place = next(
        (k for k, (a, b) in enumerate(zip(mine.prompt, other.prompt, strict=False)) if a != b),
        min(len(mine.prompt), len(other.prompt)),
    )
    return f"prompt …{mine.prompt[max(0, place - 40) : place + 60]!r}, lm-eval …{other.prompt[max(0, place - 40) : place + 60]!r}"


# --- measures --------------------------------------------------------------------------------------------------------


def _same_measures(ours: OurSide, theirs: LmEvalSide) -> list[float]:
    docs = theirs.docs
    measure = _measure_options if ours.task.score in LOGPROB_SCORES else _measure_answers
    return [value for number, item in ours.items.items() for value in measure(ours, theirs, item, docs[number])]


def _response(item: Item, **said: Any) -> Response:
    return Response(item.id, "base_text", "text", None, None, **said)


def _equal(ours: float | None, theirs: object) -> bool:
    if not isinstance(theirs, numbers.Real) or not math.isfinite(theirs):
        return ours is None
    return ours is not None and math.isclose(ours, float(theirs), rel_tol=1e-12, abs_tol=1e-12)


def _measure_options(ours: OurSide, theirs: LmEvalSide, item: Item, doc: Mapping[str, Any]) -> list[float]:
    """Each option once the likeliest, with lengths that make acc and acc_norm disagree in some."""
    task, score = ours.task, scorer_of(ours.task)
    n = len(item.choices)
    alone = tuple(-2.0 - 0.37 * k for k in range(n)) if task.score == "ll_mutual_info" else ()
    values = []
    for likeliest in range(n):
        logprobs = tuple(-9.5 - 0.61 * ((k * 5 + likeliest) % n) + 7.25 * (k == likeliest) for k in range(n))
        both = task.score == "ll_mutual_info" or "acc_mutual_info" in task.measures.names
        answers = [(value, False) for value in (*logprobs, *(alone or (logprobs if both else ())))]
        expected = theirs.measured(doc, answers)
        found = score(item, _response(item, choice_logprobs=(*logprobs, *alone)))
        names = (
            own_metrics(task)
            if task.score in OWN_SCORES
            else [name for name, kind in OPTION_METRICS.items() if kind == task.score]
        )
        chosen = ours_metric(task, names)
        got = {chosen: found.value, **found.metrics}
        _same_values(item, got, _by_name(expected, chosen), found.reason)
        if found.value is not None:
            values.append(found.value)
    return values


_OF_CHOSEN = (
    "f1",
    "mcc",
    "brier_score",
    "likelihood",
)  # lm-eval has of each item which option is right and which was chosen


def _by_name(measured: Mapping[str, Any], chosen: str) -> dict[str, Any]:
    found = {key.removesuffix(",none"): value for key, value in measured.items()}
    if chosen not in found and (pairs := [found[name] for name in _OF_CHOSEN if name in found]):
        gold, said = pairs[0]
        found[chosen] = float(
            gold == (said if isinstance(said, numbers.Integral) else max(range(len(said)), key=lambda k: said[k]))
        )
    return found


def ours_metric(task: Any, names: Sequence[str]) -> str:
    from salad_eval.benchmarks.scoring import own_metric

    return own_metric(task) if task.score in OWN_SCORES else names[0]


def _measure_answers(ours: OurSide, theirs: LmEvalSide, item: Item, doc: Mapping[str, Any]) -> list[float]:
    values = []
    score = scorer_of(ours.task)
    for reply in _replies(ours, item):
        try:
            expected = theirs.measured(doc, [reply])
        except Exception as cause:
            found = score(item, _response(item, text=reply))
            if found.value is not None:
                raise _Differs(
                    f"{item.id}, answer {reply!r:.60}: scored {found.value}, lm-eval fails: {cause!r:.100}"
                ) from None
            continue
        found = score(item, _response(item, text=reply))
        got = {ours_metric(ours.task, own_metrics(ours.task)): found.value, **found.metrics}
        _same_values(
            item,
            got,
            {key.removesuffix(",none"): value for key, value in expected.items()},
            f"{reply!r:.60} {found.reason}",
        )
        if found.value is not None:
            values.append(found.value)
    return values


def _same_values(item: Item, ours: Mapping[str, float | None], theirs: Mapping[str, Any], what: str) -> None:
    for name, value in ours.items():
        if name not in theirs or not _equal(value, theirs[name]):
            raise _Differs(
                f"{item.id}: {name} is {value} ({what}), lm-eval {theirs.get(name, 'has no such measure')!r:.80}"
            )


def _replies(ours: OurSide, item: Item) -> list[str]:
    """Right strictly, right flexibly, another row's answer, wrong, unreadable."""
    others = [other.answers[0] for other in ours.items.values() if other.answers and other.id != item.id][:1]
    own = _texts_in(json.loads(item.row))[:_MOST_OWN] if ours.task.measures.process_results is not None else []
    said = list(dict.fromkeys([*item.answers[:1], *(item.choices if not item.answers else ()), *own, *others]))
    replies = [way.format(text) for text in said for way in _WAYS]
    for text in item.answers[:1]:
        replies += [fitted for step in _patterns(ours) if (fitted := fitting(step, text)) is not None]
    return list(dict.fromkeys([*replies, *_WRONG]))


def _texts_in(value: object) -> list[str]:
    """Short texts of a row, of which code of the task's own may want one where its target says another."""
    if isinstance(value, str):
        return [value] if 0 < len(value) < _LONGEST_OWN else []
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return list(dict.fromkeys(text for one in below for text in _texts_in(one)))


def _patterns(ours: OurSide) -> list[str]:
    steps = [step for one in ours.task.measures.filters for step in one.steps]
    return [str(dict(step.options)["regex_pattern"]) for step in steps if "regex_pattern" in dict(step.options)]


def fitting(pattern: str, answer: str) -> str | None:
    """A text in which ``pattern`` finds ``answer``: its fixed words, with the answer in the place of its first group."""
    import re._parser as parser  # type: ignore[import-not-found]

    def written(items: Any) -> str:
        text = ""
        for kind, value in items:
            name = str(kind)
            if name == "LITERAL":
                text += chr(value)
            elif name == "SUBPATTERN":
                group, *_, inner = value
                text += answer if group == 1 else written(inner)
            elif name == "ASSERT":
                text += written(value[1])
            elif name == "BRANCH":
                text += written(value[1][0])
            elif name in ("MAX_REPEAT", "MIN_REPEAT"):
                text += written(value[2]) * value[0]
            elif name == "IN":
                text += (
                    " "
                    if any(str(one[0]) == "CATEGORY" for one in value)
                    else chr(value[0][1])
                    if str(value[0][0]) == "LITERAL"
                    else "x"
                )
            elif name == "ANY":
                text += "x"
        return text

    try:
        return written(parser.parse(pattern)) if re.compile(pattern).groups else None
    except (re.error, TypeError, IndexError, ValueError):
        return None


def _vacuous(ours: Mapping[int, OurSide], first: OurSide, values: Sequence[float]) -> str:
    """Why a comparison that found no difference shows little; an empty text where it shows what it should."""
    for shots, side in ours.items():
        if len(side.items) < FEWEST_ROWS:
            return f"{len(side.items)} items at {shots} shots"
    task, items = first.task, list(first.items.values())
    if task.score in LOGPROB_SCORES and task.score not in OWN_SCORES:
        positions = {gold for item in items for gold in item.golds}
        if gold_varies(task.doc_to_target, task.path) and len(positions) < max(len(item.choices) for item in items):
            return f"gold is at {sorted(positions)} alone"
    if task.score in OWN_SCORES and task.measures.process_results is not None:
        return "" if len(set(values)) > 1 else f"all scores are {sorted(set(values))}"
    if not {0.0, 1.0} <= set(values):
        return f"scores are {sorted(set(values))[:5]}"
    return ""
