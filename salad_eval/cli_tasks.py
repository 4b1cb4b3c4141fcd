"""``salad tasks``: what can be asked, how, and whether a task's data is sound."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from salad_eval.errors import TaskError

if TYPE_CHECKING:
    from salad_eval.types import Item

tasks_app = typer.Typer(help="Benchmarks: list, show, validate.", no_args_is_help=True)


@tasks_app.command("list")
def list_tasks() -> None:
    """The tasks that ship with the package."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from salad_eval.benchmarks import find_tasks, load_task

    table = Table(box=box.SIMPLE)
    for heading in ("task", "splits", "spoken", "score", "shots", "domain", "file"):
        table.add_column(heading, overflow="fold")
    broken = []
    for name, path in find_tasks().items():
        try:
            task = load_task(str(path))
        except TaskError as cause:
            broken.append(cause)
            continue
        splits = ", ".join(task.splits)
        table.add_row(name, splits, task.speak, task.score, str(task.num_fewshot), task.domain.source, path.name)
    Console().print(table)
    if broken:
        raise broken[0]


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
) -> None:
    """How a task is asked, and some of its items as a model sees them. What is spoken stands between ⟨ and ⟩."""
    from salad_eval.benchmarks import load_items, load_task

    items, rejects, protocol = load_items(load_task(task), split, limit=max(limit, 1), seed=seed, shots=shots)
    for key in ("task", "split", "data_revision", "speak", "shots", "spoken_shots", "score", "domain_field"):
        print(f"{key}: {getattr(protocol, key)}")
    print(f"rows that cannot be items: {len(rejects)}")
    for item in items:
        print(f"\n--- {item.id} (domain {item.domain})")
        print(with_spoken_marked(item))
        for index, choice in enumerate(item.choices):
            print(f"  {'*' if index == item.gold else ' '} {choice}")
        if item.answers:
            print(f"  * {' | '.join(item.answers)}")


def with_spoken_marked(item: Item) -> str:
    """The context with ⟨…⟩ around what is spoken."""
    text, end = "", 0
    for part in sorted(item.spoken_parts, key=lambda part: part.start):
        text += item.context[end : part.start] + "⟨" + item.part_text(part) + "⟩"
        end = part.end
    return text + item.context[end:]


@tasks_app.command("validate")
def validate_tasks(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Names or YAML paths; all of the package's if none.")
    ] = None,
) -> None:
    """Read every split of a task and say how many rows are items and why the others are not. Exit code 1 where there are such rows."""
    from salad_eval.benchmarks import find_tasks, load_items, load_task

    unusable = 0
    for name in tasks or list(find_tasks()):
        task = load_task(name)
        for split in task.splits:
            items, rejects, protocol = load_items(task, split)
            domains = len({item.domain for item in items})
            print(f"{task.name} {split}: {len(items)} items in {domains} domains, data {protocol.data_revision}")
            for reason, n in Counter(reject.reason for reject in rejects).most_common():
                first = next(reject for reject in rejects if reject.reason == reason)
                print(f"  {n} rejected: {reason} (first: {first.item_id}{', ' + first.detail if first.detail else ''})")
            unusable += len(rejects)
    if unusable:
        raise typer.Exit(1)
