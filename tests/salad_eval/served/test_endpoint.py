"""Requests to an endpoint: what is retried and how long, what is refused and how it is said, and that the key stays where it is."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salad_eval.errors import UserInputError
from salad_eval.served.cache import AnswerCache
from salad_eval.served.endpoint import (
    MAX_BACKOFF_S,
    OPENAI_URL,
    Endpoint,
    EndpointError,
    EndpointSettings,
    Pacer,
    Usage,
    backoff_seconds,
    public,
    read_base_url,
    read_key,
    retry_after_seconds,
)
from tests.helpers.served_world import Answer, Call, Server, failed, html, in_turn, ok, serving

KEY = "sk-secret-0123456789"


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(lambda call: ok({"said": "yes"})) as running:
        yield running


def post(asked: Endpoint, body: dict[str, Any] | None = None, path: str = "/x") -> Any:
    return asked.post(path, body or {}, lambda reply: reply)


def endpoint(server: Server, clock: Clock | None = None, **options: Any) -> Endpoint:
    time = clock or Clock()
    settings = EndpointSettings(model="m", base_url=server.url, **{"timeout_s": 5.0, **options})
    return Endpoint(settings, clock=time, sleep=time.sleep)


# --- what is stated --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        ("https://h.example/openai?api-version=3&sig=abc#x", "https://h.example/openai"),
        ("https://[::1]:8000/v1", "https://[::1]:8000/v1"),
    ],
)
def test_an_address_is_shown_without_its_query(text: str, shown: str) -> None:
    assert public(read_base_url(text)) == shown


@pytest.mark.parametrize(
    "text", ["localhost:8000/v1", "ftp://h/v1", "http://", "", "http://h:port/v1", "http://[::1/v1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UserInputError, match="base_url is"):
        read_base_url(text)


@pytest.mark.parametrize("text", ["https://me:hunter2@h/v1", "https://hunter2@h/v1"])
def test_a_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UserInputError, match="user name or password") as caught:
        read_base_url(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "url", "environment", "key"),
    [
        (None, OPENAI_URL, {"OPENAI_API_KEY": "k"}, "k"),
        (None, OPENAI_URL, {"OPENAI_API_KEY": " k\n"}, "k"),
        (None, OPENAI_URL, {}, None),
        (None, "http://localhost:1/v1", {"OPENAI_API_KEY": "k"}, "k"),
        (None, "http://127.0.0.9:1/v1", {"OPENAI_API_KEY": "k"}, "k"),
        (None, "http://[::1]:1/v1", {"OPENAI_API_KEY": "k"}, "k"),
        (None, "http://gpu7:1/v1", {"OPENAI_API_KEY": "k"}, None),  # nobody asked for it to go out in clear
        ("MY_KEY", "http://gpu7:1/v1", {"OPENAI_API_KEY": "k", "MY_KEY": "mine"}, "mine"),
        (None, "http://gpu7:1/v1", {"OPENAI_API_KEY": "k\nl"}, None),
    ],
)
def test_which_key_is_sent(variable: str | None, url: str, environment: dict[str, str], key: str | None) -> None:
    assert read_key(variable, read_base_url(url), environment) == key


@pytest.mark.parametrize(("value", "why"), [("", "not set"), ("a\nb", "characters")])
def test_a_named_variable_has_to_hold_a_key(value: str, why: str) -> None:
    with pytest.raises(UserInputError, match=f"'MY_KEY'.*{why}"):
        read_key("MY_KEY", read_base_url(OPENAI_URL), {"MY_KEY": value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency is 0"),
        ({"requests_per_minute": 0}, "requests_per_minute is 0"),
        ({"timeout_s": -1.0}, "timeout_s is -1.0"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"concurency": 3}, "unknown key 'concurency'; did you mean 'concurrency'"),
        ({"api_key": KEY}, "unknown key 'api_key'; did you mean 'api_key_env'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserInputError, match=message) as caught:
        Endpoint.of("openai-text", {"model": "m", **options})
    assert KEY not in str(caught.value)


def test_the_base_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Endpoint.of("x", {"model": "m"}).address == OPENAI_URL
    monkeypatch.setenv("OPENAI_BASE_URL", "http://h:1/v1")
    assert Endpoint.of("x", {"model": "m"}).address == "http://h:1/v1"
    assert Endpoint.of("x", {"model": "m", "base_url": "http://mine:1/v1"}).address == "http://mine:1/v1"


def test_identity_holds_what_decides_answers_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    base = {"model": "m", "base_url": "https://h/v1?sig=abc"}
    assert Endpoint.of("x", base).identity() == "m@https://h/v1"
    assert Endpoint.of("x", {**base, "concurrency": 2, "timeout_s": 1.0}).identity() == "m@https://h/v1"
    told = Endpoint.of("x", {**base, "revision": "abc123", "extra": {"top_p": 1}})
    assert told.identity() == 'm@https://h/v1,revision=abc123,extra={"top_p": 1}'
    assert KEY not in repr(told) + repr(vars(told)["_auth"])


# --- waiting ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.floats(0, 10), st.integers(0, 5), st.text(max_size=5))
def test_backoff_doubles_within_half_and_is_a_function_of_its_arguments(
    n: int, first: float, seed: int, label: str
) -> None:
    full = min(MAX_BACKOFF_S, first * 2.0 ** (n - 1))
    found = backoff_seconds(n, first, seed=seed, label=label)
    assert full / 2 <= found <= full
    assert found == backoff_seconds(n, first, seed=seed, label=label)


def test_jitter_differs_between_requests() -> None:
    assert len({backoff_seconds(1, 1.0, seed=0, label=str(k)) for k in range(20)}) == 20


NOW = datetime(2025, 5, 5, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("7", 7.0),
        (" 1.5 ", 1.5),
        (format_datetime(NOW.replace(second=30), usegmt=True), 30.0),
        (format_datetime(NOW.replace(year=2020), usegmt=True), 0.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW.timestamp()) == seconds


def test_the_pacer_spaces_requests() -> None:
    clock = Clock()
    pacer = Pacer(120, clock, clock.sleep)
    starts = []
    for _ in range(4):
        pacer.wait()
        starts.append(clock.now)
    assert starts == [1000.0, 1000.5, 1001.0, 1001.5]
    clock.now += 60  # a pause is not made up for by a burst
    pacer.wait()
    pacer.wait()
    assert clock.now == 1062.0


# --- retries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_what_passes_is_retried(server: Server, status: int) -> None:
    server.behave = in_turn(failed(status), failed(status), ok({"said": "yes"}))
    clock = Clock()
    asked = endpoint(server, clock)
    assert post(asked, {"a": 1}) == {"said": "yes"}
    assert [call.path for call in server.calls] == ["/v1/x"] * 3
    assert len(clock.slept) == 2
    assert 0.5 <= clock.slept[0] <= 1.0 <= clock.slept[1] <= 2.0
    assert asked.usage == Usage(requests=1, retries=2)


def test_retry_after_is_kept_to(server: Server) -> None:
    server.behave = in_turn(failed(429, **{"Retry-After": "17"}), ok({}))
    clock = Clock()
    post(endpoint(server, clock), {})
    assert clock.slept == [17.0]


def test_a_wait_beyond_the_total_timeout_is_not_begun(server: Server) -> None:
    server.behave = in_turn(failed(429, **{"Retry-After": "3600"}), ok({}))
    clock = Clock()
    with pytest.raises(EndpointError, match="answered 429, too many requests"):
        post(endpoint(server, clock), {})
    assert clock.slept == []
    assert len(server.calls) == 1


def test_attempts_end(server: Server) -> None:
    server.behave = in_turn(failed(503, {"detail": "loading"}))
    clock = Clock()
    with pytest.raises(
        EndpointError, match=r"answered 503, the server failed or is overloaded \(loading\)\. Tried 4 times\."
    ) as e:
        post(endpoint(server, clock, max_attempts=4), {})
    assert len(server.calls) == 4
    assert len(clock.slept) == 3
    assert e.value.status == 503


def test_a_reply_cut_short_is_asked_for_again(server: Server) -> None:
    server.behave = in_turn(Answer(body=b'{"said": "y', missing=9), Answer(body=b'{"said": "y'), ok({"said": "yes"}))
    assert post(endpoint(server), {}) == {"said": "yes"}
    assert len(server.calls) == 3


def test_a_server_that_goes_away_is_waited_for_once_it_has_answered(server: Server) -> None:
    clock = Clock()
    asked = endpoint(server, clock, max_attempts=3)
    post(asked, {})
    server.stop()
    asked._session().close()
    with pytest.raises(EndpointError, match=r"cannot be reached: connection refused\. Tried 3 times"):
        post(asked, {})
    assert len(clock.slept) == 2


FAULTS = {
    "timeout": (Answer(hang=True), {"timeout_s": 0.2}, r"did not answer within 0.2 s \(timeout_s\)"),
    "rate limit": (failed(429), {}, "answered 429, too many requests"),
    "server error": (failed(500), {}, r"answered 500, the server failed or is overloaded \(no\)"),
    "unavailable": (html(503), {}, r"answered 503.*\(Hi It works!\)"),
    "truncated": (Answer(body=b'{"choices": [', missing=50), {}, "broke off in the middle of its reply"),
    "truncated JSON": (Answer(body=b'{"choices": ['), {}, r"answered what is not JSON: '\{\"choices\": \['"),
    "empty": (Answer(body=b""), {}, "answered what is not JSON: ''"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_clear_error_after_retries(server: Server, name: str) -> None:
    server.behave, options, message = (lambda call: FAULTS[name][0]), *FAULTS[name][1:]
    with pytest.raises(EndpointError, match=message + r".*Tried 2 times\.$") as caught:
        post(endpoint(server, max_attempts=2, **options), {})
    assert server.url in str(caught.value)
    assert len(server.calls) == 2


REFUSALS: dict[str, tuple[Answer, str]] = {
    "web page": (html(), "answered with a web page instead of JSON. Is base_url right"),
    "no key": (failed(401), "answered 401, it wants a key: set the environment variable OPENAI_API_KEY"),
    "forbidden": (failed(403), "answered 403, it forbids this"),
    "unknown model": (
        failed(404, {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}),
        r"answered 404, it does not know the path or the model 'm'.*\(The model `m` does not exist; model_not_found\)",
    ),
    "bad field": (failed(422, {"detail": "Unexpected fields: {'x'}"}), r"answered 422 \(Unexpected fields: \{'x'\}\)"),
    "too large": (failed(413), "answered 413, the request is too large"),
    "redirect": (failed(307, {}, Location="http://elsewhere/?k=1"), "answered 307, a redirect, which is not followed"),
    "no money": (
        failed(429, {"error": {"message": "Pay.", "code": "insufficient_quota"}}),
        "429.*Pay.; insufficient_quota",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_pass_is_not_retried(server: Server, name: str) -> None:
    answer, message = REFUSALS[name]
    server.behave = lambda call: answer
    clock = Clock()
    with pytest.raises(EndpointError, match=message) as caught:
        post(endpoint(server, clock), {})
    assert len(server.calls) == 1
    assert clock.slept == []
    assert "elsewhere" not in str(caught.value)


def test_where_nothing_listens_nobody_waits(server: Server) -> None:
    server.stop()
    clock = Clock()
    with pytest.raises(
        EndpointError, match=r"cannot be reached: connection refused\. Is the server running, and is base_url right\?"
    ):
        post(endpoint(server, clock), {})
    assert clock.slept == []


def test_a_secret_in_a_query_is_in_no_message(server: Server) -> None:
    """An https address of a server that speaks http: the library's message holds the whole URL."""
    url = server.url.replace("http:", "https:") + "?sig=topsecret"
    asked = Endpoint(EndpointSettings(model="m", base_url=url))
    with pytest.raises(EndpointError, match=r"cannot be spoken to over https: .*wrong version number") as caught:
        post(asked)
    server.stop()
    with pytest.raises(EndpointError, match="cannot be reached: connection refused") as later:
        post(asked)
    assert "topsecret" not in f"{caught.value} {later.value}"


