"""Recipes: everything a training depends on, as YAML that becomes typed plans: both stages, and where speech and text come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from salad_eval import resources
from salad_eval.audio.store import AudioStore
from salad_eval.errors import UserInputError
from salad_eval.pipeline.deadline import DEFAULT_SECONDS
from salad_eval.pipeline.engines import EngineChoice, Workshop
from salad_eval.pipeline.plan import Options
from salad_eval.validation import parse, read_table, with_overrides
from salad_train.corpus.filters import CorpusPlan
from salad_train.corpus.sources import documents_of
from salad_train.speech.alignment import AlignerPlan, with_word_times
from salad_train.speech.manifests import ManifestPlan, Recording, RecordingReject, Recordings, collect, iter_recordings
from salad_train.speech.natural import NaturalSpeaker
from salad_train.speech.speaker import TTSSpeaker
from salad_train.training.processes import first_process_first
from salad_train.training.stage_plan import Stage1Plan, Stage2Plan
from salad_train.training.stages import SpeechSource, Stage2Data, borders_of
from salad_train.types import TextDocument

STATE_FILE = "state.json"
_RECIPES = Path(__file__).resolve().parent / "recipes"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoicePlan:
    """What reads texts aloud.

    Attributes:
        tts: a plug-in of ``salad.tts``.
        options: what it is built with.
        workers: processes that speak, and that judge the texts of a corpus; null: one a core, or as many as a cluster has room for.
    """

    tts: str = "pyttsx3"
    options: Options = field(default_factory=dict)
    workers: int | None = 1

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserInputError(f"workers is {self.workers}; expected at least 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class NaturalPlan:
    """What Stage I hears: recordings by manifest, or documents that are read aloud where there are no recordings.

    Attributes:
        recordings: manifests by a name of yours, which their recordings' ids begin with. ``None`` leaves one out.
        aligner: times the words of recordings whose manifest has no times. Without one those are left out.
        documents: what is read aloud instead, by the recipe's ``voice``.
    """

    recordings: Mapping[str, ManifestPlan | None] = field(default_factory=dict)
    aligner: AlignerPlan | None = None
    documents: CorpusPlan | None = None

    def __post_init__(self) -> None:
        if bool(self.manifests) == (self.documents is not None):
            has = "both recordings and" if self.manifests else "neither recordings nor"
            raise UserInputError(
                f"natural has {has} documents; expected one of them. Set natural.recordings.NAME.source to a manifest, or "
                "natural.documents.source to texts that are read aloud; set the other to null."
            )

    @property
    def manifests(self) -> dict[str, ManifestPlan]:
        return {name: plan for name, plan in self.recordings.items() if plan is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training by SALAD's two stages.

    Attributes:
        name: of the recipe; runs are kept under it.
        stage1: the base LLM learns to hear.
        stage2: the speech LLM goes on with speech made for it.
        natural: speech that is there already (or takes its part).
        voice: says what Stage II selects, and ``natural.documents``.
        text: what is read as plain text.
        corpus: what Stage II selects from.
        audio_store: where synthetic sound is kept; by default shared by all runs.
        engine: where speaking, embedding, probing and the teacher's reading are done: this machine or a cluster.
        timeout: seconds that a text or an utterance may take, in the mean of those that are worked on together.
    """

    name: str
    stage1: Stage1Plan
    stage2: Stage2Plan
    natural: NaturalPlan
    text: CorpusPlan
    corpus: CorpusPlan
    voice: VoicePlan = field(default_factory=VoicePlan)
    audio_store: str | None = None
    engine: EngineChoice = EngineChoice()
    timeout: float = DEFAULT_SECONDS

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise UserInputError(f"timeout is {self.timeout}; expected seconds, more than 0.")

    def folder(self, stage: int) -> Path:
        """Where a stage goes unless told otherwise."""
        return Path("runs") / self.name / f"stage{stage}"

    def on_device(self, device: str) -> Recipe:
        return replace(self, stage1=replace(self.stage1, device=device), stage2=replace(self.stage2, device=device))

    def after(self, stage1: Path) -> Recipe:
        """With Stage II going on from what Stage I left in a folder: its model, and its state before the decay."""
        if not (stage1 / "model").is_dir():
            raise UserInputError(
                f"{stage1} holds no finished Stage I (no {stage1 / 'model'}). Finish it with `salad train --stage 1`, or name another."
            )
        kept = checkpoint_before_decay(stage1)
        checkpoint = None if kept is None else str(kept)
        return replace(self, stage2=replace(self.stage2, init=str(stage1 / "model"), checkpoint=checkpoint))


def checkpoint_before_decay(stage1: Path) -> Path | None:
    """The checkpoint that Stage I kept for Stage II, if any: the one that its ``state.json`` marks so."""
    for state in sorted(stage1.glob(f"checkpoints/step-*/{STATE_FILE}"), reverse=True):
        if json.loads(state.read_text(encoding="utf-8")).get("keep"):
            return state.parent
    return None


