"""The words and number formats that all views share: titles, glossary, the headline sentence. No statistics here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import category

from salad_eval.gap.pair import (
    CORRECT,
    FORGOTTEN,
    LOST_IN_ADAPTATION,
    LOST_IN_ALIGNMENT,
    LOST_IN_RENDERING,
    SPEECH_ONLY,
    WRONG_IN_TEXT,
)
from salad_eval.types import ColumnName, Estimate, GapReport, GapRow, LeftOut

if TYPE_CHECKING:
    from salad_eval.gap.compare import Against, ComparisonRow

MISSING = "–"
ACCURACY, TOKEN_F1, MEAN_SCORE = "accuracy", "token F1", "mean score (token F1 in some tasks)"
WORTH_SAYING = 0.01  # of the questions left out, in [0, 1]
MOST_REASONS = 3
STANDS_OUT = 0.05  # a domain stands out where its q-value is below this false discovery rate

COLUMN_TITLES: Mapping[ColumnName, str] = {
    "base_text": "Reads",
    "base_transcript": "Cascade",
    "adapted_text": "Adapted reads",
    "adapted_speech": "Hears",
}
COLUMN_WORDS: Mapping[ColumnName, str] = {column: title.lower() for column, title in COLUMN_TITLES.items()}
COLUMN_MEANINGS: Mapping[ColumnName, str] = {
    "base_text": "text LLM, the question as written",
    "base_transcript": "text LLM, what an ASR heard",
    "adapted_text": "speech LLM, the question as written",
    "adapted_speech": "speech LLM, the question as sound",
}
TAXONOMY_TITLES: Mapping[str, str] = {
    CORRECT: "correct",
    LOST_IN_ALIGNMENT: "lost in alignment",
    FORGOTTEN: "forgotten",
    LOST_IN_ADAPTATION: "lost in adaptation",
    LOST_IN_RENDERING: "lost in rendering",
    WRONG_IN_TEXT: "wrong already in text",
    SPEECH_ONLY: "right by ear only",
}


@dataclass(frozen=True, slots=True)
class Term:
    name: str
    meaning: str


GLOSSARY: Sequence[Term] = (
    Term("Reads", "The base text LLM reading the question as written. What could be understood."),
    Term("Cascade", "An ASR transcribes the recording, then the same base text LLM reads the transcript."),
    Term(
        "Adapted reads",
        "The speech-adapted LLM reading the question as written. What adaptation has left of the text ability.",
    ),
    Term("Hears", "The speech-adapted LLM hearing the recording. What is understood by ear."),
    Term(
        "Gap",
        "Reads − Hears. Positive: speech is understood less well than text. Gap = forgetting + misalignment.",
    ),
    Term("Forgetting", "Reads − Adapted reads. What was lost of the text ability itself."),
    Term(
        "Misalignment",
        "Adapted reads − Hears. What one and the same model loses by hearing instead of reading.",
    ),
    Term("Cascade loss", "Reads − Cascade. What transcription costs: synthesis and recognition errors together."),
    Term(
        "F, M, D",
        "KL divergences in nats per scored text position: forgetting (base ‖ adapted, both reading), misalignment "
        "(adapted reading ‖ adapted hearing), distillation (base reading ‖ adapted hearing).",
    ),
    Term(
        "Consistency",
        "How often the adapted model chooses by ear what it chooses in reading, right or wrong (after C3T, arXiv 2509.12171).",
    ),
    Term(
        "Sees, ±5 needs",
        "Sees: the smallest gap that the test finds four times in five on as many questions, when as many as now go against it by "
        "chance. ±5 needs: items for a 95% interval of 5 points to either side.",
    ),
    Term(
        "Margin",
        "Log-probability of the best right option less that of the best wrong one, in nats (per character where lengths are "
        "compared). Below 0 the answer is wrong, the further the surer.",
    ),
    Term("WER", "Word errors of the ASR over words spoken, after normalisation."),
    Term(
        "p, q",
        "p: paired permutation test of gap = 0 (signs of the groups' differences flipped; two-sided; exact where "
        "small). "
        "q: p adjusted over domains by Benjamini and Hochberg; calling the domains with q < 0.05 different has an "
        "expected share "
        "of false calls of at most 5%.",
    ),
    Term(
        "Shrunk gap",
        "The domain's gap drawn towards the mean of the domains, the more the fewer items it rests on (empirical "
        "Bayes). "
        "Use it to rank domains; use the plain gap to report them.",
    ),
    Term(
        "Lost in rendering",
        "Text right, cascade wrong, speech wrong: the recording may be at fault, so the speech LLM is not blamed.",
    ),
    Term("Forgotten", "Text and cascade right, the adapted model wrong both in text and by ear."),
    Term(
        "Lost in alignment",
        "Right everywhere but by ear: only the speech LLM fails on a recording the cascade understood.",
    ),
    Term(
        "Lost in adaptation",
        "Forgotten or lost in alignment, in a report without the column that tells them apart (Adapted reads).",
    ),
    Term(
        "Right by ear only",
        "The text LLM is wrong, the adapted model hearing it is right. "
        "Gap = lost in rendering + forgotten + lost in alignment − right by ear only.",
    ),
)

HOW_TO_READ = (
    "All four columns are measured on the same items; an item without a value in one of them is left out of all and "
    "counted under rejects. "
    "Brackets are 95% intervals of a paired bootstrap over groups (a passage, or an item with all its voices): all "
    "columns share the same "
    "resamples, so an interval of a difference is not the difference of two intervals, and two columns whose "
    "intervals overlap can still "
    "differ clearly. Domains with few items have wide intervals; before you read anything into one domain look at "
    "its n and its q. "
    "“Overall” is over all items, so large domains weigh more."
)


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as percent: ``0.914`` -> ``91.4``; a true minus sign, and no ``-0.0``."""
    if value is None:
        return MISSING
    text = f"{100 * value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def interval(estimate: Estimate | None, digits: int = 1) -> str:
    """``[88.1, 93.9]`` in percent, or a dash."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return MISSING
    return f"[{percent(estimate.low, digits)}, {percent(estimate.high, digits)}]"


def with_interval(estimate: Estimate | None) -> str:
    return MISSING if estimate is None else f"{percent(estimate.value)} {interval(estimate)}"


def probability(value: float | None) -> str:
    """A p- or q-value with the digits it deserves."""
    if value is None:
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def signed(value: float) -> str:
    """Percentage points with their sign: ``+3.1``, ``−0.4``, ``0.0``."""
    text = percent(value)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def p_words(p_value: float) -> str:
    """``p = 0.012``, or ``p < 0.001``."""
    text = probability(p_value)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def nats(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}".replace("-", "−")


def printable(text: str) -> str:
    """What somebody else wrote, for a terminal: control characters, which might drive it, become marks; line ends and tabs stay."""
    return "".join(
        "�" if category(letter) in ("Cc", "Cf", "Cs") and letter not in "\n\t" else letter for letter in text
    )


def one_line(text: str, width: int = 40) -> str:
    """A name as labels and headings can bear it: one line, cut with an ellipsis."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= width else text[: width - 1] + "…"


