"""The loop that the gap report steers: evaluate → select → synthesise → train → evaluate, round by round.

What is looked at to select (the validation split) is never what the result is measured on (the test split). Every step is kept under
a key of what it was made from, so that a killed loop goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salad_eval import plugins, resources
from salad_eval.audio.store import AudioStore
from salad_eval.errors import UserInputError
from salad_eval.gap.compare import Comparison
from salad_eval.identity import digest
from salad_eval.pipeline.engines import EngineChoice, Workshop
from salad_eval.pipeline.finished import compare_runs
from salad_eval.pipeline.folder import RunFolder
from salad_eval.pipeline.items import items_digest, read_benchmark
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.run import run as run_evaluation
from salad_eval.records import whole_folder, write_json
from salad_eval.report.comparison import ComparisonFiles, write_comparison
from salad_eval.types import ControlName, GapReport, Item
from salad_eval.validation import dotted, parse, read_table, with_overrides
from salad_train.corpus.documents import file_in_use, write_documents
from salad_train.corpus.sources import documents_of
from salad_train.recipe import Recipe, load_recipe, stage2_data, voice_of, workshop_of
from salad_train.selection.files import SelectPlan, read_selection, write_selection
from salad_train.selection.select import CORPUS, Voice, needs_probes, read_steering, readers_of, select
from salad_train.speech.speaker import TTSSpeaker
from salad_train.speech.synthesise import read_synthesis, spoken_documents, synthesise, tokenizer_of, write_synthesis
from salad_train.training.stage_plan import Stage2Plan
from salad_train.training.stages import Stage2Data
from salad_train.types import Corpus, Selection, TextDocument, Trainer

STEER_ON, MEASURE_ON = "validation", "test"
MODEL_FILE = "trained.json"
_LOOPS = Path(__file__).resolve().parent / "loops"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPlan:
    """What a loop does, as its YAML file says it.

    Attributes:
        recipe: a recipe's name or file. Its Stage II is trained in each round, first of all from its ``stage2.init``.
        settings: keys of the recipe to be set otherwise, such as ``stage2: {train: {steps: 100}}``.
        evaluation: a preset of ``salad run`` or a plan file; its adapted system is replaced by the model of the round.
        steer: settings of the evaluation that steers (dotted keys), such as fewer voices or items, to save time.
        controls: what is asked without the question of the models before and after, as the key of ``salad run`` has it; none by
            default, since whether the benchmark has room for a gap is no matter of a round. What steers asks none.
        select: one round's selection; each round has its budget, and takes no document a second time.
        rounds: how often; each is steered by the model of the one before.
        trainer: a plug-in of ``salad.trainers``.
        trainer_options: what it is built with.
    """

    recipe: str
    evaluation: str
    select: SelectPlan
    settings: Mapping[str, Any] = field(default_factory=dict)
    rounds: int = 1
    steer: Mapping[str, Any] = field(default_factory=dict)
    controls: tuple[ControlName, ...] = ()
    trainer: str = "hf"
    trainer_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UserInputError(f"rounds is {self.rounds}; expected at least 1.")


def load_loop(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> LoopPlan:
    """A loop that ships with the package, or one from a YAML file; ``overrides`` are dotted keys and their values."""
    path = resources.find_yaml("loop", name_or_path, _LOOPS)
    table = read_table(path, "loop", f"one of {', '.join(resources.shipped_yaml(_LOOPS))}")
    return parse(LoopPlan, with_overrides(table, overrides or {}), f"loop {name_or_path}")


@dataclass(frozen=True, slots=True, eq=False)
class LoopResult:
    """The model after the last round, and how it compares with the one before the first, on the test split."""

    model: Path
    comparison: Comparison
    files: ComparisonFiles
    selections: tuple[Selection, ...]


def loop(plan: LoopPlan, out: Path, tell: Callable[[str], None] = lambda line: None) -> LoopResult:
    """Run ``plan.rounds`` rounds, or go on from where an earlier call was stopped; ends with ``out/comparison.html``.

    ``out`` gets ``before/`` and ``after/`` (evaluations on the test split), and for each round ``validation/``, ``selection/``,
    ``synthesis/`` and ``stage2/``. ``tell`` is told what is being done.
    """
    recipe = load_recipe(plan.recipe, dotted(plan.settings))
    audio, shop = AudioStore(recipe.audio_store), workshop_of(recipe)
    voice = voice_of(recipe, audio, shop)
    model = recipe.stage2.init
    selections: list[Selection] = []
    trained_on: list[TextDocument] = []
    with RunFolder(out) as folder, shop:
        tell("measuring the model as it is, on the test split")
        evaluate_model(plan, recipe, model, MEASURE_ON, out / "before", out / "questions")
        tell("reading the corpus")
        with file_in_use(out / CORPUS) as kept, shop:  # its workers go: an evaluation has places of its own
            against, hands = benchmark_items(plan, recipe), shop.voices(apart=False)
            corpus = documents_of(recipe.corpus, against=against, kept_in=kept, hands=hands)
        shared = stage2_data(recipe, (), audio=audio, work=out / "frames", frames=out / "frames", shop=shop)
        for number in range(1, plan.rounds + 1):
            turn = Turn(plan, round_plan(recipe.stage2, model, number), folder, f"round-{number}", voice, shop)
            tell(f"round {number} of {plan.rounds}: where is the gap? (validation split)")
            steer = {"controls": (), **plan.steer}
            evaluate_model(plan, recipe, model, STEER_ON, turn.path / "validation", out / "questions", steer)
            tell(f"round {number}: what to speak?")
            selection = chosen(turn, _without(corpus, trained_on, turn.path / CORPUS))
            selections.append(selection)
            tell(f"round {number}: speaking {selection.budget_seconds:,.0f} s")
            trained_on += spoken(turn, selection)
            tell(f"round {number}: training on {len(trained_on):,} documents, {turn.stage.train.steps} steps")
            data = dataclasses.replace(
                shared, selected=dataclasses.replace(shared.selected, documents=tuple(trained_on))
            )
            model = str(trained(turn, of_all_rounds(selections), data))
        tell("measuring the model as it is now, on the test split")
        _begin_with(out / "before", out / "after")
        evaluate_model(plan, recipe, model, MEASURE_ON, out / "after", out / "questions")
        comparison = compare_runs(out / "before", out / "after")
        files = write_comparison(comparison, out, title="Before and after Stage II", story=story(recipe, selections))
    return LoopResult(Path(model), comparison, files, tuple(selections))


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A round under way: what it is about, where its results are kept, who speaks, and where the work is done."""

    plan: LoopPlan
    stage: Stage2Plan
    folder: RunFolder
    name: str
    voice: TTSSpeaker
    shop: Workshop

    @property
    def path(self) -> Path:
        return self.folder.path / self.name

    def made_of(self, **more: str) -> dict[str, str]:
        """What every step of a round depends on, and ``more``. A model counts by what it is, not by where it lies."""
        settings = dataclasses.replace(self.stage, init="", base="", checkpoint=None)
        return {"stage": digest(settings), **self.stage.models(), "voice": self.voice.fingerprint(), **more}


