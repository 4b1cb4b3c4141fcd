"""One synthesis, and the processes that do many: a worker holds one engine and answers requests over its pipes.

A worker is a plain subprocess that speaks JSON lines, not a ``multiprocessing`` child: it does not run the caller's
main module again (so a script needs no ``if __name__ == "__main__"``), it inherits no threads, and it ends with its
parent because its input ends. What an engine prints goes to its error stream and never into the answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from salad_eval import plugins, records
from salad_eval.audio.perturb import perturbation
from salad_eval.audio.sound import SAMPLE_RATE_HZ, problem, resample
from salad_eval.audio.store import AudioStore, SpeechRequest, StoredSound
from salad_eval.errors import AudioError, PluginError, SaladError, UserInputError
from salad_eval.types import TTS

CHUNK_SECONDS = 600.0  # a worker that has not answered for so long is taken for stuck and is ended
# Workers are the parallelism: a numerical library that starts threads of its own in each only gets in the way.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# glibc gives arrays of this size back to the system each time they are freed; keeping them saves 227 page faults and
# half a millisecond of 5.4 an utterance. Other allocators do not read these.
_WORKER_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(64 << 20), "MALLOC_TRIM_THRESHOLD_": str(128 << 20)}
_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.stdin.buffer.readline())
from salad_eval.tts.worker import main
main()
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why no sound could be made for a request."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker needs to know before its first request."""

    tts: str
    tts_options: Mapping[str, Any]
    store_root: str
    retries: int


class WorkerDied(Exception):
    """The process ended, or was ended for being stuck, before it answered; the text says how."""


# --- one synthesis ---------------------------------------------------------------------------------------------------


def synthesise(engine: TTS, store: AudioStore, request: SpeechRequest, retries: int) -> StoredSound | Failure:
    """Speak a request, check the sound, and keep it; asked again up to ``retries`` times where it fails.

    The reasons are those of ``sound.problem`` and ``tts_error`` where the engine raised ``AudioError``. The check is on
    the clean sound: a perturbation may well hide what is missing. Any other error ends the run: a ``SaladError`` as it is
    (an unknown voice, a full disk), a bug of the plug-in as ``PluginError``.
    """
    failure = Failure("tts_error")
    for _ in range(1 + retries):
        try:
            audio = resample(engine.speak(request.spoken_text, request.voice), SAMPLE_RATE_HZ)
        except AudioError as cause:
            failure = Failure("tts_error", str(cause))
            continue
        except SaladError:
            raise
        except Exception as cause:  # a bug in the plug-in: the same end of the run in this process and in a worker
            raise PluginError(
                f"the TTS plug-in failed on {request.spoken_text!r:.80} in voice {request.voice!r}: "
                f"{type(cause).__name__}: {cause}"
            ) from cause
        found = problem(audio, request.spoken_text)
        if found is None:
            return store.put_sound(perturbation(request.perturbation)(audio))
        failure = Failure(found, f"{audio.seconds:.2f} s for {request.spoken_text!r:.80} in voice {request.voice!r}")
    return failure


# --- the worker's side -----------------------------------------------------------------------------------------------


def main() -> None:
    """Answer chunks of requests from standard input until it ends. Each answer is one line of JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it then closes our input
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # from here on a print, by Python or by a library, lands in the error stream
    questions = sys.stdin.buffer
    try:
        setup = json.loads(questions.readline())
        engine = plugins.create("salad.tts", setup["tts"], setup["tts_options"])
        store = AudioStore(setup["store_root"])
        _answer(answers, {"fingerprint": engine.fingerprint()})
        for line in questions:
            requests = [SpeechRequest(**fields) for fields in json.loads(line)]
            _answer(answers, {"outcomes": [_packed(synthesise(engine, store, r, setup["retries"])) for r in requests]})
    except SaladError as cause:
        _answer(answers, {"error": str(cause), "exit_code": cause.exit_code})


def _answer(out: BinaryIO, message: Mapping[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")


def _packed(outcome: StoredSound | Failure) -> records.Json:
    kind = "sound" if isinstance(outcome, StoredSound) else "failure"
    return {kind: records.to_json(outcome)}


# --- the parent's side -----------------------------------------------------------------------------------------------


class Worker:
    """A worker process, seen from the parent. One caller at a time."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        environment = {**_WORKER_ENVIRONMENT, **os.environ, **_ONE_THREAD}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        self._setup = setup

    def start(self) -> str:
        """Wait until the engine is loaded and return its fingerprint. Raises as ``ask`` does."""
        self._send(sys.path)
        self._send(records.to_json(self._setup))
        return str(self._receive()["fingerprint"])

    def ask(self, requests: Sequence[SpeechRequest]) -> list[StoredSound | Failure]:
        """The outcome of each request. Raises ``WorkerDied``, or the ``SaladError`` that the engine raised."""
        self._send([records.to_json(request) for request in requests])
        outcomes = self._receive()["outcomes"]
        return [StoredSound(**o["sound"]) if "sound" in o else Failure(**o["failure"]) for o in outcomes]

    def kill(self) -> None:
        """End the process now. A worker that stands idle is ended as well by the end of its input."""
        self._process.kill()

    def close(self) -> None:
        """End the process and free what belongs to it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # a broken pipe: what was left in it is lost with the process
                    stream.close()
        self._errors.close()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerDied(self._last_words()) from None

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        alarm = threading.Timer(CHUNK_SECONDS, self._process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            line = self._process.stdout.readline()
        finally:
            alarm.cancel()
        if not line.endswith(b"\n"):
            raise WorkerDied(self._last_words())
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            kind = UserInputError if message["exit_code"] == UserInputError.exit_code else SaladError
            raise kind(message["error"])
        return message

    def _last_words(self) -> str:
        """How the process ended and the last line of its error stream."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"worker process ended with {how}" + (f": {lines[-1]}" if lines else "")
