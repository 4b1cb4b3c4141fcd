"""Benchmarks: the rows of a task as items, with lm-eval's own context, options and gold, and the spans that are spoken.

Row by row the text equals what lm-eval 0.4.x builds from the same YAML, at 0 and at k shots; a row that cannot be an item
becomes a counted ``Reject`` and never a guess.
"""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace

import numpy as np

from salad_eval.answers.choice import same_text
from salad_eval.benchmarks.catalogue import find_tasks, load_task, load_tasks
from salad_eval.benchmarks.data import Row, Table, draws, lm_eval_seeds, processed, read_split
from salad_eval.benchmarks.domains import domain_of, slice_of, with_domain
from salad_eval.benchmarks.functions import lm_eval_tasks_dir, lm_eval_version
from salad_eval.benchmarks.measures import not_computed
from salad_eval.benchmarks.packaged import packaged_dataset
from salad_eval.benchmarks.prompts import (
    Prompt,
    alternative_of,
    context_of,
    has_alternatives,
    question_of,
    recordings_of,
    refuse_leak,
    with_options,
)  # fmt: skip
from salad_eval.benchmarks.recordings import NoRecording, arranged, joined
from salad_eval.benchmarks.row_values import (
    Unusable,
    check_columns,
    check_settled,
    choices_of,
    gold_of,
    golds_and_answers,
    target_of,
    text_of,
)
from salad_eval.benchmarks.scoring import check_scoring, own_metric
from salad_eval.benchmarks.shot_prompts import needs_delimiter, shot_maker
from salad_eval.benchmarks.shots import LM_EVAL_SEED
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.errors import TaskError
from salad_eval.types import LOGPROB_SCORES, OWN_SCORES, Alternative, Item, Recording, Reject, TaskProtocol

__all__ = ["TaskSpec", "find_tasks", "load_items", "load_task", "load_tasks", "packaged_dataset"]

STEP = "items"


def load_items(
    task: TaskSpec,
    split: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    shots: int | None = None,
    spoken_shots: bool | None = None,
    shots_seed: int = LM_EVAL_SEED,
) -> tuple[list[Item], list[Reject], TaskProtocol]:
    """The items of a split in the order of its rows, the rows that cannot be items and why, and how the task is asked.

    ``limit`` takes that many items, spread evenly over the domains and drawn by ``seed``; a larger limit takes the same ones and more.
    ``shots`` and ``spoken_shots`` override the task's own; ``shots_seed`` draws shots where they are drawn at random. Ids are
    ``task:row id``, so that items of several tasks can stand in one run. Raises ``TaskError`` for data that cannot be read, shots that
    cannot be made, and where no row can be an item.
    """
    n_shots = task.num_fewshot if shots is None else shots
    speak_shots = task.spoken_shots if spoken_shots is None else spoken_shots
    raw = read_split(task, split)
    table = _as_lm_eval_draws(task, split, raw)
    if table.rows:
        check_columns(task, table.columns)
    task = with_domain(task, table)
    shot_prompts = shot_maker(task, split, raw, table, n_shots, speak_shots, shots_seed)
    recordings = recordings_of(task, table)
    make = _item_with_alternatives if has_alternatives(task, table.rows, table.columns) else _item
    items: dict[str, Item] = {}
    rejects: list[Reject] = []
    for number, row in enumerate(table.rows):
        item_id = f"{task.name}:{split}:{number}"
        shots_of_row = shot_prompts(row)  # of rejected rows too: what is drawn for one row depends on those before it
        try:
            if task.id is not None and (task.id in table.columns or task.id != "id"):
                item_id = f"{task.name}:{text_of(task.id, row, table.columns, 'id')}"
            if item_id in items and not task.audio:
                raise Unusable("duplicate id", f"row {number + 1} of the {split} split")
            made = make(task, split, item_id, row, table.columns, shots_of_row(), recordings(row))
            if not items:
                check_settled(task, row)
            items[item_id] = _with_speaker(items[item_id], made, number, split) if item_id in items else made
        except (Unusable, NoRecording) as cause:
            rejects.append(Reject(item_id, STEP, cause.reason, cause.detail))
    if not items:
        reasons = ", ".join(sorted({reject.reason for reject in rejects})) or "the split is empty"
        reasons += f"; first: {rejects[0].detail}" if rejects and rejects[0].detail else ""
        raise TaskError(
            f"task {task.name}, split {split!r}: none of its {len(table.rows)} rows can be used ({reasons})."
        )
    check_scoring(task, next(iter(items.values())))
    chosen = _spread(list(items.values()), limit, seed)
    asked = _asked(task, split, table, n_shots, n_shots > 0 and speak_shots)
    return chosen, rejects, replace(asked, n_items=len(chosen))