# --- steps -----------------------------------------------------------------------------------------------------------


def evaluation_of(plan: LoopPlan, recipe: Recipe, changes: Mapping[str, Any]) -> Plan:
    """The loop's evaluation with ``changes``, on the recipe's engine and with its sound, where it names them."""
    if recipe.audio_store is not None:
        changes = {**changes, "audio_store": recipe.audio_store}
    if recipe.engine != EngineChoice():
        changes = {**changes, "engine": recipe.engine.model_dump()}
    return Plan.of(plan.evaluation, changes)


def benchmark_items(plan: LoopPlan, recipe: Recipe) -> tuple[Item, ...]:
    """The questions of both splits: no document of the corpus may hold one."""
    splits = [evaluation_of(plan, recipe, {"split": split}) for split in (STEER_ON, MEASURE_ON)]
    return tuple(item for one in splits for item in read_benchmark(one).items)


def evaluate_model(
    plan: LoopPlan,
    recipe: Recipe,
    model: str,
    split: str,
    out: Path,
    frames: Path,
    settings: Mapping[str, Any] | None = None,
) -> GapReport:
    """The gap report of a model. ``frames`` keeps the questions' encoded sound, which all models of a loop share."""
    changes = {
        "controls": plan.controls,
        **(settings or {}),
        "split": split,
        "out": str(out),
        "adapted.options.pretrained": model,
        "adapted.options.frames": str(frames),
    }
    return run_evaluation(evaluation_of(plan, recipe, changes), again=True)


def _begin_with(finished: Path, new: Path) -> None:
    """Let a run begin with what another one made: sound, transcripts and the base LLM's answers are those of any adapted model.
    Each step looks for itself whether its lines were made under its own key."""
    if not new.exists():
        with whole_folder(new) as unfinished:
            shutil.copytree(finished, unfinished, dirs_exist_ok=True)


def round_plan(stage: Stage2Plan, model: str, number: int) -> Stage2Plan:
    """Stage II of a round: it goes on from the model of the round before, with chance of its own. What lies before Stage I's decay
    is where the first round begins only."""
    seed = stage.train.seed + 1000 * (number - 1)
    return dataclasses.replace(
        stage,
        init=model,
        checkpoint=stage.checkpoint if number == 1 else None,
        train=dataclasses.replace(stage.train, seed=seed),
    )


