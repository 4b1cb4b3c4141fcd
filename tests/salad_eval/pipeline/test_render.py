"""Items to sound in the store: every job answered, in order, once, whatever the engine and its processes do."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from salad_eval.audio import sound as audio
from salad_eval.audio.store import AudioStore, SpeechRequest
from salad_eval.errors import AudioError, SaladError, UnknownNameError, UserInputError
from salad_eval.pipeline import executor, render, speak
from salad_eval.pipeline.executor import WorkerProcesses
from salad_eval.pipeline.render import RenderJob, jobs_for
from salad_eval.pipeline.tools import PluginRef
from salad_eval.pipeline.worker import Worker, WorkerDied
from salad_eval.types import CLEAN, Item, Reject, Rendering, SpokenPart

# A TTS of tones that misbehaves on request. It is installed as a plug-in would be, so that worker processes find it too.
FAKE = """
import os, pathlib, sys, time
import numpy as np
from salad_eval.errors import AudioError
from salad_eval.types import Audio

class Tones:
    def __init__(self, log="", rate=16000, start=""):
        self.log, self.rate, self.said = log, rate, {}
        print("an engine that prints on loading")
        if start == "die": sys.stderr.write("no licence"); os._exit(3)
    def fingerprint(self): return f"tones 1 at {self.rate}"
    def voices(self): return ["low", "high"]
    def speak(self, text, voice):
        print("an engine that prints on speaking")
        if self.log:
            with open(self.log, "a") as file: file.write(f"{os.getpid()} {voice} {text}\\n")
        n = self.said[text] = self.said.get(text, 0) + 1
        if "crash" in text and os.environ.get("OMP_NUM_THREADS") == "1": os._exit(9)
        if "bug" in text: raise ZeroDivisionError("a bug in the plug-in")
        if "unknown" in voice:
            from salad_eval.errors import UnknownNameError
            raise UnknownNameError("voice", voice, self.voices())
        if "refuse" in text or ("once" in text and n == 1): raise AudioError("refused")
        if "slow" in text: time.sleep(0.02)
        if "list" in text: return [0.0] * 16000
        seconds = 0.0 if "empty" in text else 0.3 + 0.05 * len(text)
        samples = 0.3 * np.sin(np.arange(int(seconds * self.rate)) * (0.1 if voice == "low" else 0.2))
        if "cut" not in text: samples *= np.linspace(1, 0, len(samples))
        if "stereo" in text: return Audio(np.stack([samples, samples]).astype(np.float32), self.rate)
        return Audio(samples.astype(np.float32), self.rate)
"""


@pytest.fixture(scope="session", autouse=True)
def _tones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "fake_tones.py").write_text(FAKE)
    info = folder / "fake_tones-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-tones\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[salad.tts]\nodd-tones = fake_tones:Tones\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture
def store(tmp_path: Path) -> AudioStore:
    return AudioStore(tmp_path / "audio")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start worker processes for any amount of work: the first chunk is still done in this process."""
    monkeypatch.setattr(executor, "WORKER_START_SECONDS", 0.0)
    monkeypatch.setattr(render, "REQUESTS_AT_A_TIME", 4)


def job(text: str, item: str = "q1", voice: str = "low", perturbation: str = CLEAN) -> RenderJob:
    return RenderJob(item, "context", voice, perturbation, text)


def run(
    jobs: list[RenderJob], store: AudioStore, workers: int = 1, retries: int = 3, **options: Any
) -> list[Rendering | Reject]:
    crew = WorkerProcesses(workers)
    return list(render.render(jobs, tts="odd-tones", tts_options=options, store=store, executor=crew, retries=retries))


def item(item_id: str, context: str, parts: Mapping[str, str]) -> Item:
    spans = tuple(
        SpokenPart(name, context.index(text), context.index(text) + len(text)) for name, text in parts.items()
    )
    return Item(item_id, "t", "test", "d", context, ("x", "y"), 0, item_id, spans)


# --- jobs


