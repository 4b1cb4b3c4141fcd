"""Answers that were paid for, in one SQLite file: a run that is killed, or asks more items, asks no request twice."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from salad_eval.errors import UserInputError
from salad_eval.records import parse_json

logger = logging.getLogger(__name__)

_PASSES = (
    "locked",
    "full",
    "readonly",
)  # words of SQLite's that tell of the disk or of others who write, not of damage


class AnswerCache:
    """Replies by a digest of address and request; each is on the disk before it is used. Threads and processes may share the file.

    A file that is damaged while it is in use is set aside, and made anew of what can still be read of it; a warning says so. Raises
    ``UserInputError`` where the file cannot be opened or written, or is something else.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        try:
            self._open()
        except (OSError, sqlite3.Error) as cause:
            raise UserInputError(
                f"cache is {path!r}, which cannot be used: {cause}. Give a file that is not there yet, or one made by this option."
            ) from None

    def get(self, request: str) -> Any | None:
        """The reply to a request, or ``None`` where there is none, or none that can be read."""
        found = self._run("SELECT reply FROM answers WHERE request = ?", request)
        return _reply(found[0][0]) if found else None

    def put(self, request: str, reply: Any) -> None:
        """Keep a reply."""
        self._run("INSERT OR REPLACE INTO answers VALUES (?, ?)", request, json.dumps(reply, ensure_ascii=False))

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

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False, isolation_level=None)
        self._connection.execute("CREATE TABLE IF NOT EXISTS answers (request TEXT PRIMARY KEY, reply TEXT NOT NULL)")
        self._connection.execute("SELECT request, reply FROM answers LIMIT 1")
        self._opened = self.path.stat()

    def _run(self, statement: str, *values: str) -> list[Any]:
        with self._lock:
            try:
                if not self._is_there():  # another run set it aside, or somebody removed it
                    self._connection.close()
                    self._open()
                return self._connection.execute(statement, values).fetchall()
            except (OSError, sqlite3.Error) as cause:
                damage = cause
            try:
                if isinstance(damage, OSError) or any(word in str(damage) for word in _PASSES):
                    raise damage
                self._make_anew(damage)
                return self._connection.execute(statement, values).fetchall()
            except (OSError, sqlite3.Error) as cause:
                raise UserInputError(
                    f"cache is {str(self.path)!r}, which cannot be used any more: {cause}. Mend that and run again: what it holds is not "
                    "asked again. Or give another file."
                ) from None

    def _is_there(self) -> bool:
        return self.path.exists() and os.path.samestat(self.path.stat(), self._opened)

    def _make_anew(self, damage: sqlite3.Error) -> None:
        """Set the damaged file aside, unless another run just did, and keep what can be read of it."""
        with self.asking("anew"):
            self._connection.close()
            if not self._is_there():
                self._open()
                return
            aside = next(
                place
                for n in itertools.count(1)
                if not (place := self.path.with_name(f"{self.path.name}.damaged-{n}")).exists()
            )
            for suffix in ("", "-journal"):  # without its journal a file cannot be rolled back
                if (part := Path(f"{self.path}{suffix}")).exists():
                    part.rename(f"{aside}{suffix}")
            self._open()
            kept = _readable(aside)
            self._connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", kept.items())
        logger.warning(
            "The cache %s was damaged (%s). It is set aside as %s and made anew: %d of its answers could be read; the others are "
            "asked again.",
            self.path, damage, aside.name, len(kept),
        )  # fmt: skip


def _readable(file: Path) -> dict[str, str]:
    """What can be read of a damaged file: from its beginning and from its end, as far as that goes."""
    found: dict[str, str] = {}
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(file)) as connection:
            connection.text_factory = lambda value: value.decode("utf-8", "replace")
            for request, reply in connection.execute(f"SELECT request, reply FROM answers ORDER BY rowid {order}"):
                if isinstance(request, str) and _reply(reply) is not None:
                    found[request] = reply
    return found


def _reply(text: object) -> Any | None:
    """The reply that was kept as that text; ``None`` for what is no JSON any more."""
    try:
        return parse_json(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
