"""What a sweep found, as Markdown: names and families by verdict, and why what is not equal is not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from salad_eval.benchmarks.functions import lm_eval_version

if TYPE_CHECKING:
    from tests.parity.sweep import Named

_REASONS = (
    ("is no score of each item by itself", "none of its metrics is of one answer (bleu, chrf, F1 over classes, perplexity by group)"),
    ("ask for sampling", "answers are sampled"),
    ("its context is empty", "no prompt: whole sentences are weighed, and nothing is asked"),
    ("its output_type is", "output_type loglikelihood or loglikelihood_rolling: a text is weighed"),
    ("it shows", "shows images, or plays sound of its own"),
    ("runs the code", "runs code that a model writes"),
    ("runs programs", "runs code that a model writes"),
    ("sends what a model writes", "sends answers to another service"),
    ("written in Python", "a Python class, not a YAML"),
    ("unknown key", "a Python class, not a YAML"),
    ("every option is right", "every option is right"),
    ("scoring", "its own scoring cannot be run"),
    ("process_docs", "its process_docs cannot be run"),
    ("Python module", "a Python module is missing"),
)  # fmt: skip
_VERDICTS = {
    "equal": "load and are equal",
    "differs": "differ",
    "refused": "refused, saying why",
    "does not load": "do not load in lm-eval",
    "no rows": "no rows were found on which lm-eval's own code works",
    "vacuous": "nothing differed, but no answer was right, or too few rows were left",
    "unsettled": "differ from themselves: lm-eval asks one order of options and scores another",
    "": "not looked at",
}


def reason_of(detail: str) -> str:
    """The kind of a refusal."""
    return next((reason for mark, reason in _REASONS if mark in detail), detail[:90])


def table(everything: Sequence[Named], done: Mapping[str, Mapping[str, Any]]) -> str:
    statuses = {task.name: done.get(task.name, {}).get("status", "") for task in everything}
    by_family: dict[str, Counter[str]] = defaultdict(Counter)
    for task in everything:
        by_family[task.family][statuses[task.name]] += 1
    counts, n_families = Counter(statuses.values()), len(by_family)
    lines = [f"lm-eval {lm_eval_version()}: {len(everything):,} names of tasks in {n_families} families (folders).", ""]
    lines += ["| verdict | names | families with any such name |", "|---|--:|--:|"]
    for status, words in _VERDICTS.items():
        if counts[status] or status == "differs":
            having = sum(family[status] > 0 for family in by_family.values())
            share = f" ({100 * counts[status] / len(everything):.1f}%)"
            lines.append(f"| {words} | {counts[status]:,}{share} | {having} ({100 * having / n_families:.1f}%) |")
    whole = sum(set(family) == {"equal"} for family in by_family.values())
    quick = sum(bool(line.get("quick")) for line in done.values())
    lines += [
        "",
        f"{whole} families are equal in every name. {quick:,} of the equal names were compared in fewer forms (see above).",
    ]
    unshot = Counter(
        task.family for task in everything if done.get(task.name, {}).get("unshot") and statuses[task.name] == "equal"
    )
    if unshot:
        lines[-1] += (
            f" {unshot.total()} were compared without shots, as lm-eval itself fails to show any: {', '.join(sorted(unshot))}."
        )
    lines += ["", "| refused | names | families |", "|---|--:|---|"]
    refused = defaultdict(list)
    for task in everything:
        if statuses[task.name] == "refused":
            refused[reason_of(done[task.name]["detail"])].append(task.family)
    for reason, families in sorted(refused.items(), key=lambda one: -len(one[1])):
        lines.append(f"| {reason} | {len(families):,} | {_named(families)} |")
    for status in ("differs", "unsettled", "does not load", "no rows", "vacuous"):
        families = [task.family for task in everything if statuses[task.name] == status]
        if families:
            lines += ["", f"{_VERDICTS[status]} ({len(families):,}): {_named(families, most=60)}."]
    return "\n".join(lines)


def _named(families: Sequence[str], most: int = 12) -> str:
    counted = Counter(families).most_common()
    named = ", ".join(f"{family} {n}" if n > 1 else family for family, n in counted[:most])
    return named + (f" and {len(counted) - most} more" if len(counted) > most else "")