def stands_out(row: GapRow | ComparisonRow | Against) -> bool:
    """Whether its q-value is below the false discovery rate."""
    return row.q_value is not None and row.q_value < STANDS_OUT


def by_gap(rows: Sequence[GapRow]) -> list[GapRow]:
    """Largest gap first."""
    return sorted(rows, key=lambda row: (-row.gap.value, row.name))


def measure(report: GapReport) -> str:
    """What the columns are: accuracy, token F1, or where tasks differ their mean."""
    kinds = {protocol.score == "f1" for protocol in report.protocols}
    if kinds == {True}:
        return TOKEN_F1
    return MEAN_SCORE if True in kinds else ACCURACY


def unparsed_shares(report: GapReport) -> list[str]:
    """For each column with unparsed answers how many they are, and of how many that is where the report says so."""
    lines = []
    for column, n in report.unparsed.items():
        of = report.generated.get(column)
        share = f" of {of} ({percent(n / of)}%)" if of else ""
        if n:
            lines.append(f"{COLUMN_TITLES[column]}: {n}{share}")
    return lines


@dataclass(frozen=True, slots=True)
class Shown:
    """The rows that a view leads with: of one condition (clean, if it is there) where there are several, else of everything."""

    condition: str  # empty where there is only one
    overall: GapRow
    domains: tuple[GapRow, ...]
    tasks: tuple[GapRow, ...]