def chosen(turn: Turn, corpus: Corpus) -> Selection:
    """The round's selection, steered by its validation report."""
    steering = read_steering(turn.path / "validation")
    plan = turn.plan.select
    signal = plugins.create("salad.signals", plan.signal, plan.signal_options)

    def make(out: Path) -> Selection:
        readers = readers_of(turn.stage) if needs_probes(signal) else None
        voice = Voice(turn.stage, turn.voice, tokenizer_of(turn.stage))
        with turn.shop as shop:
            selection = select(plan, corpus, voice, out, readers=readers, steering=steering, shop=shop)
        write_selection(selection, out)
        return selection

    made_of = turn.made_of(
        selection=digest(plan),
        signal=signal.fingerprint(),
        embedder=plugins.create("salad.embedders", plan.embedder, plan.embedder_options).fingerprint(),
        corpus=corpus.fingerprint,
        report=digest(dataclasses.replace(steering.report, created="", costs=None)),
        items=items_digest(steering.items),
    )
    return turn.folder.once(f"{turn.name}/selection", make, read_selection, files="selection.json*", depends_on=made_of)


def spoken(turn: Turn, selection: Selection) -> tuple[TextDocument, ...]:
    """The selected documents that were spoken within the budget."""
    stage, voice = turn.stage, turn.voice

    def make(out: Path) -> tuple[TextDocument, ...]:
        with turn.shop:
            synthesis = synthesise(selection, stage, tokenizer_of(stage), voice)
        write_synthesis(synthesis, selection, stage, voice.fingerprint(), out)
        return spoken_documents(selection, synthesis)

    def read(out: Path) -> tuple[TextDocument, ...]:
        return spoken_documents(selection, read_synthesis(out, selection, stage, voice.fingerprint()))

    made_of = turn.made_of(selection=digest(selection))
    return turn.folder.once(f"{turn.name}/synthesis", make, read, files="synthesis.json*", depends_on=made_of)


def trained(turn: Turn, selection: Selection, data: Stage2Data) -> Path:
    """The checkpoint that the trainer makes of all documents selected so far."""
    plan = turn.plan
    trainer: Trainer = plugins.create("salad.trainers", plan.trainer, plan.trainer_options)

    def make(out: Path) -> Path:
        model = trainer.fit(turn.stage, selection, data, out)
        write_json(out / MODEL_FILE, {"model": os.path.relpath(model, out)})
        return model

    def read(out: Path) -> Path:
        stated: dict[str, str] = json.loads((out / MODEL_FILE).read_text(encoding="utf-8"))
        return out / stated["model"]

    made_of = turn.made_of(
        selection=digest(selection),
        trainer=digest(plan.trainer, plan.trainer_options, trainer.fingerprint()),
        **data.fingerprints(),
    )
    return turn.folder.once(f"{turn.name}/stage2", make, read, files="model/*", depends_on=made_of)


def of_all_rounds(selections: Sequence[Selection]) -> Selection:
    """The last round's selection with the documents of the rounds before it, which are trained on again, or they would be
    forgotten."""
    *earlier, last = selections
    if not earlier:
        return last
    documents = tuple(document for selection in selections for document in selection.documents)
    return dataclasses.replace(
        last, documents=documents, signature=" + ".join(selection.signature for selection in selections)
    )


def story(recipe: Recipe, selections: Sequence[Selection]) -> list[str]:
    """What was done between the two evaluations, in sentences."""
    lines = []
    for number, selection in enumerate(selections, start=1):
        most = sorted((w for w in selection.weights if w.target > 0), key=lambda w: -w.target)[:5]
        terms = {cluster.id: ", ".join(cluster.terms[:3]) for cluster in selection.clusters}
        named = "; ".join(f"{100 * w.target:.0f}% of it about {terms[w.cluster]}" for w in most)
        lines.append(
            f"Round {number}: the signal {selection.signal!r} (γ = {selection.gamma:g}) chose {selection.budget_seconds:,.0f} s of "
            f"speech from {len(selection.clusters)} clusters by the validation split; {named}. "
            f"Trained for {recipe.stage2.train.steps} steps."
        )
    return lines


def _without(corpus: Corpus, documents: Sequence[TextDocument], path: Path) -> Corpus:
    """The corpus less what was selected in earlier rounds; ``path``: where it may lie while it is made."""
    from salad_train.corpus.filters import corpus_fingerprint

    taken = {document.id for document in documents}
    if not taken:
        return corpus
    with file_in_use(path) as kept:
        left = write_documents(kept, (document for document in corpus.documents if document.id not in taken))
    return Corpus(left, corpus.rejects, corpus_fingerprint(left))
