"""Where the package's own data lies: tasks, report templates, plans by name and the embedded models.

In a wheel ``tasks/`` and ``reports/`` are under ``salad_eval/_data``; in a checkout (editable install) they stand beside the packages.
"""

from __future__ import annotations

import os
from pathlib import Path

from salad_eval.errors import SaladError, UnknownNameError, UserInputError

_PACKAGE = Path(__file__).resolve().parent
NANO_MODELS = ("base", "asr", "speech")
SHIPPED_MODELS = (*(f"nano/{name}" for name in NANO_MODELS), "smollm2/speech")


def _data(folder: str) -> Path:
    for candidate in (_PACKAGE / "_data" / folder, _PACKAGE.parent / folder):
        if candidate.is_dir():
            return candidate
    raise SaladError(f"the package's own {folder}/ is missing near {_PACKAGE}; reinstall salad-gap.")


def tasks_dir() -> Path:
    """The folder of task YAMLs, fit for lm-eval's ``--include_path``."""
    return _data("tasks")


def reports_dir() -> Path:
    """The folder of the report's JSON Schema and templates."""
    return _data("reports")


def models_dir() -> Path:
    """The folder of the embedded models, one Hugging Face folder each."""
    return _PACKAGE / "models"


def shipped_yaml(folder: Path) -> dict[str, Path]:
    """The YAML files of a folder of the package, by name."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_yaml(kind: str, name_or_path: str | os.PathLike[str], folder: Path) -> Path:
    """The YAML file of a ``kind`` ("recipe") that ships in ``folder`` under a name, or one of the user's by its path.

    Raises ``UnknownNameError`` for what is neither a name that ships nor looks like a path; whether a path leads to a file is
    left to who reads it.
    """
    given, known = os.fspath(name_or_path), shipped_yaml(folder)
    if given in known:
        return known[given]
    path = Path(given).expanduser()
    if path.suffix in (".yaml", ".yml", ".json") or path.exists():
        return path
    raise UnknownNameError(kind, given, known)


def resolve_path(name: str) -> Path:
    """The file or folder that a user wrote: ``~`` is the home folder, ``package:NAME/FILE`` lies in an installed package.

    Whether it exists is left to who reads it, except for a package's. Raises what ``formats.packages.package_path`` does.
    """
    from salad_eval.formats.packages import is_package_path, package_path

    return package_path(name) if is_package_path(name) else Path(name).expanduser()


def locate_pretrained(name: str) -> str:
    """Where the model ``name`` lies, in whatever form: the path of an embedded model, of a folder or file, or a hub id as it is.

    The embedded ones are ``SHIPPED_MODELS``. Raises ``UserInputError`` for an unknown ``nano/…`` and for a path that does not exist.
    """
    local = resolve_path(name)
    if local.is_dir() or (local.is_file() and local.suffix == ".gguf"):
        return str(local)
    if name.startswith("nano/") or name in SHIPPED_MODELS:
        if name not in SHIPPED_MODELS:
            raise UserInputError(f"unknown embedded model {name!r}. Known: {', '.join(SHIPPED_MODELS)}.")
        path = models_dir() / name
        if not path.is_dir():
            how = "Build it with: salad nano train" if name.startswith("nano/") else "Reinstall salad-gap."
            raise SaladError(f"the embedded model {name!r} is missing at {path}. {how}")
        return str(path)
    if name.startswith((".", "/", "~", "package:")) or name.count("/") > 1 or name.endswith(".gguf"):
        raise UserInputError(
            f"no model folder at {name!r}. Give a folder or a .gguf file that exists, package:NAME/FILE of an installed package, "
            f"a hub id, or {', '.join(SHIPPED_MODELS)}."
        )
    return name


def resolve_pretrained(name: str) -> str:
    """What ``from_pretrained`` should be given for ``name``: a folder of transformers, or a hub id as it is.

    Of a GGUF file (or a folder with one), of a Whisper folder of CTranslate2 and of a model in parts such a folder is made in the
    cache, once. Raises ``UserInputError`` as ``locate_pretrained`` does, and ``ModelError`` for a file that cannot be read so.
    """
    from salad_eval.formats import ctranslate2, gguf, parts

    located = locate_pretrained(name)
    path = Path(located)
    if (file := gguf.gguf_file(path)) is not None:
        return str(gguf.as_transformers(file))
    if ctranslate2.is_ctranslate2_folder(path):
        return str(ctranslate2.as_transformers(path))
    if parts.is_parts_folder(path):
        return str(parts.as_transformers(path))
    return located
