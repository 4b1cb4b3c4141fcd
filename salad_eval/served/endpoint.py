"""Requests to an OpenAI-compatible endpoint: key, retries, rate limit, concurrency, and errors that say what to do.

The key comes from an environment variable and goes into one header. It is in no message, fingerprint or representation of
an object, also where a server repeats it.

``requests`` sends what is asked here, and not the ``openai`` client: what matters is in fields outside OpenAI's own types
(``echo``, ``prompt_logprobs``), that client takes replies without checking them, and its retries cannot be seeded.
"""

from __future__ import annotations

import email.utils
import hashlib
import ipaddress
import json
import os
import random
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar
from urllib.parse import SplitResult, urlsplit, urlunsplit

import requests
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from salad_eval.errors import ModelError, UserInputError
from salad_eval.records import parse_json
from salad_eval.served.cache import AnswerCache
from salad_eval.types import Tokens
from salad_eval.validation import parse

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
MAX_BACKOFF_S = 60.0
CONNECT_TIMEOUT_S = 10.0
MAX_REPLY_BYTES = 64 << 20  # far above any real reply; an endless one ends here
TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
SPENT = ("insufficient_quota", "billing_hard_limit_reached")  # a 429 that waiting does not cure

T = TypeVar("T")
R = TypeVar("R")


class EndpointError(ModelError):
    """An endpoint cannot be reached, refuses, or answers what cannot be read. ``status`` is its HTTP status, where it gave one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


# --- what the user states --------------------------------------------------------------------------------------------


class EndpointSettings(BaseModel):
    """Where requests go and how patiently; the options that all served plug-ins share.

    ``model``: the name the server knows it by. ``base_url``: up to and with ``/v1``; else the variable ``OPENAI_BASE_URL``, else
    OpenAI. ``api_key_env``: the *name* of the environment variable that holds the key; by default ``OPENAI_API_KEY`` where it is
    set, which is then sent over https or to this machine only. ``revision``: what the server runs, as far as you know it; it is
    only written into the fingerprint, which cannot see the weights. ``concurrency``: requests under way at a time.
    ``timeout_s``: silence that ends an attempt, and the longest one attempt may take in all. ``total_timeout_s``: a request
    with its retries. ``backoff_s``: the first wait before a retry; doubled each time, up to a minute, shortened by at most half
    at random (``seed``). ``extra``: further fields of every request body (``{"chat_template_kwargs": {"enable_thinking": false}}``);
    ``null`` takes a field out. ``cache``: a file that keeps every answer, and from which one that was given before is taken; give
    ``revision`` a new value, or the option another file, when the server runs something else under the same name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
    model: Annotated[str, Field(min_length=1)]
    base_url: str | None = None
    api_key_env: Annotated[str, Field(min_length=1)] | None = None
    revision: str | None = None
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    total_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    max_attempts: Annotated[int, Field(ge=1)] = 6
    backoff_s: Annotated[float, Field(ge=0)] = 1.0
    seed: Annotated[int, Field(ge=0)] = 0
    extra: dict[str, JsonValue] = {}
    cache: Annotated[str, Field(min_length=1)] | None = None


def read_base_url(text: str) -> SplitResult:
    """An http(s) address; ``UserInputError``, which does not repeat it where it holds a password, for anything else."""
    try:
        url = urlsplit(text.strip())
        host, _ = url.hostname, url.port
    except ValueError:
        raise UserInputError(
            "base_url is not a web address. Expected, for example, http://localhost:8000/v1."
        ) from None
    if url.username is not None or url.password is not None:
        raise UserInputError(
            "base_url holds a user name or password, which would be written into the plan and the report. Leave them out, put "
            "the key into an environment variable and name that as api_key_env."
        )
    if url.scheme not in ("http", "https") or not host:
        raise UserInputError(
            f"base_url is {text!r}; expected http:// or https:// and a host, for example http://localhost:8000/v1."
        )
    return url


def public(url: SplitResult) -> str:
    """An address as it may be shown: without user, password, query and fragment."""
    host = url.netloc.rpartition("@")[2]
    return urlunsplit((url.scheme, host, url.path.rstrip("/"), "", ""))


