"""`salad select` from the command line: tiny random models, and the models that ship."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from salad_eval.cli import main as cli
from salad_eval.records import write_jsonl
from salad_eval.report import save_report
from salad_eval.types import Audio, Item, SpokenPart
from salad_train.nano import world as nano
from salad_train.selection import probe
from salad_train.selection.files import read_selection
from salad_train.types import Selection
from tests.conftest import QUESTIONS
from tests.helpers.selection_world import gap_report

TOPICS = {
    "chemistry": "The symbol for the metal {0} is written by a chemist as {1}, and the acid of {0} is a liquid.",
    "music": "The sonata that the violin played was number {0}, and the strings of the orchestra sang song {1}.",
    "astronomy": "The planet {0} has rings around it, and the star {1} is what gives the earth its light at night.",
}
NAMES = ("gold", "iron", "tin", "neon", "zinc", "lead", "argon", "boron", "silver", "copper", "radon", "xenon")


def documents(*topics: str, n: int = 12) -> list[dict[str, str]]:
    return [
        {
            "id": f"{topic}-{k}",
            "topic": topic,
            "text": TOPICS[topic].format(NAMES[k % 12], NAMES[(5 * k + k // 12 + 1) % 12]),
        }
        for topic in topics
        for k in range(n)
    ]


def write_corpus(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_run(folder: Path, gaps: dict[str, float], *, split: str = "validation", with_items: bool = True) -> Path:
    """The folder of a run whose report has these gaps."""
    folder.mkdir()
    save_report(gap_report(gaps, split=split), folder / "gap_report.json")
    if with_items:
        items = [
            Item(
                f"q{n}",
                "tiny",
                split,
                domain,
                question,
                choices,
                gold,
                f"q{n}",
                (SpokenPart("question", 0, len(question)),),
            )
            for n, (domain, question, choices, gold) in enumerate(QUESTIONS)
        ]
        write_jsonl(folder / "items.jsonl", items)
    return folder


@dataclass
class Salad:
    """Runs `salad select` on the tiny models; ``text`` is what it printed, ``error`` the message it ended with."""

    folder: Path
    models: dict[str, Path]
    capsys: pytest.CaptureFixture[str]
    audio: Path
    text: str = ""
    error: str = ""

    def select(self, *options: str | Path, out: str = "out", corpus: Path | None = None) -> int:
        texts = corpus or write_corpus(self.folder / "corpus.jsonl", documents(*TOPICS))
        arguments = [
            "select", "--corpus", texts, "--model", self.models["speech"], "--base", self.models["base"],
            "--voices", "en-us+f3", "--clusters", "3", "--probe-documents", "2", "--device", "cpu", "--out", self.folder / out,
            "--set", "corpus.domain_field=topic", "--set", "corpus.id_field=id", "--set", f"audio_store={self.audio}",
            *options,
        ]  # fmt: skip
        code = 0
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = self.capsys.readouterr()
        self.text, self.error = captured.out, captured.err
        return code

    def selection(self, out: str = "out") -> Selection:
        return read_selection(self.folder / out)


@pytest.fixture
def salad(
    tmp_path: Path, tiny_models: dict[str, Path], capsys: pytest.CaptureFixture[str], audio_store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Salad:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "100")
    return Salad(tmp_path, tiny_models, capsys, audio_store)


def share(selection: Selection, domain: str) -> float:
    """Of the drawn seconds within the budget."""
    within = [one for one in selection.documents if not one.reserve]
    return sum(one.seconds for one in within if one.document.domain == domain) / sum(one.seconds for one in within)


# --- what it does ----------------------------------------------------------------------------------------------------


def test_the_reports_gap_decides_which_domain_is_spoken(salad: Salad) -> None:
    run = write_run(salad.folder / "run", {"astronomy": 0.02, "chemistry": 0.5, "music": -0.1})
    assert salad.select("--report", run, "--signal", "gap", "--budget-seconds", "20") == 0, salad.error
    found = salad.selection()
    assert share(found, "chemistry") > 0.8
    assert {path.name for path in (salad.folder / "out").iterdir()} >= {
        "plan.json", "selection.json", "selection.jsonl", "selection.md", "selection.png",
    }  # fmt: skip
    lines = salad.text.splitlines()
    assert max(len(line) for line in lines if line != found.signature) <= 100
    assert found.signature in lines, "whole, to be copied"
    (row,) = [line for line in lines if line.startswith("chemistry ")]
    assert 30 < float(row.split()[1]) < 37
    assert "picture:" in salad.text
    assert "signal:gap|gamma:5" in found.signature
    assert "|report:validation@" in found.signature
    assert all("like chemistry" in one.reason for one in found.documents if one.document.domain == "chemistry")


def test_a_signal_of_probes_runs_on_a_speech_llm_and_runs_again_on_what_is_there(salad: Salad) -> None:
    options = (
        "--signal", "learnability", "--budget-seconds", "15", "--recogniser", str(salad.models["asr"]), "--max-cer", "5"
    )  # fmt: skip
    assert salad.select(*options) == 0, salad.error
    found = salad.selection()
    assert [probe.cluster for probe in found.probes] == [0, 1, 2]
    assert all(probe.cer is not None and probe.distillation.value > 0 for probe in found.probes)
    probed = sum(probe.n_documents for probe in found.probes)
    assert f"probes: {probed} documents" in "\n".join(found.notes)
    lines = (salad.folder / "out" / "probe.jsonl").stat()
    assert salad.select(*options) == 0
    assert salad.selection() == found
    assert (salad.folder / "out" / "probe.jsonl").stat().st_mtime_ns == lines.st_mtime_ns


def test_a_cluster_whose_synthesis_cannot_be_recognised_is_excluded_with_its_reason(
    salad: Salad, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a random ASR mishears is chance: here it is planted, half of all characters in astronomy.
    def planted(said: Sequence[tuple[str, Audio]], *_: object) -> float:
        return 0.5 if any(word in text for text, _ in said for word in ("planet", "star", "earth")) else 0.05

    monkeypatch.setattr(probe, "character_error_rate", planted)
    options = ("--signal", "misalignment", "--budget-seconds", "10", "--recogniser", str(salad.models["asr"]))
    assert salad.select(*options) == 0, salad.error
    (excluded,) = [weight for weight in salad.selection().weights if weight.excluded]
    assert excluded.excluded == "character error rate 0.50 of its probe is above 0.20"
    assert excluded.target == 0
    assert "1 cluster(s) with" in salad.text
    assert share(salad.selection(), "astronomy") == 0


def test_probe_documents_are_not_selected(salad: Salad) -> None:
    assert salad.select("--signal", "distillation", "--budget-seconds", "15") == 0, salad.error
    found = salad.selection()
    assert found.probes
    lines = (salad.folder / "out" / "probe.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert sum(probe.n_documents for probe in found.probes) == 6
    # What can be had at most is the corpus without the probes.
    assert salad.select("--signal", "distillation", "--budget-seconds", "9999", out="more") == 2
    assert "held out for the probes" in salad.error


def test_uniform_needs_no_report_and_loads_no_model(salad: Salad) -> None:
    options = ("--signal", "uniform", "--budget-seconds", "30", "--base", "there/is-none")
    assert salad.select(*options) == 0, salad.error
    found = salad.selection()
    assert found.probes == ()
    assert {weight.signal for weight in found.weights} == {1.0}
    assert [weight.target for weight in found.weights] == pytest.approx([weight.web for weight in found.weights])
    assert "models:none" in found.signature


def test_a_domain_that_the_corpus_lacks_is_named(salad: Salad) -> None:
    run = write_run(salad.folder / "run", {"astronomy": 0.3, "chemistry": 0.1, "music": 0.2})
    texts = write_corpus(salad.folder / "two.jsonl", documents("chemistry", "music", n=24))
    options = ("--report", run, "--signal", "gap", "--budget-seconds", "10")
    assert salad.select(*options, corpus=texts) == 0, salad.error
    assert any("lack the domain 'astronomy'" in note for note in salad.selection().notes)
    assert "lack the domain 'astronomy'" in " ".join(salad.text.split())


def test_documents_that_hold_an_item_are_left_out(salad: Salad) -> None:
    run = write_run(salad.folder / "run", {"astronomy": 0.3, "chemistry": 0.1, "music": 0.2})
    held = {
        "id": "leak",
        "topic": "chemistry",
        "text": "They ask: what is the symbol for tin? It is the metal that cans are made of.",
    }
    texts = write_corpus(salad.folder / "leaky.jsonl", [*documents(*TOPICS), held])
    options = ("--signal", "uniform", "--budget-seconds", "10")
    for steered in (("--report", str(run)), ("--avoid", str(run))):
        assert salad.select(*options, *steered, corpus=texts) == 0, salad.error
        assert any("1 contaminated" in note for note in salad.selection().notes)
    assert salad.select(*options, corpus=texts) == 0
    assert not any("contaminated" in note for note in salad.selection().notes)


# --- what it refuses -------------------------------------------------------------------------------------------------


def no_text(salad: Salad) -> list[str]:
    return ["--corpus", str(write_corpus(salad.folder / "none.jsonl", []))]


def one_text(salad: Salad) -> list[str]:
    return ["--corpus", str(write_corpus(salad.folder / "one.jsonl", documents("music", n=1)))]


def steered_by(gaps: dict[str, float], **options: bool | str) -> Callable[[Salad], list[str]]:
    def made(salad: Salad) -> list[str]:
        run = write_run(salad.folder / "run", gaps, **options)  # type: ignore[arg-type]
        return ["--signal", "gap", "--report", str(run)]

    return made


def literal(*options: str) -> Callable[[Salad], list[str]]:
    return lambda _: list(options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (no_text, "holds no documents"),
        (one_text, "clusters is 3, and the corpus has 1 document(s)"),
        (literal("--budget-seconds", "0"), "budget_seconds is 0.0; expected seconds of sound to be made, more than 0"),
        (literal("--budget-seconds", "1e6"), "budget_seconds is 1e+06, and the documents to choose from hold about"),
        (literal("--clusters", "0"), "clusters is 0"),
        (literal("--clusters", "37"), "clusters is 37, and the corpus has 36 document(s)"),
        (literal("--gamma", "-1"), "gamma is -1.0"),
        (literal("--signal", "misalinment"), "did you mean 'misalignment'?"),
        (literal("--embedder", "tfdif"), "did you mean 'tfidf'?"),
        (literal("--recipe", "nono"), "did you mean 'nano'?"),
        (literal("--set-signal", "shrink=1"), "signal"),
        (literal("--set", "corpus.domain_feild=topic"), "did you mean 'domain_field'?"),
        (literal("--signal", "gap"), "signal 'gap' carries a report's gaps to the clusters, and there is no report"),
        (literal("--report", "no/such/run"), "no such file"),
        (steered_by({"astronomy": 0.1}, split="test"), "made on the test split"),
        (steered_by({"astronomy": -0.1, "music": -0.2}), "nothing to close"),
        (steered_by({"astronomy": 0.1}, with_items=False), "needs the benchmark's items"),
    ],
)
def test_bad_input_ends_with_a_message(salad: Salad, options: Callable[[Salad], list[str]], says: str) -> None:
    defaults = ["--signal", "uniform", "--budget-seconds", "10"]
    assert salad.select(*defaults, *options(salad)) == 2, salad.text
    assert says in " ".join(salad.error.split())
    assert "Traceback" not in salad.error
    assert not (salad.folder / "out" / "selection.json").exists()


def test_a_test_split_report_can_be_allowed_by_name(salad: Salad) -> None:
    run = write_run(salad.folder / "run", {"astronomy": 0.3, "chemistry": 0.1, "music": 0.2}, split="test")
    options = ("--report", run, "--signal", "gap", "--budget-seconds", "10", "--allow-test-split")
    assert salad.select(*options) == 0, salad.error
    assert "|report:test@" in salad.selection().signature


# --- the models that ship --------------------------------------------------------------------------------------------


def test_the_shipped_speech_llm_asks_for_what_it_never_heard(tmp_path: Path, audio_store: Path) -> None:
    from salad_eval.audio.store import AudioStore
    from salad_train.cli.select import recipe_for
    from salad_train.selection.files import SelectPlan
    from salad_train.selection.select import select_from_run

    kinds = [document for document in nano.corpus(0) if document.kind == "question"]
    rows = [
        {"id": one.id, "topic": one.domain, "text": one.text}
        for domain in ("animals", "words", "chemistry", "astronomy")
        for one in [one for one in kinds if one.domain == domain][:100]
    ]
    settings = ["corpus.domain_field=topic", "corpus.id_field=id", "stage2.device=cpu"]
    recipe = recipe_for(
        "nano",
        voices=nano.TRAINING_VOICES[:3],
        corpus=str(write_corpus(tmp_path / "nano.jsonl", rows)),
        settings=settings,
    )
    plan = SelectPlan(budget_seconds=90, signal="misalignment", gamma=2, clusters=8, probe_documents=8)
    found = select_from_run(plan, recipe, tmp_path / "out", audio=AudioStore(audio_store))
    unheard = {domain: share(found, domain) for domain in ("chemistry", "astronomy")}
    assert sum(unheard.values()) > 0.7, unheard
    assert min(unheard.values()) > 0.15
    total = sum(one.seconds for one in found.documents if not one.reserve)
    assert total == pytest.approx(90, rel=0.01)