def test_every_part_in_every_voice() -> None:
    items = [item("q1", "Q: What is 2+2?\nA:", {"context": "What is 2+2?"}), item("q2", "a b", {"a": "a", "b": "b"})]
    jobs, rejects = jobs_for(items, ["v1", "v2"])
    assert rejects == []
    assert jobs == [
        RenderJob("q1", "context", "v1", "clean", "What is two plus two?"),
        RenderJob("q1", "context", "v2", "clean", "What is two plus two?"),
        RenderJob("q2", "a", "v1", "clean", "a"),
        RenderJob("q2", "b", "v1", "clean", "b"),
        RenderJob("q2", "a", "v2", "clean", "a"),
        RenderJob("q2", "b", "v2", "clean", "b"),
    ]


def test_an_item_that_cannot_be_said_is_rejected_whole() -> None:
    items = [item("q1", "fine 日本", {"a": "fine", "b": "日本"}), item("q2", "fine", {"a": "fine"})]
    jobs, rejects = jobs_for(items, ["v"])
    assert [j.item_id for j in jobs] == ["q2"]
    assert rejects[0].item_id == "q1"
    assert (rejects[0].step, rejects[0].reason) == ("render", "unspeakable: script")
    assert "U+65E5" in rejects[0].detail


# --- rendering


def test_renderings_say_what_is_in_the_store(store: AudioStore) -> None:
    jobs = [job("one two", "q1"), job("three", "q2", "high")]
    results = run(jobs, store, rate=8_000)
    for wanted, got in zip(jobs, results, strict=True):
        assert isinstance(got, Rendering)
        assert (got.item_id, got.part, got.voice, got.perturbation, got.spoken_text) == (
            wanted.item_id, "context", wanted.voice, "clean", wanted.spoken_text,
        )  # fmt: skip
        sound = store.get(got.sha256)
        assert (got.sample_rate_hz, got.n_samples) == (16_000, len(sound.samples))
        assert got.seconds == pytest.approx(0.3 + 0.05 * len(wanted.spoken_text), abs=0.01)
        assert audio.problem(sound, wanted.spoken_text) is None


@pytest.mark.parametrize(
    ("text", "reason"), [("empty", "empty"), ("cut off", "truncated"), ("refuse", "tts_error"), ("x" * 9, None)]
)
def test_bad_sound_is_rejected_by_name_and_leaves_nothing(store: AudioStore, text: str, reason: str | None) -> None:
    (result,) = run([job(text)], store)
    if reason is None:
        assert isinstance(result, Rendering)
    else:
        assert isinstance(result, Reject)
        assert (result.item_id, result.step, result.reason) == ("q1", "render", reason)
        assert not [p for p in store.root.rglob("*") if p.is_file()]


