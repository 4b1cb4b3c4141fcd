"""``salad lm-eval …``: lm-eval's own command line with our models and tasks in place.

Its arguments are lm-eval's, all of them; nothing is read here but what must be refused. Ours are added to what it finds: the three
models, and the package's tasks beside a folder given by ``--include_path``.
"""

from __future__ import annotations

import fnmatch
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from salad_eval import resources
from salad_eval.errors import UserInputError
from salad_eval.lm_eval_bridge import register_models
from salad_eval.lm_eval_bridge.task_files import FOLDER


def run_lm_eval(argv: Sequence[str]) -> None:
    """Run lm-eval's command line on ``argv`` (without the program's name), with our models and tasks known to it.

    Raises ``UserInputError`` for the two flags that would silently do something else on our tasks, ``SystemExit`` as lm-eval does.
    """
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    register_models()
    setup_logging()
    with _arguments(argv):
        cli = HarnessCLI()
        arguments = cli.parse_args()
    refuse_what_misleads(arguments)
    if hasattr(arguments, "include_path"):
        arguments.include_path = include_paths(arguments)
    render_no_more_than_asked(arguments)
    cli.execute(arguments)


def include_paths(arguments: Namespace) -> list[str]:
    """The folders of task YAMLs lm-eval looks at: ours, then the user's, by flag or by ``--config``, whose tasks go before ours."""
    given = arguments.include_path or _configured(arguments, "include_path")
    ours = str(resources.tasks_dir())
    return [ours, *([str(given)] if given and Path(str(given)).resolve() != Path(ours).resolve() else [])]


def refuse_what_misleads(arguments: Namespace) -> None:
    """Flags of lm-eval that our tasks cannot follow, and that it would not say a word about."""
    asked = getattr(arguments, "tasks", None) or _configured(arguments, "tasks") or []
    patterns = asked.split(",") if isinstance(asked, str) else list(asked)
    ours = [name for name in generated_names() if any(fnmatch.fnmatch(name, str(pattern)) for pattern in patterns)]
    if not ours:
        return
    if getattr(arguments, "num_fewshot", None):
        raise UserInputError(
            f"--num_fewshot {arguments.num_fewshot}: the few-shot examples of {ours[0]} are part of its rows, spoken ones too. Give "
            f"--metadata shots={arguments.num_fewshot} instead."
        )
    if getattr(arguments, "cache_requests", None):
        raise UserInputError(
            f"--cache_requests: lm-eval keeps prompts by the task's name alone, so {ours[0]} would be asked with the voice, the shots and "
            "the data of an earlier run. Leave it out; rendered speech is kept in the audio store anyway."
        )


def render_no_more_than_asked(arguments: Namespace) -> None:
    """``--limit N`` takes the first N documents of a task; without this, all of its documents would be rendered before."""
    limit = getattr(arguments, "limit", None)
    if limit is not None and limit >= 1:
        given = {**(_configured(arguments, "metadata") or {}), **(arguments.metadata or {})}
        arguments.metadata = {"first": int(limit), **given}


def generated_names() -> list[str]:
    """The tasks and groups under ``tasks/lm_eval/``."""
    return sorted(path.stem for path in (resources.tasks_dir() / FOLDER).glob("**/*.yaml"))


def _configured(arguments: Namespace, key: str) -> Any:
    """A value from the YAML that lm-eval's ``--config`` names."""
    if not getattr(arguments, "config", None):
        return None
    from lm_eval.config.evaluate_config import EvaluatorConfig

    return EvaluatorConfig.load_yaml_config(arguments.config).get(key)


@contextmanager
def _arguments(argv: Sequence[str]) -> Iterator[None]:
    """lm-eval reads its arguments from ``sys.argv``."""
    before = sys.argv
    sys.argv = ["lm-eval", *argv]
    try:
        yield
    finally:
        sys.argv = before
