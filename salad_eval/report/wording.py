"""The words and number formats that all views share: titles, glossary, the headline sentence. No statistics here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from salad_eval.gap.pair import (
    CORRECT,
    FORGOTTEN,
    LOST_IN_ADAPTATION,
    LOST_IN_ALIGNMENT,
    LOST_IN_RENDERING,
    SPEECH_ONLY,
    WRONG_IN_TEXT,
)
from salad_eval.types import ColumnName, Estimate, GapReport, GapRow

MISSING = "–"
ACCURACY, TOKEN_F1, MEAN_SCORE = "accuracy", "token F1", "mean score (token F1 in some tasks)"
STANDS_OUT = 0.05  # a domain stands out where its q-value is below this false discovery rate

COLUMN_TITLES: Mapping[ColumnName, str] = {
    "base_text": "Text LLM",
    "base_transcript": "Cascade",
    "adapted_text": "Adapted, text",
    "adapted_speech": "Adapted, speech",
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
    Term("Text LLM", "The base text LLM reading the question as written. What could be understood."),
    Term("Cascade", "An ASR transcribes the recording, then the same base text LLM reads the transcript."),
    Term(
        "Adapted, text",
        "The speech-adapted LLM reading the question as written. What adaptation has left of the text ability.",
    ),
    Term("Adapted, speech", "The speech-adapted LLM hearing the recording. What is understood by ear."),
    Term(
        "Gap",
        "Text LLM − Adapted, speech. Positive: speech is understood less well than text. Gap = forgetting + "
        "misalignment.",
    ),
    Term("Forgetting", "Text LLM − Adapted, text. What was lost of the text ability itself."),
    Term(
        "Misalignment",
        "Adapted, text − Adapted, speech. What one and the same model loses by hearing instead of reading.",
    ),
    Term("Cascade loss", "Text LLM − Cascade. What transcription costs: synthesis and recognition errors together."),
    Term(
        "F, M, D",
        "KL divergences in nats per scored text position: forgetting (base ‖ adapted, both reading), misalignment "
        "(adapted reading ‖ adapted hearing), distillation (base reading ‖ adapted hearing).",
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
        "Forgotten or lost in alignment, in a report without the column that tells them apart (Adapted, text).",
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


def one_line(text: str, width: int = 40) -> str:
    """A name as labels and headings can bear it: one line, cut with an ellipsis."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def stands_out(row: GapRow) -> bool:
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


def headline(report: GapReport) -> tuple[str, ...]:
    """What the report says, in a few plain sentences."""
    row = report.overall
    text, speech = row.accuracy["base_text"], row.accuracy["adapted_speech"]
    sign = "a gap of" if row.gap.value >= 0 else "a gap in favour of speech:"
    name = measure(report)
    if name == ACCURACY:
        found = (
            f"Reading the text, the base model answers {percent(text.value)}% of {row.n_items} questions; hearing them, "
            f"the adapted model answers {percent(speech.value)}%"
        )
    else:
        found = (
            f"Reading the text, the base model reaches a {name} of {percent(text.value)}% over {row.n_items} questions; hearing them, "
            f"the adapted model reaches {percent(speech.value)}%"
        )
    sentences = [f"{found}: {sign} {percent(row.gap.value)} points {interval(row.gap)}."]
    if row.forgetting is not None and row.misalignment is not None:
        sentences.append(
            f"Of these, {percent(row.forgetting.value)} points {interval(row.forgetting)} are forgetting (its text "
            f"ability changed) and {percent(row.misalignment.value)} points {interval(row.misalignment)} misalignment "
            f"(it understands less by ear than in text)."
        )
    else:
        sentences.append(
            "How much of it is forgetting and how much misalignment is not known: the adapted model was not asked in text."
        )
    if row.cascade_loss is not None:
        sentences.append(
            f"A cascade of ASR and the base model loses {percent(row.cascade_loss.value)} points "
            f"{interval(row.cascade_loss)} "
            "on the same recordings."
        )
    worse = [domain for domain in by_gap(report.domains) if stands_out(domain) and domain.gap.value > 0]
    better = [domain for domain in by_gap(report.domains) if stands_out(domain) and domain.gap.value < 0]
    if len(report.domains) > 1:
        sentences.append(_domain_sentence(worse, len(report.domains)))
        if better:
            sentences.append(f"Speech is better than text (q < {STANDS_OUT}) in {_listed(better)}.")
    return tuple(sentences)


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
