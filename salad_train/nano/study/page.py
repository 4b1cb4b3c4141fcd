"""The study's page: what was found, whatever it is, as Markdown and as HTML, from the same content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from salad_eval.records import to_json, write_atomic
from salad_eval.report.figures import RenderedFigure
from salad_eval.report.inline import inline_svg
from salad_eval.report.markdown import escape_markdown
from salad_eval.report.parts import page_parts
from salad_eval.report.templates import environment
from salad_eval.types import Estimate
from salad_train.nano import world
from salad_train.nano.study import analysis
from salad_train.nano.study.analysis import ArmResult
from salad_train.nano.study.claims import Claim, claims
from salad_train.nano.study.figures import figures
from salad_train.nano.study.plan import BUDGET, CLUSTERS, GAMMA, SIGNALS, STEPS, Record, StudyPlan

MISSING = "–"


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """``words``: the columns that hold words, not numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: tuple[Paragraph | Table | RenderedFigure, ...]


def write_page(plan: StudyPlan, records: Sequence[Record], out: Path, command: str) -> Path:
    """Write ``README.md``, ``index.html``, ``findings.json`` and the figures into ``out``; returns the page's path."""
    shipped, runs = records[0], records[1:]
    before = shipped.last
    curves = analysis.curves(runs)
    told = analysis.explained(runs)
    moved = analysis.transfer(runs, before)
    budget_arms = analysis.arms(runs, before, analysis.varied(runs, "budget_seconds", SIGNALS))
    budgets = sorted({arm.run.budget_seconds for arm in budget_arms})
    pooled = {
        signal: found for signal in SIGNALS[1:] if (found := analysis.over_budgets(runs, signal, budgets)) is not None
    }
    said = claims(runs, before, told, moved, pooled, budgets)
    together = pooled if len(budgets) > 1 else {}
    without_signal = tuple(  # γ = 0 is uniform
        replace(arm, run=replace(arm.run, gamma=0.0))
        for arm in budget_arms
        if (arm.run.signal, arm.run.budget_seconds) == ("uniform", BUDGET)
    )
    gamma_arms = _several(
        (*without_signal, *analysis.arms(runs, before, analysis.varied(runs, "gamma", ("gap",)))), "gamma"
    )
    cluster_arms = _several(analysis.arms(runs, before, analysis.varied(runs, "clusters", ("gap",))), "clusters")
    pictures = {
        figure.name: figure
        for figure in figures(records if told else (), curves, budget_arms, gamma_arms, cluster_arms)
    }
    for figure in pictures.values():
        write_atomic(out / f"{figure.name}.png", figure.png)
        write_atomic(out / f"{figure.name}.svg", figure.svg)
    sections = [
        _setting(plan, records, command),
        _claims(said),
        _signals(budget_arms, together, gamma_arms, cluster_arms, pictures, before.speech_accuracy),
        _alpha(curves, pictures),
        _explained(told, pictures),
        _open(runs, shipped, moved),
    ]
    sections = [section for section in sections if section.blocks]
    title = "The method in small: what the embedded world says"
    findings = {
        "seeds": list(plan.seeds),
        "claims": [{"verdict": claim.verdict, "claim": to_json(claim)} for claim in said],
        "before": to_json(before),
        "budgets": to_json(list(budget_arms)),
        "over_budgets": to_json(together),
        "gammas": to_json(list(gamma_arms)),
        "clusters": to_json(list(cluster_arms)),
        "curves": to_json(list(curves)),
        "explained": to_json(list(told)),
        "tunings": to_json(list(analysis.tunings(runs))),
        "transfer": to_json(moved),
        "conditions": to_json(analysis.conditions(runs, shipped)),
    }
    write_atomic(out / "findings.json", json.dumps(findings, indent=1) + "\n")
    write_atomic(out / "index.html", _html(title, sections))
    write_atomic(out / "README.md", _markdown(title, sections))
    return out / "README.md"


def _html(title: str, sections: Sequence[Section]) -> str:
    templates = environment(autoescape=True)
    templates.filters["inline"] = lambda figure: inline_svg(figure.svg, figure.name, figure.alt)
    templates.tests["figure"] = lambda block: isinstance(block, RenderedFigure)
    templates.tests["table"] = lambda block: isinstance(block, Table)
    return templates.get_template("study.html.j2").render(parts=page_parts(), title=title, sections=sections)


def _several(arms: tuple[ArmResult, ...], vary: str) -> tuple[ArmResult, ...]:
    """Nothing where only one value of what is varied has been run yet with the signal."""
    return arms if len({getattr(arm.run, vary) for arm in arms if arm.run.signal != "uniform"}) > 1 else ()


