"""The table of speed benchmarks: figures cross from their lines to JSON, page and picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.speed import collect
from tests.speed.collect import Ran, Table, markdown, picture, read, write
from tests.speed.measured import Measured, tell, told

FASTER = Measured("1,000 sentences", 8.5, "×", 7.5, against="a plain loop")
TOO_LARGE = Measured("memory | at 10×", 1.5, "×", 1.2, "less")
PLAIN = Measured("a request", 12.345, "ms", better="less")
TABLE = Table(
    {"processor": "a processor", "cores": "2"},
    {"python": "3.12"},
    {
        "render": Ran("python -m tests.speed.bench_render", "abc123+", "2026-01-02T03:04:05+00:00", 61.2, 0.4, (FASTER, PLAIN)),
        "memory": Ran("python -m tests.speed.bench_memory", "abc123", "2026-01-02T03:04:05+00:00", 5.0, 9.1, (TOO_LARGE,), "ended with 1"),
    },
)  # fmt: skip


@pytest.mark.parametrize(
    ("one", "of_bar", "met"), [(FASTER, 8.5 / 7.5, True), (TOO_LARGE, 0.8, False), (PLAIN, None, None)]
)
def test_a_figure_beside_its_bar(one: Measured, of_bar: float | None, met: bool | None) -> None:
    assert one.of_bar == pytest.approx(of_bar)
    assert one.met is met


def test_figures_are_found_among_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print("round 1: 8.5x")
    tell(FASTER, TOO_LARGE)
    print("done")
    assert list(told(capsys.readouterr().out)) == [FASTER, TOO_LARGE]


def test_the_table_is_written_and_read(tmp_path: Path) -> None:
    write(TABLE, tmp_path / "bench")
    assert read(tmp_path / "bench" / "bench.json") == TABLE
    assert (tmp_path / "bench" / "bench.png").read_bytes() == picture(TABLE)
    assert picture(TABLE).startswith(b"\x89PNG")
    assert read(tmp_path / "none.json") == Table()


def test_the_page_has_a_line_a_figure_and_says_what_was_missed() -> None:
    lines = markdown(TABLE).splitlines()
    assert "| render | 1,000 sentences | 8.5× | ≥ 7.5 | a plain loop | abc123+, 2026-01-02, 0.4 |" in lines
    assert "| render | a request | 12.35 ms |  |  | abc123+, 2026-01-02, 0.4 |" in lines
    assert "| memory | memory \\| at 10× | 1.5× | ≤ 1.2 (missed) |  | abc123, 2026-01-02, 9.1 |" in lines
    assert "| memory | ended with 1 | | | | abc123, 2026-01-02, 9.1 |" in lines


def test_a_benchmark_that_fails_is_a_row_with_its_last_words() -> None:
    found = collect.run("memory", ("--steps", "nothing"), 60)
    assert found.figures == ()
    assert found.failure.startswith("ended with 2: ")
    assert "invalid choice: 'nothing'" in found.failure


def test_all_benchmarks_of_the_suite_are_there() -> None:
    folder = Path(collect.__file__).parent
    assert all((folder / f"{collect.module(name)}.py").is_file() for name in collect.SUITE)
