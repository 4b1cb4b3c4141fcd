"""Probes: which documents are drawn, what is measured on them, and what a killed run keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad_eval.audio.store import AudioStore
from salad_eval.errors import AudioError, DataError, PluginError, UserInputError
from salad_eval.pipeline.engines import Workshop
from salad_eval.pipeline.folder import RunFolder
from salad_eval.pipeline.tools import PluginRef
from salad_eval.records import loads, write_json
from salad_eval.types import CLEAN, Audio, Rendering
from salad_train import measure as measuring
from salad_train.selection import probe as probing
from salad_train.selection.probe import (
    ProbeDraw,
    ProbePlan,
    Probes,
    Readers,
    ReadersRef,
    character_error_rate,
    draw_probes,
    measure_probes,
    spans_of,
    spoken_length,
)
from salad_train.speech.interleave import InterleaveSpec, WordRange
from salad_train.speech.utterances import Utterance
from salad_train.training.batches import BatchLimits
from salad_train.training.plan import TrainPlan
from salad_train.training.stage_plan import StagePlan
from salad_train.training.stages import SpeechSource, open_store, speak_documents
from salad_train.types import ClusterProbe, TextDocument
from tests.helpers.selection_world import corpus
from tests.helpers.speech_llm_world import SENTENCES, Voice, language_model, sound, speech_llm, tokenizer

SECONDS_A_CHARACTER = 0.06  # of ``Voice``
STAGE = StagePlan(
    train=TrainPlan(steps=1, seed=3),
    voices=("a", "b"),
    interleave=InterleaveSpec(text=WordRange(1, 3), speech=WordRange(1, 3)),
    limits=BatchLimits(tokens=2048, sequences=8),
)
PLAN = ProbePlan(documents_per_cluster=2, seed=5)


class Recogniser:
    """Hears every sound of ``Voice`` as ``heard`` says of its length in characters; refuses what is too short."""

    def __init__(self, heard: str = "", at_least: float = 0.0, drop: int = 0) -> None:
        self.heard, self.at_least, self.drop = heard, at_least, drop

    def fingerprint(self) -> str:
        return f"recogniser {self.heard!r} {self.at_least} {self.drop}"

    def transcribe(self, audios: Sequence[Audio]) -> list[str]:
        if any(audio.seconds < self.at_least for audio in audios):
            raise AudioError("too short")
        return [self.heard] * (len(audios) - self.drop)


class Keeper(Voice):
    """Keeps what it says, and says nothing twice."""

    def __init__(self, store: AudioStore, mute_on: str | None = None) -> None:
        super().__init__(mute_on)
        self.store = store

    def render(self, utterances: Sequence[Utterance]) -> Iterator[Rendering | None]:
        for utterance in utterances:
            kept = self.store.root / f"{self.key(utterance)}.json".replace(" ", "-")
            if not kept.exists():
                (audio,) = super().speak([utterance])
                if audio is None:
                    yield None
                    continue
                put = self.store.put_sound(audio)
                words, length = utterance.text, (put.sample_rate_hz, put.n_samples)
                write_json(kept, Rendering("", "span", utterance.voice, CLEAN, words, put.sha256, *length))
            yield loads(Rendering, kept.read_bytes())

    def speak(self, utterances: Sequence[Utterance]) -> Iterator[Audio | None]:
        for rendering in self.render(utterances):
            yield None if rendering is None else self.store.get(rendering.sha256)


READERS = ReadersRef("in memory", "in memory", "eager", "cpu", "tiny")
ASR = PluginRef("salad.asr", "in memory", {})


@dataclass
class World:
    """Three clusters of two documents; the third speaks of gold only."""

    readers: Readers
    draws: tuple[ProbeDraw, ...]
    folder: Path

    def keeper(self, mute_on: str | None = None) -> Keeper:
        return Keeper(AudioStore(self.folder.parent / "audio"), mute_on)

    def measure(self, *, voice: Keeper | None = None, asr: Any = None, fingerprint: str = "tiny") -> Probes:
        reference, shop = replace(READERS, fingerprint=fingerprint), Workshop()
        shop.tools.put(reference, self.readers)
        shop.tools.put(ASR, asr)
        heard_by = None if asr is None else ASR
        speaker = voice or self.keeper()
        with RunFolder(self.folder) as folder:
            return measure_probes(self.draws, PLAN, STAGE, reference, tokenizer(), speaker, folder, shop, asr=heard_by)


@pytest.fixture(scope="module")
def readers() -> Readers:
    import torch

    torch.set_num_threads(1)
    model, processor = speech_llm("llama", "parakeet", 2)
    return Readers(model.eval(), processor, language_model("llama", seed=4))


@pytest.fixture
def world(readers: Readers, tmp_path: Path) -> World:
    texts = [" ".join(SENTENCES[i] for i in pair) for pair in ((0, 2), (2, 3), (3, 4), (4, 5), (1, 0), (1, 5))]
    documents = [TextDocument(f"d{place}", text, f"domain{place // 2}") for place, text in enumerate(texts)]
    draws = tuple(ProbeDraw(c, tuple(documents[2 * c : 2 * c + 2])) for c in range(3))
    return World(readers, draws, tmp_path / "run")


# --- which documents -------------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6), n=st.integers(1, 20), seed=st.integers(0, 99))
def test_probes_are_drawn_within_clusters_and_leave_half_of_each(sizes: list[int], n: int, seed: int) -> None:
    found, labels = corpus(sizes, [10] * len(sizes))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    documents = [found.documents[place] for place in shuffled]
    draws = draw_probes(documents, labels[shuffled], len(sizes), ProbePlan(n, seed))
    assert [draw.cluster for draw in draws] == list(range(len(sizes)))
    for draw, size in zip(draws, sizes, strict=True):
        ids = [document.id for document in draw.documents]
        assert len(ids) == len(set(ids)) == min(n, max(1, size // 2))
        assert all(id_.startswith(f"c{draw.cluster}-") for id_ in ids)
    assert draw_probes(documents, labels[shuffled], len(sizes), ProbePlan(n, seed)) == draws


def test_another_seed_draws_other_documents_and_a_cluster_does_not_depend_on_the_others() -> None:
    found, labels = corpus((50, 50), (10, 10))
    one, other = (draw_probes(found.documents, labels, 2, ProbePlan(5, seed)) for seed in (0, 1))
    assert one != other
    alone = draw_probes(found.documents[:50], labels[:50], 1, ProbePlan(5, 0))
    assert alone == one[:1]


def test_a_probe_of_no_documents_is_refused() -> None:
    with pytest.raises(UserInputError, match="probe_documents is 0"):
        ProbePlan(0)


# --- what is measured ------------------------------------------------------------------------------------------------


def test_a_probe_holds_what_measure_finds_on_its_examples(world: World) -> None:
    probes = world.measure().probes
    assert [probe.cluster for probe in probes] == [0, 1, 2]
    documents = world.draws[1].documents
    store = open_store(world.folder / "again", world.readers.model)
    spoken = speak_documents(
        SpeechSource(documents, world.keeper()), STAGE, world.readers.model, world.readers.processor, store
    )
    (expected,) = measuring.measure(
        world.readers.model, world.readers.teacher, spoken.examples, store, groups={d.id: "1" for d in documents}
    )
    found = probes[1]
    for name in ("forgetting", "misalignment", "distillation", "teacher_entropy", "after_speech", "inside_text"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours is not None
        assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), rel=1e-4)
        assert ours.n == theirs.n
    assert found.n_positions == expected.n_positions
    assert (found.n_documents, found.n_failed, found.cer) == (2, 0, None)


def test_seconds_and_characters_say_how_much_sound_a_document_takes(world: World) -> None:
    found = world.measure()
    for draw, probe, length in zip(world.draws, found.probes, found.lengths, strict=True):
        spans = spans_of(draw.documents, tokenizer(), STAGE)
        said = sum(len(utterance.text) for of_one in spans.values() for utterance in of_one)
        assert probe.seconds == pytest.approx(SECONDS_A_CHARACTER * said)
        assert probe.n_characters == sum(len(document.text) for document in draw.documents)
        assert (length.cluster, length.seconds, length.n_characters) == (
            probe.cluster,
            probe.seconds,
            probe.n_characters,
        )


def test_a_cluster_that_cannot_be_spoken_is_named_with_its_reason(world: World) -> None:
    class Mute(Keeper):
        """Says nothing of the third cluster's documents, and has a sound for each document apart."""

        def key(self, utterance: Utterance) -> str:
            return f"{utterance.document_id} {super().key(utterance)}"

        def render(self, utterances: Sequence[Utterance]) -> Iterator[Rendering | None]:
            for utterance, rendering in zip(utterances, super().render(utterances), strict=True):
                yield None if utterance.document_id in ("d4", "d5") else rendering

    found = world.measure(voice=Mute(world.keeper().store))
    assert [probe.cluster for probe in found.probes] == [0, 1]
    assert found.failed == {
        2: "nothing to measure in its 2 probe documents: 2 could not be spoken, 0 not be cut into text and speech"
    }


