"""The functions that a task's YAML may name: a few of ours, and those beside the YAMLs of the installed lm-eval."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

from salad_eval.errors import TaskError

# Every function of ours that a task's YAML may name: those that shipped tasks name, each marked by ``task_function`` where it is defined.
# A YAML comes from strangers, so whatever else our packages can do is out of its reach.
OWN_FUNCTIONS = (
    "salad_eval.benchmarks.packaged_dataset",
    "salad_eval.lm_eval_bridge.rows.dataset",
    "salad_eval.lm_eval_bridge.rows.doc_to_audio",
    "salad_eval.lm_eval_bridge.rows.process_answer",
)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def task_function(*, refuses: tuple[str, ...] = ()) -> Callable[[_Function], _Function]:
    """Mark a function that a task's YAML may name; it has to stand in ``OWN_FUNCTIONS`` as well.

    ``refuses``: arguments that a YAML does not get to choose, since they name programs, or files that are no data of its own.
    """

    def mark(function: _Function) -> _Function:
        function.__salad_refuses__ = refuses  # type: ignore[attr-defined]
        return function

    return mark


@dataclass(frozen=True, slots=True)
class FunctionRef:
    """``!function module.name`` in a YAML: one of the few functions of ours that it may name, or one of an lm-eval task's own.

    ``file`` is the Python file beside a YAML of the installed lm-eval. No other code is ever imported for a task.
    """

    name: str
    file: Path | None = None

    def resolve(self) -> Callable[..., Any]:
        """The function itself. Raises ``TaskError`` where there is none, or its module cannot be imported."""
        module, _, attribute = self.name.rpartition(".")
        try:
            found = getattr(_beside_yaml(self.file) if self.file else importlib.import_module(module), attribute)
        except ModuleNotFoundError as cause:
            if cause.name and not module.startswith(cause.name):
                raise TaskError(
                    f"!function {self.name}: its code needs the Python module {cause.name!r}, which is not installed. Install the "
                    "package that provides it, or ask a task that does without."
                ) from None
            raise TaskError(f"!function {self.name}: there is no such function ({cause}).") from None
        except (ImportError, AttributeError) as cause:
            raise TaskError(f"!function {self.name}: there is no such function ({cause}).") from None
        except (
            Exception,
            SystemExit,
        ) as cause:  # a module of lm-eval's may fail in any way when it is imported, or exit
            raise TaskError(
                f"!function {self.name}: its module cannot be imported: {type(cause).__name__}: {cause}."
            ) from None
        if not callable(found):
            raise TaskError(f"!function {self.name}: is a {type(found).__name__}, not a function.")
        return cast("Callable[..., Any]", found)

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Call it with what the YAML says. Raises ``TaskError`` for an argument that a YAML does not get to choose."""
        function = self.resolve()
        for key in getattr(function, "__salad_refuses__", ()):
            if key in arguments:
                raise TaskError(
                    f"!function {self.name}: {key} is not for a task's YAML to say. Take it out of metadata and dataset_kwargs; who runs "
                    f"lm-eval says it as --metadata {key}=…"
                )
        return function(**arguments)


@cache
def _beside_yaml(file: Path) -> Any:
    """The Python file beside a YAML of lm-eval, as a module; it is not left in ``sys.modules``."""
    spec = importlib.util.spec_from_file_location(f"lm_eval.tasks.{file.parent.name}.{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def lm_eval_tasks_dir() -> Path | None:
    """The task folder of the installed lm-eval; finding it imports nothing."""
    spec = importlib.util.find_spec("lm_eval")
    places = spec.submodule_search_locations if spec is not None else None
    return (Path(next(iter(places))) / "tasks").resolve() if places else None


@cache
def lm_eval_version() -> str:
    """The version of the installed lm-eval."""
    return version("lm_eval")
