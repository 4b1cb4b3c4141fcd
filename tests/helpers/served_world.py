"""A real HTTP server on 127.0.0.1 that answers as a test says, and replies in OpenAI's form."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Call:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """``missing``: bytes that are promised and never sent. ``hang``: no answer before the server goes."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    missing: int = 0
    hang: bool = False


def ok(table: object) -> Answer:
    return Answer(body=json.dumps(table).encode())


def failed(status: int, table: object = None, **headers: str) -> Answer:
    body = json.dumps(table if table is not None else {"error": {"message": "no"}}).encode()
    return Answer(status, body, {"Content-Type": "application/json", **headers})


def html(status: int = 200) -> Answer:
    return Answer(
        status, b"<html><head><title>Hi</title></head><body>It works!</body></html>", {"Content-Type": "text/html"}
    )


def chat(text: str | None, prompt_tokens: int = 7, **fields: Any) -> dict[str, Any]:
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 2, "total_tokens": prompt_tokens + 2},
        **fields,
    }


def completion(
    text: str,
    tokens: Sequence[str] | None = None,
    logprobs: Sequence[float | None] | None = None,
    prompt_tokens: int = 7,
) -> dict[str, Any]:
    held = None if tokens is None else {"tokens": list(tokens), "token_logprobs": list(logprobs or ())}
    return {
        "object": "text_completion",
        "choices": [{"index": 0, "text": text, "logprobs": held, "finish_reason": "length"}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 1, "total_tokens": prompt_tokens + 1},
    }


class Server:
    """What was asked so far, and the address; ``behave`` may be set anew at any time."""

    def __init__(self, behave: Callable[[Call], Answer]) -> None:
        self.behave = behave
        self.calls: list[Call] = []
        self.closing = threading.Event()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._answer(self)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        call = Call(
            handler.path, dict(handler.headers), handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        )
        with self._lock:
            self.calls.append(call)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = self.behave(call)
        except Exception as fault:  # of the test: said in the error it then fails with
            answer = failed(418, {"error": f"the test's server failed: {fault!r}"})
        finally:
            with self._lock:
                self._at_once -= 1
        if answer.hang:
            self.closing.wait()
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body) + answer.missing))
        handler.end_headers()
        handler.wfile.write(answer.body)
        if answer.missing:
            handler.close_connection = True

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def serving(behave: Callable[[Call], Answer]) -> Iterator[Server]:
    server = Server(behave)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def in_turn(*answers: Answer) -> Callable[[Call], Answer]:
    """One answer after the other; the last one from then on."""
    left = list(answers)
    lock = threading.Lock()

    def behave(_: Call) -> Answer:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return behave