def is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def read_key(variable: str | None, url: SplitResult, environment: Mapping[str, str]) -> str | None:
    """The key to send, or ``None``. A variable that is named has to be there; the default one is sent where nobody listens in."""
    name = variable or KEY_VARIABLE
    key = environment.get(name, "").strip()
    if variable is None and not (url.scheme == "https" or is_loopback(url.hostname)):
        return None
    if variable is not None and not key:
        raise UserInputError(
            f"api_key_env names the environment variable {variable!r}, which is not set (or empty). Set it to the key; the key "
            "itself belongs into no plan."
        )
    if not key.isascii() or not key.isprintable():
        raise UserInputError(
            f"the environment variable {name!r} holds characters that no key has (a line break, perhaps)."
        )
    return key or None


# --- waiting ---------------------------------------------------------------------------------------------------------


def backoff_seconds(attempt: int, first_s: float, *, seed: int, label: str) -> float:
    """The wait after failed attempt 1, 2, …: ``first_s``·2^(attempt−1), at most a minute, times a random factor in [0.5, 1].

    The factor is a function of ``seed``, ``label`` (the request) and ``attempt`` alone, so that threads do not change it.
    """
    full = min(MAX_BACKOFF_S, first_s * 2.0 ** min(attempt - 1, 1000))
    return full * random.Random(f"{seed}:{label}:{attempt}").uniform(0.5, 1.0)


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """A ``Retry-After`` header, in seconds or as a date, in seconds from ``now`` (Unix time); ``None`` where there is none to read."""
    if header is None:
        return None
    if re.fullmatch(r"\d+(?:\.\d+)?", header.strip()):
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


class Pacer:
    """Spaces requests evenly: at most so many a minute, from all threads together."""

    def __init__(self, per_minute: float | None, clock: Callable[[], float], sleep: Callable[[float], object]) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        if not self._interval:
            return
        with self._lock:
            now = self._clock()
            slot = max(now, self._next)
            self._next = slot + self._interval
        if slot > now:
            self._sleep(slot - now)


