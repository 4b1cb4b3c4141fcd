"""One run of the study, from its record to what was measured, by the code that any user's training and evaluation goes through."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from salad_eval.audio.store import AudioStore
from salad_eval.pipeline.engines import Workshop
from salad_eval.pipeline.items import read_benchmark
from salad_eval.pipeline.plan import Plan
from salad_eval.pipeline.render import jobs_for, render
from salad_eval.pipeline.speech import Question, Speech
from salad_eval.types import CLEAN, Item, Rendering
from salad_eval.validation import dotted
from salad_train.corpus.filters import corpus_fingerprint
from salad_train.corpus.sources import documents_of
from salad_train.loop import load_loop
from salad_train.measure import measure_documents, pooled
from salad_train.model import SaladForConditionalGeneration, SaladProcessor
from salad_train.model.system import SaladSystem
from salad_train.nano import world
from salad_train.nano.study.answers import as_hex
from salad_train.nano.study.plan import Breadth, Checkpoint, Record, Stage1Run, Stage2Run, run_key
from salad_train.recipe import Recipe, load_recipe, stage2_data, voice_of
from salad_train.selection.files import SelectPlan
from salad_train.selection.select import Steering, Voice, read_steering, readers_of, select
from salad_train.speech.synthesise import spoken_documents, synthesise
from salad_train.training.batches import Batch, Example
from salad_train.training.frames import FrameStore
from salad_train.training.hf import HfTrainer
from salad_train.training.stage_plan import Stage2Plan
from salad_train.training.stages import (
    Heard,
    SpeechSource,
    borders_of,
    build,
    mixed_batches,
    open_models,
    open_store,
    speak_documents,
    texts_of,
)
from salad_train.training.train import train
from salad_train.types import Corpus, TextDocument

STAGE1_STEPS = (30, 60, 120, 240)  # at which Stage I is measured
STAGE1_DOCUMENTS = 6000  # that may be heard in Stage I, narrow or broad
REPLAY_DOCUMENTS = 4000
NATURAL_DOCUMENTS = 1000  # of Stage I's kind, heard again in Stage II
PROBE_DOCUMENTS = 8  # a cluster
MEASURED_DOCUMENTS = 280  # on which F, M and D are taken: as many of each domain
CONDITIONS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "training voices": (("en-us+m3,rate=190", "en-us+f1"), CLEAN),
    "another accent": (("en-gb-scotland", "en-029"), CLEAN),
    "noise, 20 dB": (world.EVALUATION_VOICES, "noise,snr=20"),
    "noise, 10 dB": (world.EVALUATION_VOICES, "noise,snr=10"),
    "telephone": (world.EVALUATION_VOICES, "telephone"),
}
UNSEEN_VOICES = "unseen voices"  # the condition under which every checkpoint is measured
SPOKEN_BY = "pyttsx3"
ANSWER = "\nAnswer:"  # before the answer of a question in the corpus


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where runs leave what they share: ``audio`` for all processes, the rest for this one."""

    work: Path
    report: Path  # the folder of the validation run that steers the signal "gap"
    process: str

    @property
    def frames(self) -> Path:
        return self.work / f"frames-{self.process}"


