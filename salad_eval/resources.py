"""Where the package's own data lies: tasks, report templates and the embedded models.

In a wheel ``tasks/`` and ``reports/`` are under ``salad_eval/_data``; in a checkout (editable install) they stand beside the packages.
"""

from __future__ import annotations

from pathlib import Path

from salad_eval.errors import SaladError, UserInputError

_PACKAGE = Path(__file__).resolve().parent
NANO_MODELS = ("base", "asr", "speech")


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


def resolve_pretrained(name: str) -> str:
    """What ``from_pretrained`` should be given for ``name``: the path of an embedded model, of a local folder, or a hub id as it is.

    ``nano/base``, ``nano/asr`` and ``nano/speech`` are the embedded ones. Raises ``UserInputError`` for an unknown ``nano/…``
    and for a path that does not exist.
    """
    local = Path(name).expanduser()
    if local.is_dir():
        return str(local)
    if name.startswith("nano/"):
        if name.removeprefix("nano/") not in NANO_MODELS:
            raise UserInputError(
                f"unknown embedded model {name!r}. Known: {', '.join('nano/' + m for m in NANO_MODELS)}."
            )
        path = models_dir() / name
        if not path.is_dir():
            raise SaladError(f"the embedded model {name!r} is missing at {path}. Build it with: salad nano train")
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserInputError(
            f"no model folder at {name!r}. Give a folder that exists, a hub id, or nano/base, nano/asr, nano/speech."
        )
    return name