# --- what it costs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """What has been asked so far. Tokens as the server counts them; ``retries`` are attempts beyond the first, ``cached`` answers
    were not asked for.
    """

    requests: int = 0
    retries: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    audio_seconds: float = 0.0

    @property
    def tokens(self) -> Tokens | None:
        """``None`` where the server counts none."""
        counted = self.prompt_tokens or self.completion_tokens
        return Tokens(self.prompt_tokens, self.completion_tokens) if counted else None

    def __str__(self) -> str:
        noun = "request" if self.requests == 1 else "requests"
        counts = [f"{self.requests:,} {noun}" + (f" ({self.retries:,} retried)" if self.retries else "")]
        if self.cached:
            counts.append(f"{self.cached:,} taken from the cache")
        if self.prompt_tokens or self.completion_tokens:
            counts.append(f"{self.prompt_tokens:,} prompt tokens, {self.completion_tokens:,} completion tokens")
        if self.audio_seconds:
            counts.append(f"{self.audio_seconds / 60:,.1f} minutes of audio")
        return ", ".join(counts)


class Meter:
    """Usage counted from several threads."""

    def __init__(self) -> None:
        self._usage = Usage()
        self._lock = threading.Lock()

    def add(self, **counts: float) -> None:
        with self._lock:
            self._usage = replace(
                self._usage, **{name: getattr(self._usage, name) + count for name, count in counts.items()}
            )

    @property
    def usage(self) -> Usage:
        return self._usage


def _say_usage(what: str, meter: Meter) -> None:
    if meter.usage.requests or meter.usage.cached:
        print(f"{what}: {meter.usage}.", file=sys.stderr)


# --- the endpoint ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Failure:
    message: str
    transient: bool = False
    wait_s: float | None = None
    status: int | None = None


class _Stopped(EndpointError):
    """Another request failed for good, and this one is no longer needed."""


class _Bearer(requests.auth.AuthBase):
    """Sets the key's header; given even without a key, since requests would else look for a password in ``~/.netrc``."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Endpoint:
    """POSTs to one endpoint. Threads share it; ``clock`` and ``sleep`` are those of its waiting."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.settings = settings
        self._url = read_base_url(settings.base_url or os.environ.get(URL_VARIABLE, "").strip() or OPENAI_URL)
        self._key = read_key(settings.api_key_env, self._url, os.environ)
        self._auth = _Bearer(self._key)
        self._stop = threading.Event()
        self._clock = clock
        self._sleep = sleep or self._stop.wait  # a wait that ends when nothing is left to wait for
        self._pacer = Pacer(settings.requests_per_minute, clock, self._sleep)
        self._local = threading.local()
        self._answered = False
        self._cache = AnswerCache(settings.cache) if settings.cache else None
        self.meter = Meter()
        weakref.finalize(self, _say_usage, f"{settings.model} at {self.address}", self.meter)

    @classmethod
    def of(cls, where: str, options: Mapping[str, Any]) -> Endpoint:
        """From the options of a plug-in; ``UserInputError`` names the wrong one."""
        return cls(parse(EndpointSettings, options, where))

    def __repr__(self) -> str:
        return f"Endpoint({self.settings.model!r} at {self.address})"

    @property
    def address(self) -> str:
        """The base URL as it may be shown."""
        return public(self._url)

    @property
    def usage(self) -> Usage:
        return self.meter.usage

    def identity(self) -> str:
        """What of the endpoint decides the answers, for a fingerprint. What the server runs is not to be seen from here."""
        settings = self.settings
        identity = f"{settings.model}@{self.address}"
        identity += f",revision={settings.revision}" if settings.revision else ""
        if settings.extra:
            identity += f",extra={json.dumps(settings.extra, sort_keys=True, ensure_ascii=False)}"
        return identity

    # --- many

    def map(self, ask: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """``ask`` of each item, ``concurrency`` at a time; answers in the items' order. The first failure stops the rest and is raised."""
        if not items:
            return []
        self._stop.clear()
        with ThreadPoolExecutor(min(self.settings.concurrency, len(items)), "served") as pool:
            futures = [pool.submit(ask, item) for item in items]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                failed = [future for future in futures if future in done and future.exception() is not None]
                for future in failed:
                    future.result()
            except BaseException:  # Ctrl-C too: nothing more is asked, and what waits for a retry ends
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return [future.result() for future in futures]

    # --- one

    def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], R], *, wav: bytes | None = None) -> R:
        """What ``read`` makes of the parsed JSON reply to ``body`` at ``path``; with ``wav`` a form with that file.

        Retries what may pass: no connection once there has been one, timeouts, 408, 409, 425, 429, 5xx, replies cut short. Raises
        ``EndpointError`` for what does not pass, or not in time, and what ``read`` raises for a reply it has no use for. Replies
        that were read are kept, where there is a cache, and one request is not asked twice at a time by those who share it.
        """
        fields = {**body, **self.settings.extra}
        fields = {name: value for name, value in fields.items() if value is not None}
        label = request_digest({"at": public(self._url), "path": path, "for": self.settings.revision, **fields}, wav)
        if self._cache is None:
            return self._bought(path, fields, wav, label, read)[1]
        kept = self._cache.get(label)
        if kept is None:
            with self._cache.asking(label):
                kept = self._cache.get(label)  # another run may have asked meanwhile
                if kept is None:
                    reply, answer = self._bought(path, fields, wav, label, read)
                    self._cache.put(label, reply)
                    return answer
        answer = read(kept)
        self.meter.add(cached=1)
        return answer

    def _bought(
        self, path: str, fields: Mapping[str, Any], wav: bytes | None, label: str, read: Callable[[Any], R]
    ) -> tuple[Any, R]:
        """A reply that is paid for, and what ``read`` makes of it."""
        reply = self._until_answered(path, fields, wav, label)
        answer = read(reply)
        self.meter.add(**_tokens(reply))
        return reply, answer

    def _until_answered(self, path: str, fields: Mapping[str, Any], wav: bytes | None, label: str) -> Any:
        began = self._clock()
        attempt = 0
        while True:
            self._pacer.wait()
            if self._stop.is_set():
                raise _Stopped("stopped: another request failed.")
            attempt += 1
            self.meter.add(**({"requests": 1} if attempt == 1 else {"retries": 1}))
            outcome = self._attempt(path, fields, wav)
            if not isinstance(outcome, _Failure):
                self._answered = True
                return outcome
            if not outcome.transient:
                raise self._error(outcome, 1)
            pause = backoff_seconds(attempt, self.settings.backoff_s, seed=self.settings.seed, label=label)
            pause = max(pause, outcome.wait_s or 0.0)
            over = self._clock() - began + pause > self.settings.total_timeout_s
            if attempt >= self.settings.max_attempts or over:
                raise self._error(outcome, attempt)
            self._sleep(pause)

    def _attempt(self, path: str, fields: Mapping[str, Any], wav: bytes | None) -> Any:
        url = urlunsplit((self._url.scheme, self._url.netloc, self._url.path.rstrip("/") + path, self._url.query, ""))
        limit = self.settings.timeout_s
        form: dict[str, Any] = (
            {"json": fields} if wav is None else {"data": fields, "files": {"file": ("audio.wav", wav, "audio/wav")}}
        )
        try:
            with self._session().post(
                url,
                **form,
                auth=self._auth,
                timeout=(min(CONNECT_TIMEOUT_S, limit), limit),
                allow_redirects=False,
                stream=True,
            ) as reply:
                return self._read(reply, _body(reply, self._clock() + limit, self._clock))
        except _TooLong:
            return _Failure(f"sent more than {MAX_REPLY_BYTES >> 20} MiB, which is no answer")
        except requests.exceptions.SSLError as cause:
            return _Failure(f"cannot be spoken to over https: {self._safe(_reason(cause))}")
        except (requests.Timeout, _TooSlow):
            return _Failure(f"did not answer within {limit:g} s (timeout_s)", transient=True)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as cause:
            return _Failure(f"broke off in the middle of its reply ({self._safe(_reason(cause))})", transient=True)
        except requests.ConnectionError as cause:
            if "timed out" in str(cause).lower():  # how a timeout within a reply's body is told
                return _Failure(f"did not answer within {limit:g} s (timeout_s)", transient=True)
            hint = "" if self._answered else ". Is the server running, and is base_url right?"
            return _Failure(f"cannot be reached: {self._safe(_reason(cause))}{hint}", transient=self._answered)
        except (requests.RequestException, UnicodeError) as cause:
            return _Failure(f"cannot be sent a request: {self._safe(_reason(cause))}. Is base_url right?")

    def _read(self, reply: requests.Response, data: bytes) -> Any:
        status = reply.status_code
        if status in TRANSIENT:
            said = self._said(data)
            spent = any(word in said for word in SPENT)
            after = retry_after_seconds(reply.headers.get("Retry-After"), time.time())
            meaning = "too many requests" if status == 429 else "the server failed or is overloaded"
            return _Failure(f"answered {status}, {meaning}{said}", not spent, after, status)
        if status != 200:
            return _Failure(f"answered {status}{self._meaning(status)}{self._said(data)}", status=status)
        try:
            return parse_json(data)
        except ValueError:
            pass
        if _is_html(reply, data):
            return _Failure(
                "answered with a web page instead of JSON. Is base_url right (it usually ends in /v1)?", status=status
            )
        return _Failure(f"answered what is not JSON: {self._safe(data[:120])!r}", transient=True, status=status)

    def _meaning(self, status: int) -> str:
        named = self.settings.api_key_env or KEY_VARIABLE
        key = (
            f"the key in {named} was refused" if self._key else f"it wants a key: set the environment variable {named}"
        )
        meanings = {
            401: key,
            403: f"it forbids this ({key})",
            404: f"it does not know the path or the model {self.settings.model!r}; base_url usually ends in /v1",
            413: "the request is too large for it",
        }
        if 300 <= status < 400:
            return ", a redirect, which is not followed; give the address it leads to as base_url"
        return f", {meanings[status]}" if status in meanings else ""

    def _said(self, data: bytes) -> str:
        """The server's own words on an error, shortened."""
        try:
            table = parse_json(data)
        except ValueError:
            text = re.sub(r"(?is)<(script|style).*?</\1>|<[^>]*>", " ", data[:4000].decode("utf-8", "replace"))
        else:
            text = _message(table)
        words = self._safe(text)
        return f" ({words})" if words else ""

    def _safe(self, text: object) -> str:
        """Foreign text on one line, short, printable, and without the key."""
        words = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        if self._key:
            words = words.replace(self._key, "***")
        words = " ".join("".join(c if c.isprintable() else " " for c in words).split())
        return words if len(words) <= 300 else words[:300] + "…"

    def _error(self, failure: _Failure, attempts: int) -> EndpointError:
        tried = f" Tried {attempts} times." if attempts > 1 else ""
        return EndpointError(f"{self.address} {failure.message.rstrip('.')}.{tried}", failure.status)

    def _session(self) -> requests.Session:
        """One a thread: sessions keep connections open, and are not made to be shared."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = not is_loopback(self._url.hostname)  # no proxy stands between this machine and itself
        return session


# --- reading replies -------------------------------------------------------------------------------------------------


class _TooSlow(Exception):
    pass


class _TooLong(Exception):
    pass


def _body(reply: requests.Response, deadline: float, clock: Callable[[], float]) -> bytes:
    """All of a reply, unless it trickles in beyond ``deadline`` or never ends."""
    data = bytearray()
    for block in reply.iter_content(1 << 16):
        data += block
        if len(data) > MAX_REPLY_BYTES:
            raise _TooLong
        if clock() > deadline:
            raise _TooSlow
    return bytes(data)


def request_digest(fields: Mapping[str, Any], wav: bytes | None = None) -> str:
    """Sha256 (32 hex digits) of a request."""
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode())
    digest.update(wav or b"")
    return digest.hexdigest()[:32]


def _tokens(reply: Any) -> dict[str, int]:
    """The tokens a reply says it cost; nothing where it does not say."""
    usage = reply.get("usage") if isinstance(reply, Mapping) else None
    counts = (
        {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")} if isinstance(usage, Mapping) else {}
    )
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def _message(table: Any) -> str:
    """The message in an error body of OpenAI ({"error": {"message": …}}), FastAPI ({"detail": …}) and the like."""
    for key in ("error", "detail", "message"):
        if isinstance(table, Mapping) and key in table:
            inner = table[key]
            code = inner.get("code") if isinstance(inner, Mapping) else None
            text = _message(inner)
            return f"{text}; {code}" if isinstance(code, str) and code not in text else text
    return table if isinstance(table, str) else json.dumps(table, ensure_ascii=False)


def _is_html(reply: requests.Response, data: bytes) -> bool:
    return "html" in reply.headers.get("Content-Type", "").lower() or data.lstrip()[:1] == b"<"


def _reason(cause: BaseException) -> str:
    """The innermost reason of a chain, such as "connection refused", without the address, whose query may hold a secret."""
    inner: BaseException | None = cause
    while inner is not None:
        cause = inner
        held = (getattr(cause, "reason", None), *cause.args)
        inner = next((part for part in held if isinstance(part, BaseException)), None)
    text = re.sub(r"<[^>]*>:?|\w+\([^()]*host=[^()]*\):?|with url: \S+", "", str(cause))
    system = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    return (system.group(1) if system else text).strip(" .:").lower()


@contextmanager
def unreadable(endpoint: Endpoint, what: str) -> Iterator[None]:
    """Turn a reply of the wrong shape into an ``EndpointError`` that names the endpoint and the field."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as cause:
        fault = cause.errors(include_url=False)[0]
        field = ".".join(str(step) for step in fault["loc"]) or "the reply"
        raise EndpointError(
            f"{endpoint.address} gave a reply that is not {what}: {field}: {fault['msg'].lower()}. Is it an OpenAI-compatible server?"
        ) from None