class Bench:
    """What runs of one process share: data, questions with their sound, and encoded speech."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.audio = AudioStore(place.work / "audio")
        loop = load_loop("nano")  # Stage II as the loop that ships has it
        own = {"text.max_documents": REPLAY_DOCUMENTS, "voice.tts": SPOKEN_BY, "voice.workers": 1}
        self.recipe: Recipe = load_recipe(loop.recipe, {**dotted(loop.settings), **own})
        self.speaker = voice_of(self.recipe, self.audio)
        self.embedder = loop.select.embedder_options

    # --- data

    @cached_property
    def documents(self) -> Sequence[TextDocument]:
        """The whole corpus: what Stage I may hear in its broad form, what is read as text, what divergences are measured on."""
        return documents_of("nano/corpus").documents

    @cached_property
    def narrow(self) -> Sequence[TextDocument]:
        return documents_of("nano/narrow_speech").documents

    @cached_property
    def steering(self) -> Steering:
        return read_steering(self.place.report)

    @lru_cache(maxsize=8)  # noqa: B019 (a bench lives as long as its process)
    def corpus(self, held_back: tuple[str, ...]) -> Corpus:
        """What Stage II selects from."""
        documents = documents_of(self.recipe.corpus).documents
        documents = tuple(document for document in documents if document.domain not in held_back)
        return Corpus(documents, (), corpus_fingerprint(documents))

    # --- questions

    @cached_property
    def items(self) -> tuple[Item, ...]:
        plan = Plan.preset("nano", {"split": "test"})
        return read_benchmark(plan).items

    @lru_cache(maxsize=8)  # noqa: B019
    def speech(self, voices: tuple[str, ...], perturbation: str) -> Speech:
        jobs, _ = jobs_for(self.items, voices, (perturbation,))
        spoken = render(jobs, tts=SPOKEN_BY, tts_options={}, store=self.audio)
        return Speech([one for one in spoken if isinstance(one, Rendering)])

    def heard_right(self, system: SaladSystem, voices: tuple[str, ...], perturbation: str = CLEAN) -> np.ndarray:
        """(items, voices) bool: which questions are answered right by ear."""
        speech = self.speech(voices, perturbation)
        asked = [(item, voice) for item in self.items for voice in voices]
        right = []
        for start in range(0, len(asked), 128):  # sound is held for these alone
            part = asked[start : start + 128]
            questions = [speech.question(item, "speech", (voice, perturbation)) for item, voice in part]
            requests = [request for question in questions for request in question.requests(self.audio)]
            answers = system.loglikelihoods(requests)
            right += [int(np.argmax(found)) == item.gold for found, (item, _) in zip(answers, part, strict=True)]
        return np.array(right).reshape(len(self.items), len(voices))

    def read_right(self, system: SaladSystem) -> np.ndarray:
        """(items,) bool: which questions are answered right by reading."""
        questions = [Question(item, "text") for item in self.items]
        answers = system.loglikelihoods([r for question in questions for r in question.requests(self.audio)])
        return np.array([int(np.argmax(found)) == item.gold for found, item in zip(answers, self.items, strict=True)])

    def by_domain(self, right: np.ndarray) -> dict[str, float]:
        """Share of right answers by domain."""
        domains = np.array([item.domain for item in self.items])
        return {name: float(right[domains == name].mean()) for name in sorted(set(domains))}

    def listened(
        self, model: SaladForConditionalGeneration, processor: SaladProcessor, measured: Checkpoint
    ) -> dict[str, float]:
        """Share of right answers by ear under each way of listening; ``measured`` holds the first."""
        system = self.system(model, processor)
        return {
            UNSEEN_VOICES: measured.speech_accuracy,
            **{name: float(self.heard_right(system, *how).mean()) for name, how in CONDITIONS.items()},
        }

    def system(self, model: SaladForConditionalGeneration, processor: SaladProcessor) -> SaladSystem:
        """A model in memory, with the questions' encoded sound that all models share."""
        return SaladSystem.live(model, processor, frames=str(self.place.frames / "questions"))

    # --- divergence

    def probe(
        self, model: SaladForConditionalGeneration, processor: SaladProcessor, store: FrameStore
    ) -> tuple[Example, ...]:
        """Documents of all domains, as many of each, spoken in the unseen voices and always cut in the same way."""
        each = MEASURED_DOCUMENTS // len(world.domains())
        chosen = [
            document
            for domain in world.domains()
            for document in [d for d in self.documents if d.domain == domain][-each:]
        ]
        plan = dataclasses.replace(
            self.recipe.stage2,
            voices=world.EVALUATION_VOICES,
            train=dataclasses.replace(self.recipe.stage2.train, seed=0),
        )
        return speak_documents(self.source(chosen), plan, model, processor, store).examples

    def source(self, documents: Sequence[TextDocument]) -> SpeechSource:
        return SpeechSource(documents, self.speaker, borders_of)

    def measured(
        self,
        model: SaladForConditionalGeneration,
        processor: SaladProcessor,
        teacher: Any,
        store: FrameStore,
        *,
        step: int,
        heard_seconds: float,
        voices: tuple[str, ...] = world.EVALUATION_VOICES,
    ) -> Checkpoint:
        """F, M and D of a model, and its answers on the test split by reading and by ear."""
        kl = pooled(measure_documents(model, teacher, self.probe(model, processor, store), store))
        model.eval()
        system = self.system(model, processor)
        right = self.heard_right(system, voices)
        return Checkpoint(
            step=step,
            heard_seconds=heard_seconds,
            forgetting=kl.forgetting.value,
            misalignment=kl.misalignment.value,
            distillation=kl.distillation.value,
            after_speech=kl.after_speech.value if kl.after_speech else 0.0,
            inside_text=kl.inside_text.value if kl.inside_text else 0.0,
            text=self.by_domain(self.read_right(system)),
            speech=self.by_domain(right.mean(axis=1)),
            right=as_hex(right),
        )