def _markdown(title: str, sections: Sequence[Section]) -> str:
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            if isinstance(block, Paragraph):
                lines += [block.text, ""]
            elif isinstance(block, Table):
                lines += ["| " + " | ".join(block.head) + " |"]
                lines += ["|" + "|".join("---" if k in block.words else "---:" for k in range(len(block.head))) + "|"]
                lines += ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in block.rows]
                lines += [""]
            else:
                lines += [f"![{block.alt}]({block.name}.png)", ""]
    return "\n".join(lines).rstrip() + "\n"


# --- sections --------------------------------------------------------------------------------------------------------


def _setting(plan: StudyPlan, records: Sequence[Record], command: str) -> Section:
    n1 = sum(record.stage1 is not None for record in records)
    n2 = sum(record.stage2 is not None for record in records)
    hours = sum(record.seconds for record in records) / 3600
    wanted = len(plan.runs())
    heard = ", ".join(world.HEARD_DOMAINS)
    return Section(
        "What was done",
        (
            Paragraph(
                f"Made by `{command}` (salad-gap {version('salad-gap')}): {n1} Stage I and {n2} Stage II runs over seeds "
                f"{', '.join(map(str, plan.seeds))}; {hours:.1f} hours of one-thread processes. "
                + (f"**Unfinished: {n1 + n2} of {wanted} runs are there.** " if n1 + n2 < wanted else "")
                + "Every run is a line of `runs.jsonl`; `findings.json` holds the numbers of this page."
            ),
            Paragraph(
                f"The world is `nano`: closed, of true facts, with synthetic speech only. Stage I heard {len(world.HEARD_DOMAINS)} of "
                f"{len(world.domains())} domains ({heard}). Stage II begins with the shipped `nano/speech`. Accuracy is of four "
                f"options (chance 25%) on the test split, {world.ITEMS_PER_DOMAIN * len(world.domains())} questions in two "
                "voices that no training used; "
                "selection saw the validation report only. Intervals are 95%: Student's t over seeds unless said otherwise."
            ),
        ),
    )


def _claims(said: Sequence[Claim]) -> Section:
    if not said:
        return Section("What holds here", ())
    words = (
        "A statement holds where the 95% interval of the number beside it lies on its side of zero; the opposite holds where it lies "
        "on the other; nothing is told where it holds zero. Differences are paired over seeds. Statements marked so are the paper's, "
        "as it was digested (d); all others are what it left open. They are many: of as many statements about nothing, one in "
        "twenty would be told."
    )
    rows = tuple(
        (claim.statement, claim.verdict, _measured(claim), claim.what, "paper" if claim.by == "paper" else "")
        for claim in said
    )
    head = ("statement", "holds", "measured", "number", "said by")
    return Section("What holds here", (Paragraph(words), Table(head, rows, words=(0, 1, 3, 4))))


def _measured(claim: Claim) -> str:
    if claim.unit == "points":
        return f"{_with_interval(claim.measured, signed=True)} points"
    digits = 2 if claim.unit == "R²" else 3
    sign = "" if claim.unit == "R²" else "+"
    value = f"{claim.measured.value:{sign}.{digits}f}".replace("-", "−")
    return f"{value} {_interval(claim.measured, 1, digits)}".strip() + (" nats" if claim.unit == "nats" else "")