def test_documents_that_fail_are_counted_and_their_length_is_not(world: World) -> None:
    first, second = world.draws[0].documents
    spans = spans_of((first, second), tokenizer(), STAGE)
    only_first = next(u.text for u in spans[first.id] if all(u.text not in v.text for v in spans[second.id]))
    found = world.measure(voice=world.keeper(mute_on=only_first)).probes[0]
    assert (found.n_documents, found.n_failed) == (2, 1)
    assert found.n_characters == len(second.text)


def test_documents_too_short_to_cut_count_as_text_without_sound(world: World) -> None:
    short = TextDocument("short", "Yes.", "")
    world.draws = (ProbeDraw(0, (world.draws[0].documents[0], short)), ProbeDraw(1, (short,)))
    found = world.measure()
    (probe,) = found.probes
    assert (probe.n_documents, probe.n_failed) == (2, 0)
    assert probe.n_characters == len(world.draws[0].documents[0].text) + 4
    assert found.failed[1].endswith("0 could not be spoken, 1 not be cut into text and speech")


# --- CER -------------------------------------------------------------------------------------------------------------


def said(*texts: str) -> list[tuple[str, Audio]]:
    return [(text, sound(text, "a")) for text in texts]


@pytest.mark.parametrize(
    ("texts", "asr", "expected"),
    [
        (("gold",), Recogniser("gold"), 0.0),
        (("Gold!",), Recogniser("gold"), 0.0),
        (("gold",), Recogniser("cold"), 0.25),
        (("gold", "cold bold"), Recogniser("gold"), 6 / 13),
        (("gold",), Recogniser(""), 1.0),
        ((), Recogniser(""), None),
        (("gold",), Recogniser("gold", at_least=9.0), None),
        # The short one is refused and counts as wholly misheard.
        (("gold", "a"), Recogniser("gold", at_least=0.1), 0.2),
    ],
)
def test_character_error_rate(texts: tuple[str, ...], asr: Recogniser, expected: float | None) -> None:
    found = character_error_rate(said(*texts), asr)
    assert found == (None if expected is None else pytest.approx(expected))


