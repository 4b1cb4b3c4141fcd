"""A process that works on the chunks of one step after the other, and its handle in the parent.

A worker is a plain subprocess that speaks JSON lines, not a ``multiprocessing`` child: it does not run the caller's main module again
(so a script needs no ``if __name__ == "__main__"``), it inherits no threads, and it ends with its parent because its input ends. What
a plug-in prints goes to its error stream and never into the answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from salad_eval import records
from salad_eval.errors import SaladError, UserInputError
from salad_eval.pipeline.allocator import keep_freed_memory
from salad_eval.pipeline.deadline import START_SECONDS
from salad_eval.pipeline.tools import Ref, Tools

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.stdin.buffer.readline())
from salad_eval.pipeline.worker import main
main()
"""


class WorkerDied(Exception):
    """The process ended, or was ended for being stuck, before it answered; the text says how."""


# --- the worker's side -----------------------------------------------------------------------------------------------


def main() -> None:
    """Answer chunks of units from standard input until it ends, each by the work that was announced before it: the name of a function
    and, on a line of its own, its setup. Each answer is one line of JSON."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it then closes our input
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # from here on a print, by Python or by a library, lands in the error stream
    questions = sys.stdin.buffer
    try:
        tools = Tools()
        for line in questions:
            if line.startswith(b'"'):
                function = function_named(json.loads(line))
                setup_class, unit_class, _ = classes_of(function)
                setup = records.loads(setup_class, questions.readline(), "what a worker needs to know")
                tools.keep(refs_in(setup))
                _answer(answers, [])
            else:
                _answer(answers, function(tools, setup, records.loads_list(unit_class, line)))
    except SaladError as cause:
        _answer(answers, {"error": str(cause), "exit_code": cause.exit_code})


def classes_of(function: Callable[..., Any]) -> tuple[type[Any], type[Any], type[Any]]:
    """The classes of setup, units and results that a step's function states: ``f(tools, setup: S, chunk: Sequence[U]) -> list[R]``."""
    hints = typing.get_type_hints(function)
    _, setup, chunk, results = hints.values()
    return setup, typing.get_args(chunk)[0], typing.get_args(results)[0]


def name_of(function: Callable[..., Any]) -> str:
    """``module:name``, by which another process finds it."""
    return f"{function.__module__}:{function.__qualname__}"


def function_named(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def refs_in(setup: object) -> list[Ref[Any]]:
    """What a setup names to be opened, or is."""
    parts = [setup, *(getattr(setup, field.name) for field in dataclasses.fields(setup))]  # type: ignore[arg-type]
    return [part for part in parts if isinstance(part, Ref)]


def _answer(out: BinaryIO, message: object) -> None:
    out.write(records.dumps(message).encode() + b"\n")


# --- the parent's side -----------------------------------------------------------------------------------------------


class Worker:
    """A worker process, seen from the parent. One caller at a time.

    ``threads``: of its numerical libraries. Workers are the parallelism, so that more than one each mostly get in the way.
    """

    def __init__(self, threads: int = 1) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **dict.fromkeys(_THREADS, str(threads))},
        )
        self._closing = threading.Lock()
        self._path_known = False

    def take_up(self, function: Callable[..., list[Any]], setup: object) -> None:
        """Wait until the process is ready for this work; of what it has opened it keeps what the work needs. Raises as ``ask`` does."""
        self._result_class = classes_of(function)[2]
        if not self._path_known:
            self._send(sys.path)
            self._path_known = True
        self._send(name_of(function))
        self._send(setup)
        self._receive(START_SECONDS)

    def ask(self, chunk: Sequence[object], seconds: float = START_SECONDS) -> list[Any]:
        """The results of a chunk. Raises ``WorkerDied``, or the ``SaladError`` that was raised over there; a process that has not
        answered after so many ``seconds`` is ended."""
        self._send(list(chunk))
        return self._receive(seconds)

    def close(self) -> None:
        """End the process and free what belongs to it. Whoever waits for an answer hears that it died."""
        self._process.kill()
        self._process.wait()
        with self._closing:
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError, ValueError):  # a broken pipe: what was left in it is lost
                        stream.close()
            self._errors.close()

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(records.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # ValueError: closed
            raise WorkerDied(self._last_words()) from None

    def _receive(self, seconds: float) -> list[Any]:
        assert self._process.stdout is not None
        alarm = threading.Timer(seconds, self._process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            line = self._process.stdout.readline()
        except ValueError:  # closed
            line = b""
        finally:
            alarm.cancel()
        if not line.endswith(b"\n"):
            raise WorkerDied(self._last_words())
        if line.startswith(b"{"):
            message: Mapping[str, Any] = json.loads(line)
            kind = UserInputError if message["exit_code"] == UserInputError.exit_code else SaladError
            raise kind(message["error"])
        return records.loads_list(self._result_class, line)

    def _last_words(self) -> str:
        """How the process ended and the last line of its error stream."""
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        with self._closing:
            if self._errors.closed:
                return f"worker process ended with {how}"
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"worker process ended with {how}" + (f": {lines[-1]}" if lines else "")