def _signals(
    budget_arms: Sequence[ArmResult],
    pooled: Mapping[str, analysis.Difference],
    gamma_arms: Sequence[ArmResult],
    cluster_arms: Sequence[ArmResult],
    pictures: dict[str, RenderedFigure],
    before: float,
) -> Section:
    blocks: list[Paragraph | Table | RenderedFigure] = []
    if budget_arms:
        blocks.append(
            Paragraph(
                f"Before Stage II, {_percent(before)}% are answered by ear. Equal budgets, equal steps "
                f"({', '.join(f'{steps} for {budget:g} s' for budget, steps in STEPS.items())}), γ = {GAMMA:g}, K = {CLUSTERS}; "
                "the adapter alone is trained, so reading stays as it was. "
                "By the interval over seeds: " + " ".join(_verdicts(budget_arms))
            )
        )
        blocks += [
            _arm_table(budget_arms, "seconds", lambda arm: f"{arm.run.budget_seconds:g}"),
            *_picture(pictures, "budgets"),
        ]
    if pooled:
        n = sum(arm.against_uniform is not None for arm in budget_arms)
        blocks += [
            Paragraph(
                f"These are {n} comparisons with uniform, of which chance alone would put one in forty above zero. All budgets "
                "together, one comparison a signal (the mean of a seed's differences):"
            ),
            Table(
                ("signal", "seeds", "less uniform, points", "… over seeds and questions"),
                tuple(
                    (
                        signal,
                        str(found.over_seeds.n),
                        _with_interval(found.over_seeds, signed=True),
                        _interval(found.over_seeds_and_items),
                    )
                    for signal, found in pooled.items()
                ),
            ),
        ]
    if gamma_arms:
        blocks.append(
            Paragraph(f"The exponent γ of P_target ∝ P_web · s^γ, at {BUDGET:g} s, K = {CLUSTERS} (γ = 0 is uniform):")
        )
        blocks += [_arm_table(gamma_arms, "γ", lambda arm: f"{arm.run.gamma:g}"), *_picture(pictures, "gamma")]
    if cluster_arms:
        blocks.append(
            Paragraph(
                f"The number of clusters K, at {BUDGET:g} s and γ = {GAMMA:g} (compared with uniform at K = {CLUSTERS}):"
            )
        )
        blocks += [_arm_table(cluster_arms, "K", lambda arm: f"{arm.run.clusters}"), *_picture(pictures, "clusters")]
    return Section("Does a signal beat uniform at the same budget?", tuple(blocks))


def _verdicts(arms: Sequence[ArmResult]) -> Iterator[str]:
    """For each signal: at which budgets its difference to uniform excludes zero over seeds, and whether over questions as well."""
    for signal in SIGNALS[1:]:
        mine = [(arm, arm.against_uniform) for arm in arms if arm.run.signal == signal and arm.against_uniform]
        if not mine:
            continue
        said = []
        for verb, side in (("beats uniform", 1), ("is beaten by uniform", -1), ("is not told apart from uniform", 0)):
            at = [
                f"{arm.run.budget_seconds:g} s"
                + (" (over other questions, too)" if side and analysis.side(found.over_seeds_and_items) == side else "")
                for arm, found in mine
                if analysis.side(found.over_seeds) == side
            ]
            if at:
                said.append(f"{verb} at {', '.join(at)}")
        yield f"**{signal}** {'; '.join(said)}."


def _arm_table(arms: Sequence[ArmResult], heading: str, value: object) -> Table:
    assert callable(value)
    rows = []
    for arm in arms:
        against = arm.against_uniform
        rows.append(
            (
                arm.run.signal,
                value(arm),
                str(arm.n),
                _with_interval(arm.gained, signed=True),
                _with_interval(arm.per_minute, signed=True, digits=2),
                MISSING if against is None else _with_interval(against.over_seeds, signed=True),
                MISSING if against is None else _interval(against.over_seeds_and_items),
                f"{100 * arm.unheard_share.value:.0f}",
                _with_interval(arm.gained_unheard, signed=True),
                _with_interval(arm.gained_heard, signed=True),
            )
        )
    head = (
        "signal", heading, "seeds", "gap closed, points", "… a minute of speech", "less uniform", "… over seeds and questions",
        "unheard domains, % of sound", "… gap closed in them", "… in the heard ones",
    )  # fmt: skip
    return Table(head, tuple(rows))


def _alpha(curves: Sequence[analysis.Curve], pictures: dict[str, RenderedFigure]) -> Section:
    if not curves:
        return Section("α, breadth of speech and data", ())
    rows = []
    for curve in curves:
        fit = curve.fit
        rows.append(
            (
                f"{curve.alpha:g}",
                curve.breadth,
                f"{curve.hours[0]:.2f} → {curve.hours[-1]:.2f}",
                f"{curve.misalignment[0].value:.2f} → {curve.misalignment[-1].value:.2f}",
                f"{curve.forgetting[0].value:.3f} → {curve.forgetting[-1].value:.3f}",
                MISSING if fit is None else f"{fit.e.value:.2f} {_interval(fit.e, 1, 2)}",
                MISSING if fit is None else f"{fit.beta.value:.2f} {_interval(fit.beta, 1, 2)}",
                MISSING if fit is None else (", ".join(fit.at_bound) or f"R² {fit.r2:.2f}"),
                _with_interval(curve.speech[-1]),
                _with_interval(curve.text[-1]),
            )
        )
    head = (
        "α",
        "speech",
        "hours heard",
        "M, nats",
        "F, nats",
        "E",
        "β",
        "fit",
        "by ear at the end, %",
        "by reading, %",
    )
    words = (
        "Stage I from a fresh adapter at a constant rate, measured as it hears more. Narrow speech is of the heard domains, broad "
        "speech of all; untrue is the narrow one with answers exchanged among its questions, so that fitting the text and keeping "
        "to the LLM are not the same. M and F at the first and the "
        "last checkpoint, and the fit "
        "of M = E + B·D^(−β) (D in hours; intervals by bootstrap over seeds). A fit that names a bound does not determine the law: within "
        "the data there is no floor in sight, or no fall."
    )
    return Section(
        "α, breadth of speech and data",
        (Paragraph(words), Table(head, tuple(rows), words=(0, 1)), *_picture(pictures, "alpha")),
    )