# --- reading ---------------------------------------------------------------------------------------------------------


def known_recipes() -> tuple[str, ...]:
    """The recipes that ship with the package."""
    return tuple(resources.shipped_yaml(_RECIPES))


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by its name, or from a YAML file of yours; ``overrides`` are dotted keys and their values.

    Raises ``UserInputError`` naming each wrong key, its value and what was expected.
    """
    path = resources.find_yaml("recipe", name_or_path, _RECIPES)
    table = read_table(path, "recipe", f"one of {', '.join(known_recipes())}")
    table.setdefault("name", path.stem)
    return parse(Recipe, with_overrides(table, overrides or {}), f"recipe {name_or_path}")


# --- data ------------------------------------------------------------------------------------------------------------


def replay_documents(recipe: Recipe) -> Sequence[TextDocument]:
    """What is read as plain text."""
    return documents_of(recipe.text).documents


def stage2_data(
    recipe: Recipe,
    documents: Sequence[TextDocument],
    *,
    audio: AudioStore | None = None,
    work: Path | None = None,
    frames: Path | None = None,
    tell: Callable[[str], None] | None = None,
    shop: Workshop | None = None,
) -> Stage2Data:
    """What Stage II of a recipe reads: selected documents, and beside them Stage I's kind of speech and plain text, each only where
    the plan gives it a share of the batches.

    Args:
        frames: keeps encoded speech, where runs on one encoder share it; see ``natural_source`` for the others.
    """
    plan, shop = recipe.stage2, shop or workshop_of(recipe)
    with first_process_first(plan.device):
        natural = (
            natural_source(recipe, audio=audio, work=work, tell=tell, shop=shop) if plan.natural_share > 0 else None
        )
        replay = replay_documents(recipe) if plan.replays else ()
    return Stage2Data(SpeechSource(documents, voice_of(recipe, audio, shop), borders_of), natural, replay, frames, shop)


def natural_source(
    recipe: Recipe,
    *,
    audio: AudioStore | None = None,
    work: Path | None = None,
    tell: Callable[[str], None] | None = None,
    shop: Workshop | None = None,
) -> SpeechSource:
    """What Stage I hears, and whose voice says it.

    Args:
        audio: where made speech is kept; by default the recipe's store.
        work: keeps the times that an aligner found, so that no word is aligned twice.
        tell: is told how much there is, and what was left out.
        shop: where documents are spoken; by default one of the recipe's engine.
    """
    plan = recipe.natural
    if plan.documents is not None:
        corpus = documents_of(plan.documents)
        return SpeechSource(corpus.documents, voice_of(recipe, audio, shop), borders_of)
    found = read_natural(plan, work)
    if tell is not None:
        tell(f"{len(found.recordings):,} recordings, {found.seconds / 3600:,.2f} hours")
        for reject in found.rejects:
            tell(f"left out: {reject.n:,} {reject.reason}, such as {reject.examples[0]}")
    return SpeechSource(found.recordings, NaturalSpeaker(found.recordings), borders_of)


def read_natural(plan: NaturalPlan, work: Path | None = None) -> Recordings:
    """The recordings of all manifests, with times for their words; the others are counted."""
    found: list[Recording | RecordingReject] = []
    for name, manifest in plan.manifests.items():
        key = f"natural.recordings.{name}"
        n_kept = 0
        for one in iter_recordings(manifest, key):
            if isinstance(one, Recording):
                n_kept += 1
                one = replace(one, id=f"{name}/{one.id}", domain=one.domain or name)
            found.append(one)
            if n_kept == manifest.max_recordings:
                break
    recordings = [one for one in found if isinstance(one, Recording)]
    rejects = [one for one in found if isinstance(one, RecordingReject)]
    timed: Iterable[Recording | RecordingReject]
    if plan.aligner is None:
        timed = [one if one.words is not None else RecordingReject(one.id, "no_word_times") for one in recordings]
    else:
        timed = with_word_times(recordings, plan.aligner, work and work / "alignment.jsonl")
    try:
        return collect([*rejects, *timed], "natural.recordings")
    except UserInputError as cause:
        if plan.aligner is None and any(one.words is None for one in recordings):
            raise type(cause)(
                f"{cause} Word times can be found by a CTC model: --set natural.aligner.pretrained=MODEL."
            ) from None
        raise


def workshop_of(recipe: Recipe) -> Workshop:
    """Where the work of a recipe is done."""
    return Workshop(recipe.engine, recipe.voice.workers, recipe.timeout)


def voice_of(recipe: Recipe, audio: AudioStore | None = None, shop: Workshop | None = None) -> TTSSpeaker:
    """What says texts for this recipe."""
    store = audio if audio is not None else AudioStore(recipe.audio_store)
    return TTSSpeaker(store, recipe.voice.tts, recipe.voice.options, shop or workshop_of(recipe))