def shown(report: GapReport) -> Shown:
    if report.by_condition:
        first = report.by_condition[0]
        return Shown(first.condition, first.overall, first.domains, first.tasks)
    tasks = tuple(part.row for part in report.slices if part.field == "task")
    return Shown("", report.overall, report.domains, tasks)


def clear(estimate: Estimate) -> bool:
    """Whether the interval leaves out 0."""
    return estimate.low is not None and estimate.high is not None and (estimate.low > 0 or estimate.high < 0)


def negated(estimate: Estimate) -> Estimate:
    """The same difference, taken the other way round."""
    low, high = estimate.low, estimate.high
    return Estimate(-estimate.value, None if high is None else -high, None if low is None else -low, estimate.n)


def models(report: GapReport) -> str:
    """Both models by the names their user gave."""
    return f"{report.names.base or 'text LLM'} → {report.names.adapted or 'speech LLM'}"


def without_headline(report: GapReport) -> str:
    """Why too much was left out for a headline; empty where it was not."""
    missing = report.left_out
    if missing is None or missing.share <= missing.most:
        return ""
    return (
        f"no headline, since {_share_left_out(missing)}, more than the {100 * missing.most:g}% that most_rejected allows: "
        f"{_reasons(report)}"
    )


def left_out_sentence(report: GapReport) -> str:
    """How much was left out, and what for; empty where it is little."""
    missing = report.left_out
    if missing is None or missing.share <= WORTH_SAYING:
        return ""
    return f"{_share_left_out(missing)}, which can bias the gap: {_reasons(report)}."


def _share_left_out(missing: LeftOut) -> str:
    return f"{percent(missing.share)}% of the questions are in no column"


def _reasons(report: GapReport) -> str:
    named = [f"{count.reason} ({count.n:,})" for count in report.rejects[:MOST_REASONS]]
    return ", ".join(named) + (", …" if len(report.rejects) > MOST_REASONS else "")


def found(report: GapReport) -> str:
    """What was found in one line: what is read, what is heard, and the gap; or why that is not said."""
    if nothing := without_headline(report):
        return nothing
    rows = shown(report)
    gap = rows.overall.gap
    reads, hears = (rows.overall.accuracy[column].value for column in ("base_text", "adapted_speech"))
    aside = [name for name in (rows.condition, "" if measure(report) == ACCURACY else measure(report)) if name]
    values = f"reads {percent(reads)}, hears {percent(hears)}"
    beside = "".join(f"; {name}" for name in aside)
    if clear(gap):
        return f"{values} (gap {with_interval(gap)}{beside})"
    return f"no clear gap ({values}, gap {with_interval(gap)}{beside})"


def other_conditions(report: GapReport) -> list[str]:
    """Each further condition in one line."""
    return [
        f"{rows.condition}: hears {percent(rows.overall.accuracy['adapted_speech'].value)} (gap {with_interval(rows.overall.gap)})"
        for rows in report.by_condition[1:]
    ]


def headline(report: GapReport) -> tuple[str, ...]:
    """What the report says, in a few plain sentences; the first is the title."""
    if nothing := without_headline(report):
        return (f"{models(report)}: {nothing}.",)
    beside = "; ".join(other_conditions(report))
    return (f"{models(report)}: {found(report)}.", *([f"{beside}."] if beside else []), *findings(report))


def findings(report: GapReport) -> tuple[str, ...]:
    """What was left out, what the loss is made of, what the cascade loses, which domains stand out, and what could have been seen."""
    if without_headline(report):
        return ()
    rows = shown(report)
    row = rows.overall
    said = left_out_sentence(report)
    sentences = [*([said] if said else []), _split_sentence(row)]
    if row.cascade_loss is not None:
        sentences.append(_cascade_sentence(row.cascade_loss, report.names.asr))
    worse = [domain for domain in by_gap(rows.domains) if stands_out(domain) and domain.gap.value > 0]
    better = [domain for domain in by_gap(rows.domains) if stands_out(domain) and domain.gap.value < 0]
    if len(rows.domains) > 1:
        sentences.append(_domain_sentence(worse, len(rows.domains)))
        if better:
            sentences.append(f"Speech is better than text (q < {STANDS_OUT}) in {_listed(better)}.")
    if row.power is not None:
        sentences.append(power_sentence(row))
    return tuple(sentences)