def _explained(told: Sequence[analysis.Explained], pictures: dict[str, RenderedFigure]) -> Section:
    if not told:
        return Section("Do the divergences tell the accuracies?", ())
    rows = tuple(
        (row.accuracy, row.divergence, row.stage, str(row.n), f"{row.leave_one_out.value:.2f} {_interval(row.leave_one_out, 1, 2)}",
         f"{row.partial.value:.2f} {_interval(row.partial, 1, 2)}")
        for row in told
    )  # fmt: skip
    words = (
        "Linear fits over all checkpoints of all runs, and over those of one stage, resampled by run. The paper reports (d) a "
        "leave-one-out R² of 0.75 for speech accuracy by M "
        "and 0.74 for text accuracy by F; partial R² 0.56 (M given F) and 0.32 (F given M)."
    )
    head = ("accuracy", "by", "stage", "checkpoints", "leave-one-out R²", "partial R², given the other")
    return Section(
        "Do the divergences tell the accuracies?",
        (Paragraph(words), Table(head, rows, words=(0, 1, 2)), *_picture(pictures, "explained")),
    )


def _open(runs: Sequence[Record], shipped: Record, moved: analysis.Transfer | None) -> Section:
    blocks: list[Paragraph | Table | RenderedFigure] = []
    heard = analysis.conditions(runs, shipped)
    if any(len(found) > 1 for found in heard.values()):
        blocks.append(
            Paragraph(
                f"Other voices, noise and telephone: accuracy by ear before Stage II and after it ({BUDGET:g} s)."
            )
        )
        rows = tuple(
            (name, *(_with_interval(found[k]) if k in found else MISSING for k in ("before", "uniform", "gap")))
            for name, found in heard.items()
        )
        blocks.append(Table(("listening", "before, %", "after, uniform, %", "after, gap, %"), rows))
    tunings = analysis.tunings(runs)
    if tunings:
        blocks.append(
            Paragraph(
                "What is trained beside the adapter, and forgetting with and without text replay (a third of the batches, at equal "
                "steps: with it, a third fewer are heard; the adapter alone learns nothing from text and hears in all):"
            )
        )
        rows = tuple(
            (t.tune, "none" if t.tune == "adapter" else "yes" if t.replay else "no", str(t.n), _with_interval(t.speech),
             _with_interval(t.text), f"{t.forgetting.value:.3f} {_interval(t.forgetting, 1, 3)}")
            for t in tunings
        )  # fmt: skip
        blocks.append(
            Table(("tuned", "text replay", "seeds", "by ear, %", "by reading, %", "F, nats"), rows, words=(0, 1))
        )
    if moved is not None:
        blocks.append(
            Paragraph(
                "Does selected speech help domains it did not touch? With half of the unheard domains kept "
                "out of the corpus, accuracy by ear "
                f"changed by {_with_interval(moved.spoken, signed=True)} points in those that were spoken, by "
                f"{_with_interval(moved.kept_out, signed=True)} in those kept out, and by "
                f"{_with_interval(moved.heard, signed=True)} in those "
                f"that Stage I had heard ({moved.n} seeds)."
            )
        )
    return Section("What the paper left open", tuple(blocks))


def _picture(pictures: dict[str, RenderedFigure], name: str) -> tuple[RenderedFigure, ...]:
    return (pictures[name],) if name in pictures else ()


# --- numbers ---------------------------------------------------------------------------------------------------------


def _percent(value: float, digits: int = 1, *, signed: bool = False) -> str:
    text = f"{100 * value:{'+' if signed else ''}.{digits}f}"
    return text.replace("-", "−")


def _interval(estimate: Estimate, scale: float = 100, digits: int = 1) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{scale * estimate.low:.{digits}f}, {scale * estimate.high:.{digits}f}]".replace("-", "−")


def _with_interval(estimate: Estimate, *, signed: bool = False, digits: int = 1) -> str:
    return f"{_percent(estimate.value, digits, signed=signed)} {_interval(estimate, digits=digits)}".strip()
