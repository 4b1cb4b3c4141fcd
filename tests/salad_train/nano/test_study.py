"""The nano study: which runs there are, and that planted records give the findings that were planted."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest

from salad_eval.errors import UserInputError
from salad_eval.records import read_jsonl, write_jsonl
from salad_eval.types import Estimate
from salad_train.nano import world
from salad_train.nano.study import analysis, execute
from salad_train.nano.study.answers import as_hex, from_hex
from salad_train.nano.study.claims import Claim, claims
from salad_train.nano.study.page import write_page
from salad_train.nano.study.plan import (
    BUDGET,
    SIGNALS,
    Checkpoint,
    Record,
    Stage1Run,
    Stage2Run,
    StudyPlan,
    run_key,
)
from salad_train.nano.study.runs import exchanged_answers
from salad_train.types import TextDocument

DOMAINS = world.domains()
N_ITEMS = world.ITEMS_PER_DOMAIN * len(DOMAINS)
GAINS = {"uniform": 0.05, "misalignment": 0.05, "distillation": 0.05, "gap": 0.15, "learnability": 0.02}


def checkpoint(
    speech: float, seed: int, *, heard: float = 900.0, m: float | None = None, f: float = 0.05
) -> Checkpoint:
    """Answers of which a share ``speech`` is right, and divergences that follow from it."""
    rng = np.random.default_rng(seed)
    right = rng.random((N_ITEMS, 2)) < speech
    by_domain = {name: float(right[k * 60 : (k + 1) * 60].mean()) for k, name in enumerate(DOMAINS)}
    text = dict.fromkeys(DOMAINS, 0.9 - f)
    m = 4 * (1 - speech) if m is None else m
    return Checkpoint(10, heard, f, m, m + f, m, m, text, by_domain, as_hex(right))


def stage2_record(run: Stage2Run, speech: float, seconds: dict[str, float] | None = None) -> Record:
    conditions = {"noise, 10 dB": speech - 0.1} if run.listens else {}
    held_back = ("chemistry", "physics") if run.held_back else ()
    found = checkpoint(speech, 100 * run.seed + SIGNALS.index(run.signal), heard=run.budget_seconds)
    return Record(
        run_key(run), None, run, (found,), seconds or {"physics": 600.0, "home": 300.0}, held_back, conditions, 60.0
    )


def planted(plan: StudyPlan) -> list[Record]:
    """Stage I by a law M = 0.2 + 0.5 · D^(−1), Stage II by ``GAINS``."""
    records = [Record("shipped", None, None, (checkpoint(0.4, 9),), {}, (), {"noise, 10 dB": 0.3}, 1.0)]
    for key, run in plan.runs().items():
        if isinstance(run, Stage2Run):
            gain = GAINS[run.signal] * (run.budget_seconds / BUDGET) ** 0.3
            records.append(stage2_record(run, 0.4 + gain))
        else:
            points = []
            for place, hours in enumerate((0.25, 0.5, 1.0, 2.0)):
                m = 0.2 + 0.5 / hours + 1e-3 * np.random.default_rng([run.seed, place]).standard_normal()
                points.append(checkpoint(max(0.05, 0.9 - 0.3 * m), run.seed, heard=3600 * hours, m=m, f=0.02 * place))
            records.append(Record(key, run, None, tuple(points), {}, (), {}, 30.0))
    return records


def test_every_run_is_there_once_and_whole_seeds_come_first() -> None:
    runs = list(StudyPlan().runs().values())
    assert len({run_key(run) for run in runs}) == len(runs)
    stage2 = [run for run in runs if isinstance(run, Stage2Run)]
    main = [
        run for run in stage2 if run.gamma == 5 and run.clusters == 32 and run.tune == "adapter" and not run.held_back
    ]
    assert {(r.signal, r.budget_seconds, r.seed) for r in main} == {
        (signal, budget, seed) for signal in SIGNALS for budget in (900.0, 2700.0, 5400.0) for seed in range(5)
    }
    assert [run.seed for run in runs[:5]] == [0] * 5
    assert [run.seed for run in runs[20:25]] == [4] * 5
    stage1 = [run for run in runs if isinstance(run, Stage1Run)]
    assert sum(run.breadth != "untrue" for run in stage1) == 5 * 2 * 5
    assert {(run.alpha, run.seed) for run in stage1 if run.breadth == "untrue"} == {
        (alpha, seed) for alpha in (0.0, 1.0) for seed in range(5)
    }
    assert {run.gamma for run in stage2 if run.signal == "gap"} == {1.0, 2.0, 5.0, 8.0}
    assert {run.clusters for run in stage2 if run.signal == "gap"} == {16, 32, 64}


def test_a_key_tells_all_that_a_run_states() -> None:
    run = Stage2Run("gap", 0)
    assert {Stage2Run("gap", 0, budget_seconds=b).steps for b in (900.0, 2700.0, 5400.0)} == {150, 300, 450}
    changed = [
        dataclasses.replace(run, **{field.name: value})
        for field, value in zip(
            dataclasses.fields(run), ("uniform", 1, 2.0, 16, 900.0, "lora", False, True, True), strict=True
        )
    ]
    assert len({run_key(one) for one in (run, *changed)}) == 10
    assert run_key(Stage1Run(1.0, "narrow", 0)) != run_key(Stage1Run(1.0, "broad", 0))


def test_a_budget_without_its_steps_is_refused() -> None:
    with pytest.raises(UserInputError, match="budget_seconds is 100; expected one of 900, 2700, 5400"):
        Stage2Run("gap", 0, budget_seconds=100.0)


@pytest.mark.parametrize(
    ("change", "message"), [({"seeds": ()}, "seeds"), ({"seeds": (1, 1)}, "seeds"), ({"parts": ("x",)}, "parts")]
)
def test_impossible_plans_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        StudyPlan(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize("voices", [1, 2])
def test_answers_survive_as_bits(voices: int) -> None:
    right = np.random.default_rng(0).random((N_ITEMS, voices)) < 0.5
    assert (from_hex(as_hex(right), N_ITEMS) == right).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1], (0.1, None, None)),
        ([0.1, 0.1, 0.1], (0.1, 0.1, 0.1)),
        ([0.0, 2.0], (1.0, 1.0 - 12.7062, 1.0 + 12.7062)),  # t with one degree of freedom is 12.706
    ],
)
def test_means_over_seeds_have_students_interval(
    values: list[float], expected: tuple[float, float | None, float | None]
) -> None:
    found = analysis.over_seeds(values)
    for got, wanted in zip((found.value, found.low, found.high), expected, strict=True):
        assert got == wanted or got == pytest.approx(wanted, abs=1e-3)


def test_a_planted_advantage_is_found_and_none_is_made_up() -> None:
    plan = StudyPlan(parts=("stage2",))
    records = planted(plan)
    before = records[0].last
    found = {arm.run.signal: arm for arm in analysis.arms(records[1:], before, [Stage2Run(s, 0) for s in SIGNALS])}
    gap = found["gap"].against_uniform
    assert gap is not None
    assert 0.07 < gap.over_seeds.value < 0.13
    assert gap.over_seeds.low is not None
    assert gap.over_seeds.low > 0
    assert gap.over_seeds_and_items.low is not None
    assert gap.over_seeds_and_items.low > 0
    same = found["misalignment"].against_uniform
    assert same is not None
    assert same.over_seeds.low is not None
    assert same.over_seeds.high is not None
    assert same.over_seeds.low < 0 < same.over_seeds.high
    assert found["uniform"].against_uniform is None
    assert found["gap"].unheard_share.value == pytest.approx(2 / 3)
    heard, unheard = len(world.HEARD_DOMAINS), len(DOMAINS) - len(world.HEARD_DOMAINS)
    gap_arm = found["gap"]
    both = (heard * gap_arm.gained_heard.value + unheard * gap_arm.gained_unheard.value) / len(DOMAINS)
    assert gap_arm.gained.value == pytest.approx(both)
    assert found["gap"].per_minute.value == pytest.approx(found["gap"].gained.value / 45)


def test_all_budgets_are_one_comparison_of_the_seeds_that_have_them_all() -> None:
    records = planted(StudyPlan(parts=("stage2", "budgets")))[1:]
    budgets = (900.0, 2700.0, 5400.0)
    found = analysis.over_budgets(records, "gap", budgets)
    assert found is not None
    each = [
        analysis.difference(
            analysis.by_seed(records, Stage2Run("gap", 0, budget_seconds=b)),
            analysis.by_seed(records, Stage2Run("uniform", 0, budget_seconds=b)),
        )
        for b in budgets
    ]
    assert found.over_seeds.n == 5
    assert found.over_seeds.value == pytest.approx(np.mean([one.over_seeds.value for one in each if one is not None]))
    lost = [r for r in records if r.stage2 != Stage2Run("gap", 3, budget_seconds=900.0)]
    fewer = analysis.over_budgets(lost, "gap", budgets)
    assert fewer is not None
    assert fewer.over_seeds.n == 4
    assert analysis.over_budgets(lost, "gap", ()) is None


def test_the_planted_law_is_recovered() -> None:
    found = analysis.curves(planted(StudyPlan(parts=("stage1",), alphas=(1.0,)))[1:])
    assert [curve.breadth for curve in found] == ["narrow", "broad"]
    for curve in found:
        assert curve.fit is not None
        assert curve.fit.e.value == pytest.approx(0.2, abs=0.02)
        assert curve.fit.beta.value == pytest.approx(1.0, abs=0.1)
        assert curve.hours == (0.25, 0.5, 1.0, 2.0)


@pytest.mark.parametrize(
    ("low", "high", "sign", "verdict"),
    [
        (0.1, 0.3, 1, "yes"),
        (0.1, 0.3, -1, "the opposite"),
        (-0.3, -0.1, -1, "yes"),
        (-0.3, -0.1, 1, "the opposite"),
        (-0.1, 0.3, 1, "not told"),
        (0.0, 0.3, 1, "not told"),
        (None, None, 1, "not told"),
    ],
)
def test_a_statement_holds_by_its_interval(low: float | None, high: float | None, sign: int, verdict: str) -> None:
    claim = Claim("", "open", "", Estimate(0.2, low, high, 5), "nats", sign)  # type: ignore[arg-type]
    assert claim.verdict == verdict


def test_statements_are_told_as_they_were_planted() -> None:
    records = planted(StudyPlan())
    before, runs = records[0].last, records[1:]
    budgets = (900.0, 2700.0, 5400.0)
    pooled = {name: found for name in SIGNALS[1:] if (found := analysis.over_budgets(runs, name, budgets)) is not None}
    said = claims(runs, before, analysis.explained(runs), analysis.transfer(runs, before), pooled, budgets)
    found = {one.statement: one for one in said}
    assert len(found) == len(said)
    assert {name: one.verdict for name, one in found.items() if "selection" in name} == {
        "selection by misalignment beats uniform": "not told",
        "selection by distillation beats uniform": "not told",
        "selection by gap beats uniform": "yes",
        "selection by learnability beats uniform": "the opposite",
    }
    # M = 0.2 + 0.5 / hours whatever alpha and breadth: from one hour to two it falls by a quarter.
    for kind in ("on narrow speech", "on speech that says what the LLM would not"):
        assert found[f"{kind}, α = 0 makes M grow with data"].verdict == "the opposite"
        assert found[f"{kind}, α = 0 makes M grow with data"].measured.value == pytest.approx(-0.25, abs=0.005)
    assert found["on narrow speech, α = 1 makes M fall with data"].verdict == "yes"
    assert found["broad speech leaves less misalignment than narrow"].measured.value == pytest.approx(0.0)
    assert found["speech accuracy follows M"].verdict == "yes"
    assert found["a high γ beats a low one"].measured.value == pytest.approx(0.0)
    assert {one.by for one in found.values()} == {"paper", "open"}


def test_divergences_tell_accuracies_within_a_stage_too() -> None:
    told = analysis.explained(planted(StudyPlan(parts=("stage1", "stage2")))[1:])
    assert [(row.divergence, row.stage) for row in told] == [("M", "both"), ("M", "I"), ("F", "both"), ("F", "I")]
    both, first = told[0], told[1]
    assert (both.n, first.n) == (5 * 10 * 4 + 25, 5 * 10 * 4)
    assert first.leave_one_out.value > 0.9  # what was planted: 0.9 − 0.3 · M, and the noise of answers


def test_exchanged_answers_are_those_of_other_questions_of_the_domain() -> None:
    def document(name: str, text: str, domain: str) -> TextDocument:
        return TextDocument(name, text, domain)

    asked = [document(f"q{k}", f"Question: What is {k}?\nAnswer: {'xy'[k % 2]}{k}", "xy"[k % 2]) for k in range(40)]
    found = exchanged_answers([document("s", "Cows give milk.", "x"), *asked])
    assert [(d.id, d.domain, d.text.split("\n")[0]) for d in found] == [
        (d.id, d.domain, d.text.split("\n")[0]) for d in asked
    ]
    for domain in "xy":
        answers = [d.text.split(": ")[-1] for d in found if d.domain == domain]
        assert sorted(answers) == sorted(d.text.split(": ")[-1] for d in asked if d.domain == domain)
    assert sum(one.text == other.text for one, other in zip(found, asked, strict=True)) < 10
    assert exchanged_answers([]) == []


def test_half_the_domains_kept_out_are_told_from_those_that_were_spoken() -> None:
    before = checkpoint(0.4, 9)
    moved = dict(before.speech)
    for name in ("chemistry", "physics"):
        moved[name] += 0.1
    for name in ("music", "sport"):
        moved[name] += 0.3
    run = Stage2Run("gap", 0, held_back=True)
    record = stage2_record(run, 0.4)
    record = dataclasses.replace(record, checkpoints=(dataclasses.replace(before, speech=moved),))
    found = analysis.transfer([record], before)
    assert found is not None
    assert found.kept_out.value == pytest.approx(0.1)
    unheard = [d for d in DOMAINS if d not in world.HEARD_DOMAINS]
    assert found.spoken.value == pytest.approx(0.6 / (len(unheard) - 2))
    assert found.heard.value == pytest.approx(0.0)


def test_the_page_says_what_was_planted_and_that_it_is_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis, "RESAMPLES", 400)
    for name in ("fit_power_law", "bootstrap_r2"):
        monkeypatch.setattr(analysis, name, functools.partial(getattr(analysis, name), n_resamples=100))
    plan = StudyPlan()
    records = planted(plan)
    page = write_page(plan, records[:-3], tmp_path, "salad nano study --seeds 0,1,2,3,4").read_text(encoding="utf-8")
    also = " (over other questions, too)"
    assert f"**gap** beats uniform at 900 s{also}, 2700 s{also}, 5400 s{also}." in page
    assert "**misalignment** is not told apart from uniform at" in page
    assert "Unfinished" in page
    plan = StudyPlan(seeds=(0, 1), parts=("transfer",))
    page = write_page(plan, planted(plan), tmp_path / "whole", "salad nano study").read_text(encoding="utf-8")
    assert "Unfinished" not in page
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert html.count("<svg") == html.count('role="img"') == 5  # drawn in the page itself
    assert "<img" not in html
    assert json.loads((tmp_path / "findings.json").read_text())["transfer"] is not None
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "budgets.png", "gamma.png", "clusters.png", "alpha.png", "explained.png",
    }  # fmt: skip


def test_without_a_study_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="holds no study yet"):
        execute.read_runs(StudyPlan(), tmp_path)


def test_what_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = StudyPlan(seeds=(0, 1), parts=("transfer",))
    records = planted(plan)
    write_jsonl(tmp_path / "runs.jsonl", records[:2])
    made: list[object] = []

    def make(todo: list[object], place: object, n: int) -> list[Record]:
        made.extend(todo)
        return [record for record in records if record.stage2 in todo]

    monkeypatch.setattr(execute, "_steer", lambda work: work)
    monkeypatch.setattr(execute, "_made", make)
    found = execute.execute(plan, tmp_path, tmp_path / "work")
    assert made == [Stage2Run("gap", 1, held_back=True)]
    assert found == records
    assert execute.read_runs(plan, tmp_path) == records
    assert read_jsonl(tmp_path / "runs.jsonl", Record) == records
    assert execute.execute(plan, tmp_path, tmp_path / "work") == records
    assert len(made) == 1