# --- Stage I ---------------------------------------------------------------------------------------------------------


def run_stage1(run: Stage1Run, bench: Bench, folder: Path) -> Record:
    """Train from a fresh adapter, and measure on the way."""
    began = time.monotonic()
    recipe = bench.recipe.stage1
    settings = dataclasses.replace(
        recipe.train, steps=STAGE1_STEPS[-1], seed=run.seed, alpha=run.alpha, decay_share=0.0, checkpoint_every=0
    )
    plan = dataclasses.replace(recipe, train=settings, limits=bench.recipe.stage2.limits)
    model, processor, teacher = build(plan)
    store = open_store(bench.place.frames / "speech", model)
    # Cuts and voices are of one seed for all runs, which so share their encoded sound; what differs is the adapter it starts from
    # and which documents it hears, in which order.
    cut_alike = dataclasses.replace(plan, train=dataclasses.replace(settings, seed=0))
    spoken = speak_documents(bench.source(_heard_in_stage1(bench, run.breadth)), cut_alike, model, processor, store)
    texts = texts_of(bench.documents[:REPLAY_DOCUMENTS], processor, plan)
    batches = _Noted(mixed_batches([Heard(spoken.examples, store)], texts, plan))
    seconds = {e.document_id: sum(store.seconds(key) for key in e.recordings) for e in spoken.examples}
    found: list[Checkpoint] = []

    def look(step: int) -> None:
        heard = sum(seconds[name] for name in batches.seen if name in seconds)
        found.append(
            bench.measured(
                model, processor, teacher, store, step=step, heard_seconds=heard, voices=world.EVALUATION_VOICES[:1]
            )
        )
        model.train()

    train(model, teacher, batches, settings, folder, callbacks=[_At(STAGE1_STEPS, look)])
    return Record(run_key(run), run, None, tuple(found), {}, (), {}, time.monotonic() - began)


def _heard_in_stage1(bench: Bench, breadth: Breadth) -> Sequence[TextDocument]:
    """As many documents, of the heard domains or of all; the corpus is in random order."""
    pool = bench.documents if breadth == "broad" else bench.narrow
    return exchanged_answers(pool[:STAGE1_DOCUMENTS]) if breadth == "untrue" else pool[:STAGE1_DOCUMENTS]


def exchanged_answers(documents: Sequence[TextDocument]) -> list[TextDocument]:
    """The questions among ``documents``, in their order, with the answers of each domain dealt out anew among its questions."""
    asked = [document for document in documents if document.text.count(ANSWER) == 1]
    rng = np.random.default_rng(0)
    dealt: dict[str, str] = {}
    for domain in sorted({document.domain for document in asked}):
        mine = [document for document in asked if document.domain == domain]
        answers = [document.text.split(ANSWER)[1] for document in mine]
        dealt |= {document.id: answers[k] for document, k in zip(mine, rng.permutation(len(mine)), strict=True)}
    return [dataclasses.replace(d, text=d.text.split(ANSWER)[0] + ANSWER + dealt[d.id]) for d in asked]


class _Noted:
    """Batches, and which documents were heard in those that were asked for."""

    def __init__(self, batches: Callable[[int], Batch]) -> None:
        self._batches, self.seen = batches, set[str]()

    def __call__(self, index: int) -> Batch:
        batch = self._batches(index)
        if batch.encoder_lengths is not None:
            self.seen.update(batch.document_ids)
        return batch