def _split_sentence(row: GapRow) -> str:
    if row.forgetting is None or row.misalignment is None:
        return "How much of the gap is forgetting and how much misalignment is not known: the adapted model was not asked in text."
    lost, unheard = row.forgetting, row.misalignment
    if not clear(lost):
        first = f"No clear forgetting ({signed(lost.value)} points {interval(lost)}, reading against reading)"
    elif lost.value > 0:
        first = f"Forgetting takes {percent(lost.value)} points {interval(lost)}: the adapted model reads less well than the text LLM"
    else:
        won = negated(lost)
        first = f"Nothing is forgotten: the adapted model reads {percent(won.value)} points {interval(won)} better than the text LLM"
    if not clear(unheard):
        second = f"no clear misalignment ({signed(unheard.value)} points {interval(unheard)}, hearing against its own reading)"
    elif unheard.value > 0:
        second = f"misalignment takes {percent(unheard.value)} points {interval(unheard)}: it understands less by ear than by reading"
    else:
        won = negated(unheard)
        second = f"by ear it answers {percent(won.value)} points {interval(won)} more than by reading"
    return f"{first}; {second}."


def _cascade_sentence(loss: Estimate, asr: str) -> str:
    cascade = f"A cascade of {asr or 'ASR'} and the text LLM"
    if not clear(loss):
        return f"{cascade} loses nothing clear on the same recordings ({signed(loss.value)} points {interval(loss)})."
    if loss.value > 0:
        return f"{cascade} loses {percent(loss.value)} points {interval(loss)} on the same recordings."
    won = negated(loss)
    return (
        f"{cascade} answers {percent(won.value)} points {interval(won)} more than the text LLM on the same recordings."
    )


def power_sentence(row: GapRow) -> str:
    """What a row could have shown."""
    assert row.power is not None  # for the type checker: callers look
    needed = f"an interval of ±5 points takes {row.power.n_items_needed:,} items"
    if row.power.visible_gap is None:
        return f"{row.n_items} items show no gap at all four times in five; {needed}."
    return f"{row.n_items} items show a gap of {percent(row.power.visible_gap)} points four times in five; {needed}."


def disagreement(row: GapRow) -> str:
    """Why interval and q of a row say different things; empty where they do not."""
    if row.q_value is None or clear(row.gap) == stands_out(row):
        return ""
    if clear(row.gap):
        return "the interval leaves out 0, but among so many domains some do so by chance, and q allows for that"
    return "q is below 0.05, but the interval, which is drawn more carefully for few items, still holds 0"


def _domain_sentence(worse: Sequence[GapRow], n_domains: int) -> str:
    if not worse:
        return f"No domain of {n_domains} stands out: in none is the gap above 0 at q < {STANDS_OUT}."
    verb = "shows" if len(worse) == 1 else "show"
    return f"{len(worse)} of {n_domains} domains {verb} a gap at q < {STANDS_OUT}: {_listed(worse)}."


def _listed(rows: Sequence[GapRow], most: int = 8) -> str:
    named = [f"{one_line(row.name)} ({percent(row.gap.value)})" for row in rows[:most]]
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(named) + more


def taxonomy_titles(row: GapRow) -> list[tuple[str, str]]:
    """The causes a report tells apart, in their order, and what they are called; the same in all of its rows."""
    return [(cause, TAXONOMY_TITLES[cause]) for cause in causes(row)]


def causes(row: GapRow) -> list[str]:
    """The causes that a row has a share for, in the order of the taxonomy."""
    order = list(TAXONOMY_TITLES)
    return sorted(row.taxonomy, key=order.index)


def value_of(estimate: Estimate | None) -> float | None:
    """The value of an estimate, and ``None`` of what was not measured."""
    return None if estimate is None else estimate.value