def test_an_asr_that_loses_transcripts_is_named() -> None:
    with pytest.raises(PluginError, match="gave 1 transcripts for 2 recordings"):
        character_error_rate(said("gold", "cold"), Recogniser("gold", drop=1))


def test_every_probe_is_transcribed_where_there_is_an_asr(world: World) -> None:
    assert all(probe.cer == 1.0 for probe in world.measure(asr=Recogniser("")).probes)


# --- what is kept ----------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The groups of every call of ``measure``; a call goes on the list before it is made."""
    calls: list[set[str]] = []
    real = measuring.measure

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(set(kwargs["groups"].values()))
        return real(*args, **kwargs)

    monkeypatch.setattr(measuring, "measure", counted)
    monkeypatch.setattr(probing, "STEP", replace(probing.STEP, chunk=1))
    return calls


def test_nothing_is_measured_or_spoken_twice(world: World, measured: list[set[str]]) -> None:
    first = world.measure()
    assert measured == [{"0"}, {"1"}, {"2"}]
    voice = world.keeper()
    assert world.measure(voice=voice) == first
    assert len(measured) == 3
    assert voice.said == []


@pytest.mark.parametrize("changes", [{"fingerprint": "another model"}, {"asr": Recogniser("x")}])
def test_another_model_or_asr_is_measured_anew(world: World, measured: list[set[str]], changes: dict[str, Any]) -> None:
    world.measure()
    world.measure(**changes)
    assert len(measured) == 6


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(
    world: World, measured: list[set[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counted = measuring.measure

    def killed(*args: Any, **kwargs: Any) -> Any:
        if kwargs["groups"] and set(kwargs["groups"].values()) == {"2"}:
            raise KeyboardInterrupt
        return counted(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(measuring, "measure", killed)
        with pytest.raises(KeyboardInterrupt):
            world.measure()
    assert measured == [{"0"}, {"1"}]
    resumed = world.measure()
    assert measured == [{"0"}, {"1"}, {"2"}]
    world.folder = tmp_path / "undisturbed"
    assert world.measure() == resumed


# --- elsewhere -------------------------------------------------------------------------------------------------------


def test_two_processes_measure_what_this_one_measures(
    world: World, tiny_models: dict[str, Path], two_processes: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    monkeypatch.setattr(probing, "STEP", replace(probing.STEP, chunk=1))
    speech, base = (str(tiny_models[name]) for name in ("speech", "base"))
    reference, voice = ReadersRef(speech, base, "eager", "cpu", "tiny"), world.keeper()
    asr = PluginRef("salad.asr", "transformers-ctc", {"pretrained": str(tiny_models["asr"])})
    for place, shop in (("here", Workshop()), ("there", two_processes)):
        with RunFolder(tmp_path / place) as folder:
            ours = AutoTokenizer.from_pretrained(speech)
            found = measure_probes(world.draws, PLAN, STAGE, reference, ours, voice, folder, shop, asr=asr)
        assert len(found.probes) == 3
    lines = [(tmp_path / place / "probe.jsonl").read_bytes() for place in ("here", "there")]
    assert lines[0] == lines[1]


# --- speaking rate ---------------------------------------------------------------------------------------------------


def test_the_speaking_rate_needs_a_voice_and_no_model(world: World) -> None:
    documents = [document for draw in world.draws for document in draw.documents]
    voice = Voice()
    found = spoken_length(documents, tokenizer(), STAGE, voice, PLAN)
    assert found.cluster is None
    assert found.n_characters == sum(len(document.text) for document in documents)
    assert found.seconds == pytest.approx(SECONDS_A_CHARACTER * sum(len(u.text) for u in voice.said))


def test_documents_that_cannot_be_spoken_do_not_count_for_the_rate(world: World) -> None:
    documents = [document for draw in world.draws for document in draw.documents]
    spans = spans_of(documents, tokenizer(), STAGE)
    mute = spans["d0"][0].text
    spoken = [d for d in documents if all(mute not in utterance.text for utterance in spans[d.id])]
    found = spoken_length(documents, tokenizer(), STAGE, Voice(mute_on=mute), PLAN)
    assert found.n_characters == sum(len(document.text) for document in spoken)
    said = sum(len(utterance.text) for document in spoken for utterance in spans[document.id])
    assert found.seconds == pytest.approx(SECONDS_A_CHARACTER * said)
    with pytest.raises(DataError, match=r"none of 6 documents could be spoken.*voices \(a, b\)"):
        spoken_length(documents, tokenizer(), STAGE, Voice(mute_on=""), PLAN)


def test_a_probe_is_a_line_that_reads_back(world: World) -> None:
    from salad_eval.records import read_jsonl

    found = world.measure()
    lines = read_jsonl(world.folder / "probe.jsonl", probing.ProbeOutcome)
    assert [line.probe for line in lines] == list(found.probes)
    assert all(isinstance(line.probe, ClusterProbe) for line in lines)