def _asked(task: TaskSpec, split: str, table: Table, n_shots: int, spoken_shots: bool) -> TaskProtocol:
    """How a task's items are asked; of how many is not said yet."""
    return TaskProtocol(
        task=task.name,
        split=split,
        data_revision=table.revision + _of_lm_eval(task),
        speak=task.speak,
        shots=n_shots,
        spoken_shots=spoken_shots,
        score=task.score,
        domain_field=task.domain.source or "task",
        n_items=0,
        n_rows=len(table.rows),
        options=task.options,
        metric=own_metric(task) if task.score in OWN_SCORES else "",
        not_computed=not_computed(task.measures, task.score),
        gated=task.gated,
    )


def _as_lm_eval_draws(task: TaskSpec, split: str, raw: Table) -> Table:
    """The rows as ``process_docs`` makes them; where it draws by chance, what lm-eval draws of them: after the few-shot split's rows."""
    with lm_eval_seeds():
        few = task.shots.split
        if draws(task.shots.process_docs) and few is not None and few != task.splits.get(split):
            with suppress(TaskError):  # rows that are not there draw nothing
                processed(task, read_split(task, few, own_name=True), task.shots.process_docs)
        return processed(task, raw, task.process_docs)


def _of_lm_eval(task: TaskSpec) -> str:
    """Of whose prompts and code the items are made, where they are not the task's own file alone."""
    installed = lm_eval_tasks_dir()
    if installed is None or not task.path.is_relative_to(installed):
        return ""
    return f" asked as in lm-eval {lm_eval_version()}"


def _spread(items: list[Item], limit: int | None, seed: int) -> list[Item]:
    """At most ``limit`` items, the same number of each domain as far as they go, in their own order."""
    if limit is None or limit >= len(items):
        return items
    by_domain: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        by_domain[item.domain].append(index)
    ranks: list[tuple[int, int, int]] = []
    for place, (_, members) in enumerate(sorted(by_domain.items())):
        order = np.random.default_rng([seed, place]).permutation(len(members))
        ranks += [(rank, place, members[k]) for rank, k in enumerate(order)]
    return [items[index] for index in sorted(index for _, _, index in sorted(ranks)[:limit])]


def _with_speaker(item: Item, other: Item, number: int, split: str) -> Item:
    """An item with the recording of another row of it: the same question by another speaker."""
    both = joined(item, other)
    if both is None:
        detail = f"row {number + 1} of the {split} split: another text, or a voice that the item has already"
        raise Unusable("duplicate id", detail)
    return both


def _item(
    task: TaskSpec,
    split: str,
    item_id: str,
    row: Row,
    columns: frozenset[str],
    shots: Prompt,
    recordings: tuple[Recording, ...] = (),
) -> Item:
    choices = choices_of(task.doc_to_choice, row, columns)
    question = with_options(task, question_of(task, row, columns), choices)
    gen_prefix = _gen_prefix(task, row, columns)
    between = task.target_delimiter if gen_prefix and needs_delimiter(question.text, gen_prefix) else ""
    asked = question.said_by("user") + Prompt(between) + Prompt(gen_prefix).said_by("assistant")
    prompt = _description(task, row, columns) + shots + asked
    golds, answers = _right(task, row, columns, choices)
    refuse_leak(item_id, prompt)
    return _made(task, split, item_id, row, columns, prompt, choices or (), golds, recordings, answers=answers)