# --- the key ---------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_said_nowhere_even_if_the_server_says_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server.behave = lambda call: failed(401, {"error": {"message": f"Incorrect key {KEY}\x1b[31m"}})
    asked = endpoint(server, api_key_env="MY_KEY")
    with pytest.raises(EndpointError, match=r"the key in MY_KEY was refused \(Incorrect key \*\*\* \[31m\)") as caught:
        post(asked, {})
    assert server.calls[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(caught.value) + repr(asked) + asked.identity()


def test_no_key_no_header_and_no_netrc(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    post(endpoint(server), {})
    assert "Authorization" not in server.calls[0].headers


def test_extra_fields_are_added_and_taken_out(server: Server) -> None:
    asked = endpoint(server, extra={"top_k": 1, "temperature": None})
    post(asked, {"model": "m", "temperature": 0.0})
    assert server.calls[0].json == {"model": "m", "top_k": 1}


def test_the_query_of_the_base_url_is_kept(server: Server) -> None:
    post(Endpoint(EndpointSettings(model="m", base_url=server.url + "?api-version=7")))
    assert server.calls[0].path == "/v1/x?api-version=7"


# --- many ------------------------------------------------------------------------------------------------------------


def _echo(call: Call) -> Answer:
    return ok({"n": call.json["n"]})


def test_answers_keep_their_order_whatever_comes_first(server: Server) -> None:
    last = threading.Event()

    def behave(call: Call) -> Answer:
        if call.json["n"] == 0:
            last.wait(5)  # the first one is answered after the last one
        if call.json["n"] == 19:
            last.set()
        return _echo(call)

    server.behave = behave
    asked = endpoint(server, concurrency=4)
    assert asked.map(lambda n: post(asked, {"n": n})["n"], range(20)) == list(range(20))
    assert 2 <= server.most_at_once <= 4
    assert asked.usage.requests == 20


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_at_a_time_than_allowed(server: Server, concurrency: int) -> None:
    asked = endpoint(server, concurrency=concurrency)
    server.behave = _echo
    asked.map(lambda n: post(asked, {"n": n}), range(12))
    assert server.most_at_once <= concurrency


def test_a_rate_limit_holds_over_threads(server: Server) -> None:
    clock = Clock()
    asked = endpoint(server, clock, concurrency=4, requests_per_minute=60.0)
    asked.map(lambda n: post(asked, {}), range(6))
    assert sum(clock.slept) >= 5.0  # six requests are five seconds apart, whoever waits them


def test_the_first_failure_stops_the_rest(server: Server) -> None:
    server.behave = lambda call: failed(400, {"detail": "bad"}) if call.json["n"] == 3 else _echo(call)
    asked = endpoint(server, concurrency=2)
    with pytest.raises(EndpointError, match=r"answered 400 \(bad\)"):
        asked.map(lambda n: post(asked, {"n": n}), range(200))
    assert len(server.calls) < 200
    server.behave = _echo  # and the next batch is asked as if nothing had been
    assert len(asked.map(lambda n: post(asked, {"n": n}), range(5))) == 5


def test_a_failure_ends_the_waiting_of_the_others(server: Server) -> None:
    """With the real clock: one request would wait a minute for its retry, and another one fails for good."""
    busy = threading.Event()

    def behave(call: Call) -> Answer:
        if call.json["n"] == 0:
            busy.set()
            return failed(429, **{"Retry-After": "60"})
        busy.wait(5)
        return failed(400, {"detail": "bad"})

    server.behave = behave
    asked = Endpoint(EndpointSettings(model="m", base_url=server.url, concurrency=2))
    ask: Callable[[int], Any] = lambda n: post(asked, {"n": n})  # noqa: E731
    with pytest.raises(EndpointError, match="answered 400"):
        asked.map(ask, range(2))


def test_usage_is_said_when_the_endpoint_goes(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    asked = endpoint(server)
    post(asked, {})
    asked.meter.add(prompt_tokens=1200, completion_tokens=30, audio_seconds=90.0)
    del asked
    said = capsys.readouterr().err
    assert said == f"m at {server.url}: 1 request, 1,200 prompt tokens, 30 completion tokens, 1.5 minutes of audio.\n"


# --- the cache -------------------------------------------------------------------------------------------------------


def test_an_answer_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    server.behave = lambda call: ok({"n": call.json["n"], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    options = {"cache": str(tmp_path / "new" / "answers.sqlite")}
    first = endpoint(server, **options)
    assert [post(first, {"n": n})["n"] for n in (1, 2)] == [1, 2]
    again = endpoint(server, **options)
    assert again.map(lambda n: post(again, {"n": n})["n"], range(4)) == [0, 1, 2, 3]
    assert sorted(call.json["n"] for call in server.calls) == [0, 1, 2, 3]
    assert again.usage == Usage(requests=2, cached=2, prompt_tokens=6, completion_tokens=4)


def test_two_runs_at_once_pay_a_question_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second looks for an answer while the first is still waiting for it."""
    asked_first, looked, answers = threading.Event(), threading.Event(), []

    def behave(call: Call) -> Answer:
        asked_first.set()
        assert looked.wait(10)
        return ok({"n": 7})

    server.behave = behave
    runs = [endpoint(server, cache=str(tmp_path / "answers.sqlite")) for _ in range(2)]
    threads = [threading.Thread(target=lambda run=run: answers.append(post(run))) for run in runs]
    threads[0].start()
    assert asked_first.wait(10)
    cache = runs[1]._cache
    assert cache is not None
    monkeypatch.setattr(cache, "asking", lambda label, own=cache.asking: (looked.set(), own(label))[1])
    threads[1].start()
    for thread in threads:
        thread.join(10)
    assert answers == [{"n": 7}, {"n": 7}]
    assert len(server.calls) == 1
    assert [run.usage.cached for run in runs] == [0, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["answers.sqlite"]


def test_a_run_that_failed_or_was_killed_leaves_the_question_to_others(server: Server, tmp_path: Path) -> None:
    server.behave = in_turn(failed(400), ok({"n": 1}), ok({"n": 2}))
    cache = tmp_path / "answers.sqlite"
    with pytest.raises(EndpointError):
        post(endpoint(server, cache=str(cache)))
    assert post(endpoint(server, cache=str(cache))) == {"n": 1}
    left = AnswerCache(str(cache))
    with left.asking("0" * 32):
        (tmp_path / f"answers.sqlite.{'1' * 32}.asking").touch()  # what a killed run leaves
    with left.asking("1" * 32):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["answers.sqlite"]


def test_another_request_model_path_or_revision_is_another_answer(server: Server, tmp_path: Path) -> None:
    cache = str(tmp_path / "answers.sqlite")
    for options, path in (({}, "/x"), ({"revision": "2"}, "/x"), ({"extra": {"top_k": 1}}, "/x"), ({}, "/y")):
        asked = endpoint(server, cache=cache, **options)
        post(asked, {"n": 1}, path)
        post(asked, {"n": 1}, path)
        asked.post(path, {"n": 1}, lambda reply: reply, wav=b"sound")
    assert len(server.calls) == 8


def test_what_could_not_be_read_is_not_kept(server: Server, tmp_path: Path) -> None:
    asked = endpoint(server, cache=str(tmp_path / "answers.sqlite"))

    def read(reply: Any) -> Any:
        raise EndpointError("not this")

    with pytest.raises(EndpointError, match="not this"):
        asked.post("/x", {}, read)
    post(asked)
    assert len(server.calls) == 2


def test_a_file_that_is_no_cache_is_refused(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("my notes, which are long enough to be looked at\n" * 20)
    with pytest.raises(UserInputError, match=r"cache is .*notes\.txt.*not a database"):
        endpoint(server, cache=str(file))
    with pytest.raises(UserInputError, match="cache is"):
        endpoint(server, cache=str(file / "below"))
    assert file.read_text().startswith("my notes")


DAMAGE: dict[str, Callable[[Path, bytes], object]] = {
    "cut in half": lambda file, held: os.truncate(file, len(held) // 2),
    "cut in a page": lambda file, held: os.truncate(file, 4096 + 100),
    "empty": lambda file, held: os.truncate(file, 0),
    "overwritten": lambda file, held: file.write_bytes(b"x" * len(held)),
    "a page of zeros": lambda file, held: file.write_bytes(held[:8192] + bytes(8192) + held[16384:]),
    "removed": lambda file, held: file.unlink(),
}


_SAID = "word " * 40


def _fill(cache: AnswerCache, n: int) -> None:
    """In one transaction, which is quicker than ``n`` of them."""
    rows = [(f"{k:032}", json.dumps([k, _SAID])) for k in range(n)]
    with cache._connection:
        cache._connection.execute("BEGIN")
        cache._connection.executemany("INSERT INTO answers VALUES (?, ?)", rows)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_cache_damaged_while_it_is_used_is_made_anew(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No error of SQLite's gets out, what is still there is right, and what is answered after the damage is kept, of both who share it."""
    file = tmp_path / "answers.sqlite"
    run, other = AnswerCache(str(file)), AnswerCache(str(file))
    _fill(run, 200)
    DAMAGE[damage](file, file.read_bytes())
    for cache in (run, other):
        assert all(cache.get(f"{n:032}") in (None, [n, _SAID]) for n in range(200))
        cache.put(f"{id(cache):032}", "after")
    for cache in (run, other, AnswerCache(str(file))):
        assert [cache.get(f"{id(one):032}") for one in (run, other)] == ["after", "after"]
    aside = [one.name for one in tmp_path.iterdir() if one.name != "answers.sqlite"]
    assert aside == ([] if damage == "removed" else ["answers.sqlite.damaged-1"])
    assert ("was damaged" in caplog.text) == bool(aside)


@pytest.mark.parametrize("place", [5, 9, 12, 20])
def test_most_of_a_damaged_cache_is_kept(place: int, tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    run, other = AnswerCache(str(file)), AnswerCache(str(file))
    _fill(run, 400)
    held = file.read_bytes()
    assert len(held) > 30 * 4096
    file.write_bytes(held[: place * 4096] + bytes(4096) + held[(place + 1) * 4096 :])
    found = [other.get(f"{n:032}") for n in range(400)]
    assert all(reply in (None, [n, _SAID]) for n, reply in enumerate(found))
    assert found.count(None) < 40


def test_a_run_goes_on_where_its_cache_is_cut(server: Server, tmp_path: Path) -> None:
    server.behave = lambda call: ok({"n": call.json["n"]})
    file = tmp_path / "answers.sqlite"
    run = endpoint(server, cache=str(file))
    assert [post(run, {"n": n})["n"] for n in range(3)] == [0, 1, 2]
    os.truncate(file, 5000)
    assert [post(run, {"n": n})["n"] for n in range(5)] == [0, 1, 2, 3, 4]
    assert post(endpoint(server, cache=str(file)), {"n": 4})["n"] == 4
    assert 5 <= len(server.calls) <= 8


def test_a_reply_whose_bytes_were_changed_is_asked_again(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    run = endpoint(server, cache=str(file))
    post(run, {"n": 1})
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE answers SET reply = substr(reply, 2)")
    assert post(run, {"n": 1}) == post(run, {"n": 1})
    assert len(server.calls) == 2


def test_a_cache_that_cannot_be_written_any_more_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = AnswerCache(str(tmp_path / "answers.sqlite"))
    cache._connection.execute("PRAGMA query_only = 1")  # SQLite then says that the database is readonly
    with pytest.raises(
        UserInputError, match=r"answers\.sqlite.*cannot be used any more: attempt to write a readonly database"
    ):
        cache.put("1", {})
    assert [file.name for file in tmp_path.iterdir()] == ["answers.sqlite"]


def test_the_key_is_in_no_cache(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    post(endpoint(server, cache=str(tmp_path / "answers.sqlite")))
    assert server.calls[0].headers["Authorization"] == f"Bearer {KEY}"
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.iterdir())