def test_a_failure_is_tried_again(store: AudioStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert isinstance(run([job("once")], store, retries=1, log=str(log))[0], Rendering)
    assert len(log.read_text().splitlines()) == 2
    assert isinstance(run([job("refuse")], store, retries=0, log=str(log))[0], Reject)
    assert len(log.read_text().splitlines()) == 3


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("eager")
def test_results_come_in_the_order_of_the_jobs(store: AudioStore, workers: int) -> None:
    texts = [f"number {i}" if i % 5 else f"refuse {i}" for i in range(30)]
    jobs = [job(text, f"q{i}", "high" if i % 2 else "low") for i, text in enumerate(texts)]
    results = run(jobs, store, workers)
    assert [r.item_id for r in results] == [j.item_id for j in jobs]
    assert [isinstance(r, Reject) for r in results] == [i % 5 == 0 for i in range(30)]
    assert all(r.spoken_text == j.spoken_text for r, j in zip(results, jobs, strict=True) if isinstance(r, Rendering))


@pytest.mark.usefixtures("eager")
def test_work_is_shared_by_processes(store: AudioStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run([job(f"slow {i}", f"q{i}") for i in range(60)], store, workers=2, log=str(log))
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 60
    assert len({line.split()[0] for line in lines}) == 3  # this process for the first chunk, then two workers


def test_little_work_starts_no_process(store: AudioStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "Worker", None)
    assert len(run([job(f"number {i}", f"q{i}") for i in range(40)], store, workers=2)) == 40


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("eager")
def test_nothing_is_spoken_twice(store: AudioStore, tmp_path: Path, workers: int) -> None:
    log = tmp_path / "log"
    jobs = [job(f"number {i % 10}", f"q{i}") for i in range(20)]
    first = run(jobs, store, workers, log=str(log))
    assert len(log.read_text().splitlines()) == 10
    again = run(jobs, AudioStore(store.root), workers, log=str(log))
    assert again == first == run(jobs, store, workers, log=str(log))
    assert len(log.read_text().splitlines()) == 10
    run(jobs[:1], store, rate=8_000, log=str(log))  # another fingerprint is another request
    assert len(log.read_text().splitlines()) == 11


def test_a_run_that_is_given_up_has_kept_what_it_yielded(store: AudioStore, tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [job(f"number {i}", f"q{i}") for i in range(render.REQUESTS_AT_A_TIME * 3)]
    results = render.render(jobs, tts="odd-tones", tts_options={"log": str(log)}, store=store)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(run(jobs, AudioStore(store.root), log=str(log))) == len(jobs)
    assert len(log.read_text().splitlines()) == len(jobs)


@pytest.mark.usefixtures("eager")
def test_a_run_that_is_given_up_leaves_no_process(store: AudioStore, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job(f"slow {i}", f"q{i}") for i in range(100)]
    started: list[Worker] = []
    monkeypatch.setattr(executor, "Worker", lambda *given: started.append(Worker(*given)) or started[-1])
    results = render.render(jobs, tts="odd-tones", tts_options={}, store=store, executor=WorkerProcesses(2))
    for _ in range(10):
        next(results)
    assert started
    results.close()  # type: ignore[attr-defined]
    assert all(worker._process.returncode is not None for worker in started)
    assert not [t for t in threading.enumerate() if t.name.startswith("salad-worker")]


# --- what may go wrong


@pytest.mark.usefixtures("eager")
def test_a_text_that_kills_its_worker_is_the_only_one_lost(store: AudioStore) -> None:
    texts = [f"number {i}" for i in range(16)]
    texts[5] = texts[13] = "crash"
    results = run([job(text, f"q{i}") for i, text in enumerate(texts)], store, workers=2)
    lost = {r.item_id: r for r in results if isinstance(r, Reject)}
    assert set(lost) == {"q5", "q13"}
    assert {r.reason for r in lost.values()} == {"worker_died"}
    assert lost["q5"].detail == (
        "the TTS plug-in 'odd-tones' on 'crash' in voice 'low': worker process ended with exit code 9: an engine that prints on speaking"
    )
    assert len(results) == 16


@pytest.mark.usefixtures("eager")
def test_workers_that_only_die_end_the_run(store: AudioStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "MAX_DEATHS_IN_A_ROW", 2)
    jobs = [job(f"fine {i}") for i in range(4)] + [job(f"crash {i}", f"q{i}") for i in range(30)]
    with pytest.raises(SaladError, match="in a row ended their worker process"):
        run(jobs, store, workers=2)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_plug_in_fails_on_is_counted_by_its_name(store: AudioStore, workers: int) -> None:
    texts = [f"fine {i}" for i in range(6)] + ["bug"]
    results = run([job(t, f"q{i}") for i, t in enumerate(texts)], store, workers)
    told = "the TTS plug-in 'odd-tones' failed: ZeroDivisionError: a bug in the plug-in"
    assert [one for one in results if isinstance(one, Reject)] == [Reject("q6", "render", "plugin_failed", told)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a list", "TypeError: it gave a list; expected an Audio (mono samples in [-1, 1], and their rate)"),
        ("stereo", "TypeError: it gave an Audio of float32 of shape (2, 9600); expected float samples of shape (n,)"),
    ],
)
def test_what_is_no_mono_sound_is_rejected(store: AudioStore, text: str, told: str) -> None:
    fine, lost = run([job("fine", "q1"), job(text, "q2")], store)
    assert isinstance(fine, Rendering)
    assert lost == Reject("q2", "render", "plugin_failed", f"the TTS plug-in 'odd-tones' failed: {told}")


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_plug_in_that_only_fails_ends_the_run(store: AudioStore, workers: int) -> None:
    texts = [f"fine {i}" for i in range(6)] + [f"bug {i}" for i in range(40)]
    with pytest.raises(SaladError, match=r"plug-in 'odd-tones' failed: ZeroDivisionError: .*8th failure in a row"):
        run([job(t, f"q{i}") for i, t in enumerate(texts)], store, workers)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_unknown_voice_is_the_users_error(store: AudioStore, workers: int) -> None:
    jobs = [job(f"fine {i}", f"q{i}") for i in range(8)] + [job("fine", "q9", "unknown")]
    with pytest.raises(UserInputError, match=r"unknown voice 'unknown'.*Known: high, low") as caught:
        run(jobs, store, workers)
    assert caught.value.exit_code == 2


def test_unknown_names_are_told_before_anything_is_spoken(store: AudioStore) -> None:
    with pytest.raises(UnknownNameError, match=r"perturbation 'noisy'.*Known: clean"):
        run([job("fine", perturbation="noisy")], store)
    with pytest.raises(UnknownNameError, match="tts plug-in 'odd-tone'; did you mean 'odd-tones'"):
        list(render.render([job("fine")], tts="odd-tone", tts_options={}, store=store))
    with pytest.raises(UserInputError, match="no option 'lag'; did you mean 'log'"):
        run([job("fine")], store, lag="x")
    with pytest.raises(UserInputError, match="retries is -1"):
        run([job("fine")], store, retries=-1)


def test_an_engine_that_cannot_start_in_a_worker_is_named(store: AudioStore) -> None:
    setup = speak.SpeakSetup(PluginRef("salad.tts", "odd-tones", {"start": "die"}), str(store.root), 0)
    process = Worker()
    try:
        process.take_up(speak.speak, setup)
        with pytest.raises(WorkerDied, match="exit code 3: no licence"):
            process.ask([SpeechRequest("odd-tones", "low", "fine", CLEAN)])
    finally:
        process.close()


def test_a_store_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "pcm").write_text("in the way")
    with pytest.raises(AudioError, match="cannot write"):
        run([job("fine")], AudioStore(tmp_path))


def test_no_jobs_no_work(store: AudioStore) -> None:
    assert run([], store, workers=2) == []


# --- with the real engine


def test_the_real_engine_in_a_script_without_a_main_guard(tmp_path: Path) -> None:
    """Worker processes do not run the caller's script again, and nothing but the script prints."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        from salad_eval.audio import sound as audio
        from salad_eval.pipeline import executor, render
        from salad_eval.audio.store import AudioStore
        executor.WORKER_START_SECONDS, render.REQUESTS_AT_A_TIME = 0.0, 4
        store = AudioStore({str(tmp_path / "audio")!r})
        jobs = [render.RenderJob(f"q{{i}}", "context", voice, "clean", f"This is sentence {{'abcdefghij'[i]}}.")
                for i in range(10) for voice in ("en-us+f3", "en-gb+m2,rate=200")]
        crew = executor.WorkerProcesses(2)
        done = list(render.render(jobs, tts="pyttsx3", tts_options={{}}, store=store, executor=crew))
        assert [r.voice for r in done] == [j.voice for j in jobs]
        assert all(audio.problem(store.get(r.sha256), r.spoken_text) is None for r in done)
        assert len({{r.sha256 for r in done}}) == 20
        assert "torch" not in sys.modules and "lm_eval" not in sys.modules
        print("once")
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("once\n", "")