def _item_with_alternatives(
    task: TaskSpec,
    split: str,
    item_id: str,
    row: Row,
    columns: frozenset[str],
    shots: Prompt,
    recordings: tuple[Recording, ...] = (),
) -> Item:
    """An item of which each option is a prompt of its own, and one text follows all of them."""
    if task.score not in LOGPROB_SCORES or task.options != "none":
        raise Unusable(
            "one prompt for each option",
            "it is asked by the log-probability of what follows them, and listed or generated by none",
        )
    choices = choices_of(task.doc_to_choice, row, columns) or ()
    gold = gold_of(context_of(task, task.doc_to_text, row, columns), choices)
    target = target_of(task.doc_to_target, row, columns, has_choices=True)
    if isinstance(target, list):
        raise Unusable("gold is not one option", f"{target!r:.80}")
    gen_prefix = _gen_prefix(task, row, columns)
    prompt = _description(task, row, columns) + shots
    alternatives = []
    for number, choice in enumerate(choices, start=1):
        start = len(prompt.text)
        prompt += alternative_of(task, choice, f"context{number}", spoken=True).said_by("user")
        prompt += Prompt(gen_prefix).said_by("assistant")
        alternatives.append(Alternative(start, len(prompt.text)))
    refuse_leak(item_id, prompt)
    made = _made(task, split, item_id, row, columns, prompt, choices, (gold,), recordings)
    return replace(made, alternatives=tuple(alternatives), ending=str(target))


def _gen_prefix(task: TaskSpec, row: Row, columns: frozenset[str]) -> str:
    return text_of(task.gen_prefix, row, columns, "gen_prefix") if task.gen_prefix else ""


def _description(task: TaskSpec, row: Row, columns: frozenset[str]) -> Prompt:
    return Prompt(text_of(task.description, row, columns, "description") if task.description else "").said_by("system")


def _right(
    task: TaskSpec, row: Row, columns: frozenset[str], choices: tuple[str, ...] | None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The right options and the accepted answers. Where the task's own code says what is right, as far as they can be told."""
    own = task.score in OWN_SCORES and task.measures.process_results is not None
    try:
        target = target_of(task.doc_to_target, row, columns, has_choices=choices is not None)
        golds, answers = golds_and_answers(task, target, choices)
    except Unusable:
        if not own:
            raise
        return (), ()
    if choices is not None and not own:
        _refuse_undecidable(choices, golds)
    return golds, answers


def _refuse_undecidable(choices: tuple[str, ...], golds: tuple[int, ...]) -> None:
    """A question on which every answer is right, or a right one is also a wrong one, measures nothing."""
    if len(golds) == len(choices):
        raise Unusable("every option is right")
    wrong = [choice for place, choice in enumerate(choices) if place not in golds]
    if any(same_text(choice, choices[gold]) for choice in wrong for gold in golds):
        raise Unusable("two options are the same, and one of them is right")


def _made(
    task: TaskSpec,
    split: str,
    item_id: str,
    row: Row,
    columns: frozenset[str],
    prompt: Prompt,
    choices: tuple[str, ...],
    golds: tuple[int, ...],
    recordings: tuple[Recording, ...],
    answers: tuple[str, ...] = (),
) -> Item:
    group = f"{task.name}:{text_of(task.group, row, columns, 'group')}" if task.group else item_id
    return Item(
        id=item_id,
        task=task.name,
        split=split,
        domain=domain_of(task, row, columns),
        context=prompt.text,
        choices=choices,
        gold=golds[0] if golds else None,
        also_gold=golds[1:],
        group=group,
        spoken_parts=prompt.parts,
        target_delimiter=task.target_delimiter,
        answers=answers,
        fields={name: slice_of(task, name, row, columns) for name in task.slices},
        recordings=arranged((*prompt.recordings, *recordings), [part.name for part in prompt.parts]),
        turns=prompt.turns if len(prompt.turns) > 1 else (),
        chat_delimiter=task.chat_delimiter,
        system_delimiter=task.fewshot_delimiter,
        row=_row_as_json(row) if task.score in OWN_SCORES else "",
    )


def _row_as_json(row: Row) -> str:
    """The row for the task's own scoring; columns that JSON does not hold (sound, images) are left out."""
    kept = {}
    for column, value in row.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            continue
        kept[column] = value
    return json.dumps(kept, ensure_ascii=False)