class _At(TrainerCallback):
    """Calls ``look`` after the steps asked for."""

    def __init__(self, steps: Sequence[int], look: Callable[[int], None]) -> None:
        self._steps, self._look = frozenset(steps), look

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step in self._steps:
            self._look(state.global_step)


# --- Stage II --------------------------------------------------------------------------------------------------------


def run_stage2(run: Stage2Run, bench: Bench, folder: Path) -> Record:
    """Select, speak, train on, and measure."""
    began = time.monotonic()
    plan = stage2_plan(run, bench.recipe)
    shop, reference = Workshop(), readers_of(plan)
    readers = shop.tools.open(reference)
    held_back = _held_back(run)
    choice = SelectPlan(
        budget_seconds=run.budget_seconds,
        signal=run.signal,
        gamma=run.gamma,
        clusters=run.clusters,
        embedder_options=bench.embedder,
        probe_documents=PROBE_DOCUMENTS,
        seed=run.seed,
    )
    probes = (
        bench.place.work / f"probes-{bench.place.process}-{run.clusters}-{run.seed}-{'half' if held_back else 'all'}"
    )
    selection = select(
        choice,
        bench.corpus(held_back),
        Voice(plan, bench.speaker, readers.processor.tokenizer),
        probes,
        readers=reference,
        steering=bench.steering,
        shop=shop,
    )
    synthesis = synthesise(selection, plan, readers.processor.tokenizer, bench.speaker)
    recipe = dataclasses.replace(bench.recipe, stage2=plan)
    spoken = spoken_documents(selection, synthesis)
    data = stage2_data(recipe, spoken, audio=bench.audio, frames=bench.place.frames / "speech")
    trained = HfTrainer().fit(plan, selection, data, folder)
    student, processor, _ = open_models(dataclasses.replace(plan, init=str(trained)))
    store = open_store(bench.place.frames / "speech", student)
    found = bench.measured(
        student, processor, readers.teacher, store, step=plan.train.steps, heard_seconds=synthesis.seconds
    )
    conditions = bench.listened(student, processor, found) if run.listens else {}
    seconds: dict[str, float] = {}
    for document in synthesis.documents:
        seconds[document.domain] = seconds.get(document.domain, 0.0) + document.seconds
    return Record(run_key(run), None, run, (found,), seconds, held_back, conditions, time.monotonic() - began)


def stage2_plan(run: Stage2Run, recipe: Recipe) -> Stage2Plan:
    """The recipe's Stage II with what the run states."""
    lm_lr = {"adapter": 0.0, "lora": 1e-3, "full": 1e-4}[run.tune]
    settings = dataclasses.replace(
        recipe.stage2.train, steps=run.steps, seed=run.seed, tune=run.tune, lm_lr=lm_lr, checkpoint_every=0
    )
    return dataclasses.replace(
        recipe.stage2,
        train=settings,
        natural_documents=NATURAL_DOCUMENTS,
        replay_share=1 / 3 if run.replay else 0.0,
    )


def _held_back(run: Stage2Run) -> tuple[str, ...]:
    """Half of the domains that Stage I did not hear, drawn by the seed."""
    if not run.held_back:
        return ()
    unheard = world.unheard_domains()
    chosen = np.random.default_rng([run.seed, 41]).permutation(len(unheard))[: len(unheard) // 2]
    return tuple(sorted(unheard[i] for i in chosen))


def make(run: Stage1Run | Stage2Run, bench: Bench) -> Record:
    """One run from nothing; what it leaves on disk is removed."""
    folder = bench.place.work / f"run-{run_key(run)}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        return run_stage1(run, bench, folder) if isinstance(run, Stage1Run) else run_stage2(run, bench, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def shipped(bench: Bench) -> Record:
    """The model that Stage II begins with, measured alike."""
    began = time.monotonic()
    plan = bench.recipe.stage2
    model, processor, teacher = open_models(plan)
    store = open_store(bench.place.frames / "speech", model)
    found = bench.measured(model, processor, teacher, store, step=0, heard_seconds=0.0)
    conditions = bench.listened(model, processor, found)
    return Record("shipped", None, None, (found,), {}, (), conditions, time.monotonic() - began)
