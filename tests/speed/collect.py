"""All speed benchmarks, one after the other, and one table of what they found: ``make bench``.

    python -m tests.speed.collect [--only bootstrap kl] [--extra "--scale 0.1"] [--out reports/bench] [--timeout 3600]

Writes ``bench.json`` (each figure with its bar, command, commit, date and the machine's load when it began), ``README.md`` and
``bench.png``. Benchmarks that are not run keep the rows they have there, if those are of this machine and these versions. One that
fails, or whose peer or data are not there, is a row with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from tests.speed.measured import MARK, Measured, told

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "reports" / "bench"
# By name of the file, without bench_, and after a colon what sets a second call apart; with what it is called with. Those that are not
# here measure no speed, or need a path of yours.
SUITE: Mapping[str, tuple[str, ...]] = {
    "options": (),
    "render": (),
    "salad_system": (),
    "bootstrap": (),
    "clusters": (),
    "kl": (),
    "stage1": (),
    "stage2_step": (),
    "stage2_step:smollm2": ("--shape", "smollm2", "--compiled", "--steps", "8"),
    "memory": (),
    "memory:respond": ("--steps", "respond"),
    "whisper_windows": (),
    "dry_run": (),
    "viewer": (),
}
PACKAGES = ("salad-gap", "torch", "transformers", "numpy", "scipy", "lm-eval")
LAST_LINES = 3  # of what a benchmark that failed said


@dataclass(frozen=True, slots=True)
class Ran:
    """One benchmark, run once. ``load`` is the mean number of processes that wanted a core in the minute before it began."""

    command: str
    commit: str
    began: str
    seconds: float
    load: float
    figures: tuple[Measured, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """``bench.json``."""

    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, Ran] = field(default_factory=dict)


# --- running ---------------------------------------------------------------------------------------------------------


def run(name: str, arguments: Sequence[str], timeout: float) -> Ran:
    """A benchmark in a process of its own; what it says is shown, and its figures are kept."""
    command = [sys.executable, "-m", f"tests.speed.{module(name)}", *arguments]
    began, load = time.monotonic(), os.getloadavg()[0]
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    failure = ""
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False
        )
        said = done.stdout
        if done.returncode:
            failure = f"ended with {done.returncode}: " + " / ".join(_shown(said)[-LAST_LINES:])
    except subprocess.TimeoutExpired as cause:
        said = cause.stdout.decode() if isinstance(cause.stdout, bytes) else cause.stdout or ""
        failure = f"not done after {timeout:.0f} s"
    print("\n".join(_shown(said)), flush=True)
    return Ran(
        command=" ".join(["python", *command[1:]]),
        commit=commit(),
        began=date,
        seconds=round(time.monotonic() - began, 1),
        load=round(load, 1),
        figures=tuple(told(said)),
        failure=failure,
    )


def module(name: str) -> str:
    """Of a benchmark that the suite names."""
    return "bench_" + name.partition(":")[0]


def _shown(said: str) -> list[str]:
    return [line for line in said.splitlines() if not line.startswith(MARK)]


def commit() -> str:
    """The checkout's, with a plus where it has changes of its own."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def machine() -> dict[str, str]:
    """Processor, cores, memory and system."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = models[0].partition(":")[2].strip() if models else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": processor,
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


# --- the table -------------------------------------------------------------------------------------------------------


def read(path: Path) -> Table:
    """An earlier table, or an empty one."""
    if not path.exists():
        return Table()
    stated = json.loads(path.read_text(encoding="utf-8"))
    runs = {
        name: Ran(**{**ran, "figures": tuple(Measured(**one) for one in ran["figures"])})
        for name, ran in stated["runs"].items()
    }
    return Table(stated["machine"], stated["versions"], runs)


def write(table: Table, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.json").write_text(json.dumps(asdict(table), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "README.md").write_text(markdown(table), encoding="utf-8")
    (out / "bench.png").write_bytes(picture(table))


def figure_text(one: Measured) -> str:
    return f"{one.value:,.3g}{one.unit}" if one.unit == "×" else f"{one.value:,.4g} {one.unit}".rstrip()


def markdown(table: Table) -> str:
    """The table for people: a line a figure, and one for each benchmark that did not end well."""
    about = ", ".join(f"{name} {value}" for name, value in {**table.machine, **table.versions}.items())
    lines = [
        "# Speed, measured",
        "",
        f"By `make bench`, which each row's command is a part of. {about}.",
        "",
        "![How many times as good as its bar each figure is](bench.png)",
        "",
        "| benchmark | measured | found | bar | beside | commit, date, load |",
        "|---|---|---|---|---|---|",
    ]
    for name, ran in table.runs.items():
        when = f"{ran.commit}, {ran.began[:10]}, {ran.load:g}"
        for one in ran.figures:
            side = "≥" if one.better == "more" else "≤"
            bar = "" if one.bar is None else f"{side} {one.bar:g}{'' if one.met else ' (missed)'}"
            lines.append(f"| {name} | {_cell(one.what)} | {figure_text(one)} | {bar} | {_cell(one.against)} | {when} |")
        if ran.failure:
            lines.append(f"| {name} | {_cell(ran.failure)} | | | | {when} |")
    lines += ["", "Commands:", "", *(f"- `{ran.command}` ({ran.seconds:,.0f} s)" for ran in table.runs.values())]
    lines += [
        "",
        "Load: processes that wanted a core in the minute before. Above 1 or so, times of the clock say little.",
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def picture(table: Table) -> bytes:
    """Bars: each figure that has a bar, in times of it; what is better lies to the right. PNG."""
    import io

    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    from salad_eval.report.figures import DPI, INK, STYLE, WIDTH_IN

    rows = [
        (f"{name}: {one.what}", one.of_bar, figure_text(one))
        for name, ran in table.runs.items()
        for one in ran.figures
        if one.of_bar is not None
    ]
    with matplotlib.rc_context(cast("dict[Any, Any]", STYLE)):
        figure = Figure(figsize=(WIDTH_IN, 1.2 + 0.34 * len(rows)), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title("Speed and memory against what was promised", loc="left")
        values = [cast(float, value) for _, value, _ in rows]
        axes.barh(
            range(len(rows)),
            [value - 1 for value in values],
            left=1,
            color=["#009E73" if value >= 1 else "#D55E00" for value in values],
        )
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlim(min([0.5, *values]) / 1.3, max([2.0, *values]) * 1.6)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_xlabel("times the bar (logarithmic; right of the line is better)")
        for place, (_, value, text) in enumerate(rows):
            axes.annotate(f" {text}", (max(1.0, cast(float, value)), place), va="center", fontsize=7)
        found = io.BytesIO()
        figure.savefig(found, format="png", dpi=DPI)
    return found.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(SUITE), help="these alone")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--timeout", type=float, default=3600, help="seconds a benchmark may take")
    parser.add_argument("--extra", default="", help="further arguments, given to each")
    options = parser.parse_args()
    table = read(options.out / "bench.json")
    here = (machine(), versions())
    runs = dict(table.runs) if (table.machine, table.versions) == here else {}
    for name in options.only or SUITE:
        print(f"== {name}", flush=True)
        runs[name] = run(name, (*SUITE[name], *shlex.split(options.extra)), options.timeout)
        ordered = {known: runs[known] for known in SUITE if known in runs}
        write(Table(*here, ordered), options.out)  # after each: what was measured is not lost
    failed = [name for name in options.only or SUITE if runs[name].failure]
    print(f"{options.out / 'README.md'}" + (f"; did not end well: {', '.join(failed)}" if failed else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
