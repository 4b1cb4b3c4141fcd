"""Plug-ins for the time of a test, found as installed ones are."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from salad_eval.identity import digest
from salad_eval.plugins import Group


@contextlib.contextmanager
def installed(
    folder: Path, targets: Mapping[Group, Mapping[str, str]], modules: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Entry points (``{"salad.tts": {"tones": "salad_eval.testing.voices:ToneTTS"}}``) in ``folder``, as a package manager would
    have put them there, and source text of further modules beside them. Worker processes find them too."""
    for name, source in (modules or {}).items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    one = digest(str(folder), len(list(folder.glob("*.dist-info"))))[
        :12
    ]  # of two packages of one name, one is not seen
    info = folder / f"salad_testing_{one}-1.0.dist-info"
    info.mkdir(parents=True)
    name = info.name.partition("-")[0].replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines = [line for group, of in targets.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in of.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
