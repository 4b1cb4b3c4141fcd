"""``salad tasks``: what can be asked, how, and whether a task's data is sound."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salad_eval.benchmarks.coverage import coverage_command
from salad_eval.errors import TaskError

if TYPE_CHECKING:
    from salad_eval.benchmarks.spec import DomainRule
    from salad_eval.types import Item

SpeakOption = Annotated[
    str | None,
    typer.Option(help="What is spoken: context, or context+choices. With it any task of lm-eval's can be named, too."),
]
DataDirOption = Annotated[
    Path | None, typer.Option(help="A local mirror of data sets: DIR/org__name/[config/]split.jsonl.")
]

tasks_app = typer.Typer(help="Benchmarks: list, show, validate, and what can be spoken of them.", no_args_is_help=True)
tasks_app.command("coverage")(coverage_command)


@tasks_app.command("list")
def list_tasks() -> None:
    """The tasks that ship with the package."""
    from salad_eval.benchmarks.catalogue import find_tasks, load_task
    from salad_eval.cli.listing import print_list

    rows, broken = [], []
    for name, path in find_tasks().items():
        try:
            task = load_task(str(path))
        except TaskError as cause:
            broken.append(cause)
            continue
        splits = ", ".join(task.splits)
        rows.append((name, splits, task.speak, task.score, str(task.num_fewshot), _domain_shown(task.domain)))
    print_list(("task", "splits", "spoken", "score", "shots", "domain"), rows, prose=("splits", "domain"))
    if broken:
        raise broken[0]


def _domain_shown(rule: DomainRule) -> str:
    if rule.topics is not None:
        return f"nearest of {len(rule.topics.names)} topics"
    source = rule.source or "task"
    constant = _CONSTANT.fullmatch(source)
    return constant[1] if constant is not None else source


_CONSTANT = re.compile(r"\{\{\s*'([^']*)'\s*\}\}")  # a template that names the domain of every row


@tasks_app.command("path")
def tasks_path() -> None:
    """The folder of the package's tasks, for lm-eval's --include_path."""
    from salad_eval.resources import tasks_dir

    print(tasks_dir())


@tasks_app.command("show")
def show_task(
    task: Annotated[str, typer.Argument(help="A task's name, or the path of its YAML.")],
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    limit: Annotated[int, typer.Option(help="How many items to show.")] = 1,
    shots: Annotated[int | None, typer.Option(help="Few-shot examples; the task's own number if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Which items are drawn.")] = 0,
    speak: SpeakOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """How a task is asked, and some of its items as a model sees them. What is spoken stands between ⟨ and ⟩.

    Examples:

    salad tasks show salad_nano --limit 3

    salad tasks show arc_easy --speak context --data-dir mirror/
    """
    from salad_eval.benchmarks.catalogue import load_task
    from salad_eval.benchmarks.data import names_files
    from salad_eval.benchmarks.hub import offline_if_unreachable
    from salad_eval.benchmarks.items import load_items
    from salad_eval.benchmarks.spec import speak_of
    from salad_eval.report.wording import printable

    found = load_task(task, speak=speak_of(speak), data_dir=data_dir)
    if data_dir is None and not names_files(found):
        offline_if_unreachable()
    items, rejects, protocol = load_items(found, split, limit=max(limit, 1), seed=seed, shots=shots)
    print(f"file: {printable(str(found.path))}")
    for key in ("task", "split", "data_revision", "speak", "shots", "spoken_shots", "score", "domain_field"):
        print(f"{key}: {getattr(protocol, key)}")
    print(f"rows that cannot be items: {len(rejects)}")
    for item in items:
        print(printable(f"\n--- {item.id} (domain {item.domain})"))
        print(printable(with_spoken_marked(item)))
        for index, choice in enumerate(item.choices):
            print(printable(f"  {'*' if index in item.golds else ' '} {choice}"))
        if item.answers:
            print(printable(f"  * {' | '.join(item.answers)}"))


def with_spoken_marked(item: Item) -> str:
    """The context with ⟨…⟩ around what is spoken."""
    text, end = "", 0
    for part in sorted(item.spoken_parts, key=lambda part: part.start):
        text += item.context[end : part.start] + "⟨" + item.part_text(part) + "⟩"
        end = part.end
    return text + item.context[end:]


@tasks_app.command("new")
def new_task(
    table: Annotated[Path, typer.Argument(help="A CSV with a header, or JSONL: questions, options and answers.")],
    name: Annotated[str | None, typer.Option(help="The task's name; the file's own if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="The YAML to write; beside the table if not given.")] = None,
    question: Annotated[str | None, typer.Option(help="The column with the question.")] = None,
    choices: Annotated[
        str | None, typer.Option(help="The columns of the options, comma-separated, or the one that lists them.")
    ] = None,
    answer: Annotated[
        str | None, typer.Option(help="The column with the answer: a letter, a number from 0, or the text.")
    ] = None,
    domain_field: Annotated[
        str | None, typer.Option(help="The field or column that names a domain; the task if not given.")
    ] = None,
    speak_choices: Annotated[
        bool, typer.Option("--speak-choices", help="List the options in the prompt, and speak them as well.")
    ] = False,
) -> None:
    """A task of a table of questions: writes a YAML that salad run takes, and the rows beside it. Columns are found by their names.

    Examples:

    salad tasks new quiz.csv

    salad tasks new quiz.csv --choices A,B,C,D --domain-field subject
    """
    from salad_eval.benchmarks.new_task import TableColumns, write_task

    made = write_task(
        table,
        out,
        name=name,
        columns=TableColumns(question, choices, answer, domain_field),
        speak_choices=speak_choices,
    )
    print(f"{made.n_items} questions in {made.n_domains} domains: {made.yaml}")
    print(f"check it:  salad tasks validate {made.yaml}")
    print(f"run it:    salad run --preset nano --tasks {made.yaml}")


@tasks_app.command("validate")
def validate_tasks(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Names or YAML paths; all of the package's if none.")
    ] = None,
    speak: SpeakOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Read every split of a task and say how many rows are items and why the others are not. Exit code 1 where there are such rows.

    Without names: the package's tasks that bring their data, or that --data-dir has.

    Example:

    salad tasks validate my_quiz.yaml
    """
    from salad_eval.benchmarks.catalogue import find_tasks, load_tasks
    from salad_eval.benchmarks.data import names_files
    from salad_eval.benchmarks.hub import offline_if_unreachable
    from salad_eval.benchmarks.items import load_items
    from salad_eval.benchmarks.recordings import unheard
    from salad_eval.benchmarks.spec import speak_of

    offline_if_unreachable()
    unusable = 0
    for task in load_tasks(tasks or list(find_tasks()), speak=speak_of(speak), data_dir=data_dir):
        if not tasks and data_dir is None and not names_files(task):
            print(f"{task.name}: not checked; its data is not part of the package (name the task, or give --data-dir)")
            continue
        for split in task.splits:
            try:
                items, rejects, protocol = load_items(task, split)
            except TaskError as cause:
                if tasks:
                    raise
                print(f"{task.name} {split}: not checked; {cause}")
                continue
            rejects = [*rejects, *unheard(items)]
            domains = len({item.domain for item in items})
            print(f"{task.name} {split}: {len(items)} items in {domains} domains, data {protocol.data_revision}")
            for reason, n in Counter(reject.reason for reject in rejects).most_common():
                first = next(reject for reject in rejects if reject.reason == reason)
                print(f"  {n} rejected: {reason} (first: {first.item_id}{', ' + first.detail if first.detail else ''})")
            unusable += len(rejects)
    if unusable:
        raise typer.Exit(1)
