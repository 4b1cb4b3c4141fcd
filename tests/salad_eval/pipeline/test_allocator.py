"""What is said to the C library, on a stand-in for it; that the command says it before it works."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import pytest

from salad_eval.cli import main as command
from salad_eval.pipeline import allocator


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda name, value: calls.append((name, value)))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: library)
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_both_thresholds_are_set_since_either_alone_gives_large_arrays_back(said: list[tuple[int, int]]) -> None:
    allocator.keep_freed_memory()
    m_trim_threshold, m_mmap_threshold = -1, -3  # malloc.h
    assert dict(said) == {m_mmap_threshold: 64 * 1024**2, m_trim_threshold: 128 * 1024**2}


def test_what_the_user_has_set_stands(said: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    allocator.keep_freed_memory()
    assert said == []


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: SimpleNamespace())
    allocator.keep_freed_memory()


def test_the_command_says_it(said: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    assert len(said) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's function")
def test_glibc_takes_both() -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        pytest.skip("the C library has no mallopt")
    assert [mallopt(-1, 128 << 20), mallopt(-3, 64 << 20)] == [1, 1]
