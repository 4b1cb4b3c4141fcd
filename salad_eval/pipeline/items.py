"""What is asked: a plan's tasks, read and checked, and their items. Nothing is made here, so whatever is wrong is told before anything
is touched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from salad_eval.benchmarks.catalogue import Chosen, choose_tasks
from salad_eval.benchmarks.items import load_items
from salad_eval.benchmarks.recordings import voices_of
from salad_eval.benchmarks.requests import GenerationProtocol
from salad_eval.benchmarks.scoring import measure_notes, scorer_of, scoring_fingerprint
from salad_eval.benchmarks.spec import TaskSpec
from salad_eval.errors import TaskError, UserInputError
from salad_eval.identity import digest
from salad_eval.pipeline.plan import Plan
from salad_eval.resources import resolve_path
from salad_eval.types import LOGPROB_SCORES, Item, Reject, Response, Score, ScoreKind, TaskProtocol

MOST_NAMED_VOICES = 8  # of recordings, in a signature
MOST_SLICED_VOICES = 24  # a table by speaker, with a question each, says nothing; the plan may still ask for it
BUILT_IN_SLICES = ("voice", "condition", "perturbation", "task")  # perturbation: the earlier name of condition


@dataclass(frozen=True, slots=True)
class Answering:
    """How answers to a task's items are asked for."""

    score: ScoreKind
    generation: GenerationProtocol


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The items of a run, in the order of their tasks, and how each task is asked."""

    items: tuple[Item, ...]
    rejects: tuple[Reject, ...]
    protocols: tuple[TaskProtocol, ...]
    tasks: Mapping[str, TaskSpec]
    refused: tuple[str, ...] = ()  # of the tasks that cannot be asked why

    @property
    def answering(self) -> dict[str, Answering]:
        """By task, what of a protocol is not in the items themselves."""
        return {name: Answering(task.score, task.generation) for name, task in self.tasks.items()}

    @property
    def scoring(self) -> str:
        """A digest of how answers are scored, by task."""
        return digest({name: scoring_fingerprint(task) for name, task in self.tasks.items()})

    def scorer(self) -> Callable[[Response], Score]:
        """What finds a response right, wrong or missing, as its item's task has it."""
        by_id = {item.id: item for item in self.items}
        scorers = {name: scorer_of(task) for name, task in self.tasks.items()}

        def score(response: Response) -> Score:
            item = by_id[response.item_id]
            return scorers[item.task](item, response)

        return score

    def measure_notes(self, scores: Sequence[Score]) -> list[str]:
        """What the report says of measures beside the one that counts, and of tasks that were not asked."""
        left_out = [f"Not asked: {why}" for why in self.refused]
        return [*left_out, *measure_notes(self.protocols, {item.id: item.task for item in self.items}, scores)]


def read_benchmark(plan: Plan) -> Benchmark:
    """The plan's tasks and their items. Raises ``UserInputError`` for tasks and data that cannot be used as the plan says."""
    chosen = read_tasks(plan)
    return dataclasses.replace(read_items(plan, chosen.tasks), refused=chosen.refused)


def tasks_of(plan: Plan) -> Chosen:
    """The tasks that a plan names, as it asks them, and why it cannot ask the others."""
    mirror = resolve_path(plan.data_dir) if plan.data_dir is not None else None
    return choose_tasks(
        plan.tasks, speak=plan.speak, score=plan.score, data_dir=mirror, options=plan.options, metric=plan.metric
    )


def read_tasks(plan: Plan) -> Chosen:
    """The plan's tasks, with the columns it slices by."""
    chosen = tasks_of(plan)
    tasks = chosen.tasks
    columns = [field for field in plan.slice_fields or () if field not in BUILT_IN_SLICES]
    for task in tasks:
        if task.speak == "none":
            raise TaskError(f"{task.path}: metadata.salad.speak is 'none'; a gap needs something spoken.")
        if not task.audio and (plan.tts is None or not plan.voices):
            missing = "voices" if plan.tts is not None else "tts"
            raise UserInputError(
                f"plan: the key {missing!r} is missing, and task {task.name} is spoken: only tasks with ready sound (metadata.salad.audio) "
                "do without. Give, for example, tts: {name: pyttsx3} and voices: [en-us+f3]."
            )
        if plan.score in LOGPROB_SCORES and task.output_type == "generate_until":
            raise UserInputError(
                f"plan: score is {plan.score!r}, and task {task.name} has no options (generate_until); expected 'generate' or "
                "another that reads an answer."
            )
        if sum(other.name == task.name for other in tasks) > 1:
            raise UserInputError(f"plan: two of its tasks are called {task.name!r}; names must differ within a run.")
    _refuse_two_lists(plan, tasks)
    sliced = (dataclasses.replace(task, slices=tuple(dict.fromkeys([*task.slices, *columns]))) for task in tasks)
    return dataclasses.replace(chosen, tasks=tuple(sliced))


def _refuse_two_lists(plan: Plan, tasks: Sequence[TaskSpec]) -> None:
    """Options are listed by the items, for every column alike, or by one system for itself; never by both."""
    listing = next((task.name for task in tasks if task.options == "lettered"), None)
    if plan.options == "lettered" and all(task.doc_to_choice is None for task in tasks):
        raise UserInputError("plan: options is 'lettered', and none of its tasks has options. Leave the key out.")
    for role, system in (("base", plan.base), ("adapted", plan.adapted)):
        if listing is not None and system.options.get("list_options"):
            raise UserInputError(
                f"plan: {role}.options.list_options lists the options in one system's prompt, and task {listing} lists them in every "
                "column's (options: lettered). Keep one; only the latter asks both systems the same."
            )


def read_items(plan: Plan, tasks: Sequence[TaskSpec]) -> Benchmark:
    items: list[Item] = []
    rejects: list[Reject] = []
    protocols: list[TaskProtocol] = []
    for task in tasks:
        found, lost, protocol = load_items(
            task, plan.split, limit=plan.limit, seed=plan.seed, shots=plan.shots, spoken_shots=plan.spoken_shots
        )
        items += found
        rejects += lost
        protocols.append(protocol)
    return Benchmark(tuple(items), tuple(rejects), tuple(protocols), {task.name: task for task in tasks})


def items_digest(items: Sequence[Item]) -> str:
    """Of the items without the places of their recordings: what is heard has a digest of its own, and files may be moved."""
    return digest(*(dataclasses.replace(item, recordings=()) if item.recordings else item for item in items))


def voices_heard(plan: Plan, items: Sequence[Item]) -> tuple[str, ...]:
    """The voices of a run, as its signature names them: the plan's where anything is spoken, and the speakers of recordings.

    Many speakers are counted, not named.
    """
    spoken = plan.voices if any(not item.recordings for item in items) else ()
    speakers = voices_of(items)
    named = speakers if len(speakers) <= MOST_NAMED_VOICES else (f"recorded({len(speakers)})",)
    return tuple(dict.fromkeys([*spoken, *named]))


def slice_fields(plan: Plan, benchmark: Benchmark) -> tuple[str, ...]:
    """The fields that a report slices by: the plan's, or voice (where they are not too many) and what the tasks name."""
    if plan.slice_fields is not None:
        return plan.slice_fields
    tasks = benchmark.tasks.values()
    by_voice = ["voice"] if len(voices_of(benchmark.items)) <= MOST_SLICED_VOICES else []
    several = [name for name, n in (("condition", len(plan.conditions)), ("task", len(tasks))) if n > 1]
    return tuple(dict.fromkeys([*by_voice, *several, *(field for task in tasks for field in task.slices)]))
