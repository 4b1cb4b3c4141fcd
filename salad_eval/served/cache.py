"""Answers that were paid for, in one SQLite file: a run that is killed, or asks more items, asks no request twice."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from salad_eval.errors import UserInputError


class AnswerCache:
    """Replies by a digest of address and request; each is on the disk before it is used. Threads and processes may share the file.

    Raises ``UserInputError`` where the file cannot be opened or is something else.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (request TEXT PRIMARY KEY, reply TEXT NOT NULL)"
            )
            self._connection.execute("SELECT request, reply FROM answers LIMIT 1")
        except (OSError, sqlite3.Error) as cause:
            raise UserInputError(
                f"cache is {path!r}, which cannot be used: {cause}. Give a file that is not there yet, or one made by this option."
            ) from None

    def get(self, request: str) -> Any | None:
        """The reply to a request, or ``None`` where there is none."""
        with self._lock:
            row = self._connection.execute("SELECT reply FROM answers WHERE request = ?", (request,)).fetchone()
        return None if row is None else json.loads(row[0])

    @contextmanager
    def asking(self, request: str) -> Iterator[None]:
        """Within, nobody else asks this request, of all threads and processes that share the file; look again whether it was answered.

        A file beside the cache is locked, and let go by the system where its holder is killed. Without such locks (on Windows)
        requests under way at once are each asked.
        """
        try:
            import fcntl
        except ImportError:
            yield
            return
        path = self.path.with_name(f"{self.path.name}.{request}.asking")
        while True:
            with path.open("ab") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                if not _is(path, held.fileno()):  # whoever held it was done, and took the file away
                    continue
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return

    def put(self, request: str, reply: Any) -> None:
        with self._lock:
            self._connection.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)", (request, json.dumps(reply, ensure_ascii=False))
            )


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
