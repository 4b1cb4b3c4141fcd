"""System plug-ins ``openai-text`` and ``openai-audio``: a served text LLM, and a served model that hears audio.

Option log-probabilities come from where a server gives those of a prompt: ``/completions`` with ``echo`` (vLLM, OpenAI's base
models), and ``/chat/completions`` with vLLM's ``prompt_logprobs``, for audio too. Where a server gives none, asking for them
is an error that names ``score: generate``; numbers are never made from what only looks like them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from salad_eval.errors import ModelError, UserInputError
from salad_eval.served import wire
from salad_eval.served.endpoint import Endpoint, EndpointError, Usage, unreadable
from salad_eval.systems import prompts
from salad_eval.types import AudioSegment, Request, Tokens

COMPLETIONS, CHAT = "/completions", "/chat/completions"
Api = Literal["completions", "chat"]
Scored = wire.ScoredTokens
Prompt = str | tuple[int, ...]  # text, or token ids
MaxTokensField = Literal["max_tokens", "max_completion_tokens"]
_INSTEAD = "Ask for generated answers instead: score: generate in the plan (--set score=generate)"
_FILTERED = ("content_filter", "content_policy_violation")


@contextmanager
def _naming(request: Request) -> Iterator[None]:
    """Say which item it was, where a server refuses a request for what is in it."""
    try:
        yield
    except EndpointError as cause:
        if cause.status not in (400, 413, 422):
            raise
        raise EndpointError(f"item {request.item_id!r}: {cause}", cause.status) from None


# --- completions: text in, text out ----------------------------------------------------------------------------------


class _Completions:
    """``/completions``: the prompt as it stands. With ``echo``, the log-probabilities of its own tokens."""

    def __init__(self, endpoint: Endpoint, tokenizer: Any = None) -> None:
        self.endpoint, self.tokenizer = endpoint, tokenizer

    def generate(self, request: Request, max_new_tokens: int, stop: Sequence[str]) -> str:
        body = self._body(request.text, max_tokens=max_new_tokens, **({"stop": list(stop)} if stop else {}))
        with _naming(request):
            return prompts.cut_at_stop(self.endpoint.post(COMPLETIONS, body, self._read).text, stop)

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """As lm-eval scores: whitespace at the end of a context belongs to the option, whose tokens are those beyond the context's.

        Without a tokenizer the server is asked for the context by itself too, and so says how many tokens that has.
        """
        pairs = [self._prompts(request) for request in requests]
        unique = list(dict.fromkeys(prompt for pair in pairs for prompt in pair.prompts))
        scored = dict(zip(unique, self.endpoint.map(self._score, unique), strict=True))
        return [
            tuple(self._beyond(request, pair, place, scored) for place in range(len(pair.wholes)))
            for request, pair in zip(requests, pairs, strict=True)
        ]

    def _beyond(self, request: Request, pair: _Prompts, place: int, scored: Mapping[Prompt, Scored]) -> float:
        whole = scored[pair.wholes[place]]
        if pair.context is None:
            return _continuation(whole, pair.n_context[place], self.endpoint, request)
        context = scored[pair.context]
        n = len(context.tokens)
        # Its last tokens may differ, where an option's first letters join them; its first ones only if something was cut off.
        if whole.tokens[: n // 2] != context.tokens[: n // 2]:
            raise EndpointError(
                f"{self.endpoint.address}: item {request.item_id!r}: the server read another prompt than was sent; it may cut long ones. "
                "Serve the model with a longer context, or ask with fewer shots."
            )
        return _continuation(whole, n, self.endpoint, request)

    def _prompts(self, request: Request) -> _Prompts:
        if self.tokenizer is not None:
            encoded = [prompts.encode_pair(self.tokenizer, request.text, text) for text in request.continuations]
            return _Prompts(
                None, tuple(p.context + p.continuation for p in encoded), tuple(len(p.context) for p in encoded)
            )
        context = request.text.rstrip()
        if not context:
            raise UserInputError(
                f"item {request.item_id!r}: its context is empty, and a server does not score a prompt's first token. Give the "
                "served model's tokenizer (option tokenizer: a folder or hub id), whose first token then comes before it."
            )
        tail = request.text[len(context) :]
        return _Prompts(context, tuple(context + tail + text for text in request.continuations), ())

    def _score(self, prompt: Prompt) -> Scored:
        def read(reply: Any) -> Scored:
            found = wire.echoed(self._read(reply), None if isinstance(prompt, str) else len(prompt))
            if found is None:
                raise _no_logprobs(
                    self.endpoint, "/completions gave no log-probabilities of the prompt's tokens (echo with logprobs)"
                )
            return found

        return self.endpoint.post(COMPLETIONS, self._body(prompt, max_tokens=1, echo=True, logprobs=1), read)

    def _body(self, prompt: Prompt, **fields: Any) -> dict[str, Any]:
        return {"model": self.endpoint.settings.model, "prompt": prompt, "temperature": 0.0, **fields}

    def _read(self, reply: Any) -> wire.Completion:
        with unreadable(self.endpoint, "a completion of one prompt"):
            return wire.Completion.model_validate(reply)


@dataclass(frozen=True, slots=True)
class _Prompts:
    """What is sent to score a request: the context by itself, or how many tokens it has before each option."""

    context: str | None
    wholes: tuple[Prompt, ...]
    n_context: tuple[int, ...]

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return (*((self.context,) if self.context is not None else ()), *self.wholes)


def _continuation(whole: Scored, n_context: int, endpoint: Endpoint, request: Request) -> float:
    """The summed log-probability of the tokens beyond the first ``n_context``."""
    logprobs = whole.logprobs[n_context:]
    if not logprobs:
        raise ModelError(
            f"item {request.item_id!r}: an option has no tokens of its own after its context; it cannot be scored."
        )
    values = [value for value in logprobs if value is not None]
    if len(values) < len(logprobs):
        raise _no_logprobs(endpoint, "the server gave null as the log-probability of a token")
    return sum(values)


def _no_logprobs(endpoint: Endpoint, what: str) -> EndpointError:
    return EndpointError(f"{endpoint.address}: {what}, so options cannot be compared by them. {_INSTEAD}.")


# --- chat: text and audio in, text out -------------------------------------------------------------------------------


class _ChatApi:
    """``/chat/completions``: each request is one user turn, after a system prompt where there is one."""

    def __init__(
        self, endpoint: Endpoint, system_prompt: str | None, list_options: bool, max_tokens_field: MaxTokensField
    ) -> None:
        if max_tokens_field not in get_args(MaxTokensField):
            raise UserInputError(
                f"max_tokens_field is {max_tokens_field!r}; expected one of {', '.join(get_args(MaxTokensField))}."
            )
        self.endpoint, self.system_prompt, self.list_options = endpoint, system_prompt, list_options
        self.max_tokens_field = max_tokens_field

    def messages(self, request: Request) -> list[wire.Message]:
        preamble = wire.options_preamble(request.continuations) if self.list_options else ""
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt is not None else []
        return [*system, wire.user_message(request, preamble)]

    def generate(self, request: Request, max_new_tokens: int, stop: Sequence[str]) -> str:
        fields = {"stop": list(stop)} if stop else {}
        try:
            with _naming(request):
                reply = self.ask(self.messages(request), max_new_tokens, **fields)
        except EndpointError as cause:
            if cause.status == 400 and any(code in str(cause) for code in _FILTERED):
                return ""  # as where the filter lets the question through and not the answer: no answer, counted as unparsed
            raise
        return prompts.cut_at_stop(reply.text, stop)

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """The options as the beginning of the model's turn, without their leading space; vLLM only."""
        jobs = [(request, option) for request in requests for option in (None, *request.continuations)]
        scored = iter(self.endpoint.map(lambda job: self._score(*job), jobs))
        found = []
        for request in requests:
            context = next(scored)
            found.append(tuple(self._beyond(request, context, next(scored)) for _ in request.continuations))
        return found

    def _score(self, request: Request, option: str | None) -> Scored:
        messages = self.messages(request)
        fields: dict[str, Any] = {"prompt_logprobs": 0, "return_token_ids": True}
        if option is not None:
            messages.append({"role": "assistant", "content": option.lstrip()})
            fields |= {"add_generation_prompt": False, "continue_final_message": True}

        nothing = "/chat/completions gave no log-probabilities of the prompt's tokens (prompt_logprobs, an extension of vLLM's)"

        def read(reply: Any) -> Scored:
            found = wire.chat_prompt(self._read(reply))
            if found is None:
                raise _no_logprobs(self.endpoint, nothing)
            return found

        try:
            return self.endpoint.post(CHAT, self._body(messages, 1, **fields), read)
        except EndpointError as cause:
            if cause.status not in (400, 422):
                raise
            said = str(cause).removeprefix(self.endpoint.address).strip(" .")
            raise _no_logprobs(self.endpoint, f"{nothing} but {said}") from None

    def _beyond(self, request: Request, context: Scored, whole: Scored) -> float:
        n = len(context.tokens)
        if whole.tokens[1:n] != context.tokens[1:]:  # of the first token a server may not give the id
            raise EndpointError(
                f"{self.endpoint.address}: item {request.item_id!r}: the chat template does not write an answer where it lets the "
                f"model begin one, so an option would be scored after another prompt. {_INSTEAD}."
            )
        return _continuation(whole, n, self.endpoint, request)

    def ask(self, messages: Sequence[wire.Message], max_new_tokens: int, **fields: Any) -> wire.Chat:
        return self.endpoint.post(CHAT, self._body(messages, max_new_tokens, **fields), self._read)

    def _body(self, messages: Sequence[wire.Message], max_new_tokens: int, **fields: Any) -> dict[str, Any]:
        return {
            "model": self.endpoint.settings.model,
            "messages": list(messages),
            "temperature": 0.0,
            self.max_tokens_field: max_new_tokens,
            **fields,
        }

    def _read(self, reply: Any) -> wire.Chat:
        with unreadable(self.endpoint, "a chat completion with one choice"):
            return wire.Chat.model_validate(reply)


# --- plug-ins --------------------------------------------------------------------------------------------------------


class OpenAIText:
    """A served text LLM.

    ``api``: ``completions`` sends prompts as they stand (a base model; options by ``echo``), ``chat`` sends each as a user turn
    (options by vLLM's ``prompt_logprobs``). ``tokenizer``: the served model's, a folder or hub id; prompts are then sent as token
    ids, exactly as ``hf-text`` makes them (``completions`` only). ``system_prompt`` and ``list_options`` are for ``chat``:
    ``list_options`` writes the options before each prompt and asks for one of them, which a generated answer to a task that does
    not list its options needs. ``max_tokens_field``: what a chat server calls the limit; OpenAI's reasoning models want
    ``max_completion_tokens`` (and no temperature: ``extra: {temperature: null}``). ``endpoint``: the fields of
    ``EndpointSettings``.

    Retries, waits and concurrency are no part of the fingerprint: they change no answer.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api: Api = "completions",
        tokenizer: str | None = None,
        system_prompt: str | None = None,
        list_options: bool = False,
        max_tokens_field: MaxTokensField = "max_tokens",
        **endpoint: Any,
    ) -> None:
        if api not in ("completions", "chat"):
            raise UserInputError(f"openai-text: api is {api!r}; expected completions or chat.")
        if api == "completions" and (system_prompt is not None or list_options):
            raise UserInputError("openai-text: system_prompt and list_options need api: chat.")
        if api == "chat" and tokenizer is not None:
            raise UserInputError(
                "openai-text: tokenizer is for api: completions; a chat is put into tokens by the server."
            )
        self.endpoint = Endpoint.of("openai-text", {"model": model, "base_url": base_url, **endpoint})
        self._tokenizer = _load_tokenizer(tokenizer) if tokenizer is not None else None
        chat = _ChatApi(self.endpoint, system_prompt, list_options, max_tokens_field)
        self._chat = chat if api == "chat" else None
        self._completions = _Completions(self.endpoint, self._tokenizer)

    def fingerprint(self) -> str:
        settings = [self.endpoint.identity(), "api=chat" if self._chat else "api=completions"]
        if self._tokenizer is not None:
            settings.append(f"tokenizer={prompts.tokenizer_fingerprint(self._tokenizer)}")
        return f"openai-text({','.join([*settings, *(_chat_settings(self._chat) if self._chat else ())])})"

    @property
    def usage(self) -> Usage:
        return self.endpoint.usage

    def tokens(self) -> Tokens | None:
        return self.endpoint.usage.tokens

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """Summed log-probability (nats) of each continuation; ``EndpointError`` where the server gives none."""
        _check_text(requests, "openai-text")
        return self._chat.loglikelihoods(requests) if self._chat else self._completions.loglikelihoods(requests)

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
        """Continuation of each prompt at temperature 0, cut before the first stop string."""
        _check_text(requests, "openai-text")
        if (chat := self._chat) is not None:
            return self.endpoint.map(lambda request: chat.generate(request, max_new_tokens, stop), requests)
        return self.endpoint.map(lambda request: self._completions.generate(request, max_new_tokens, stop), requests)


class OpenAIAudio:
    """A served model that hears: audio goes into the user turn as ``input_audio`` parts (base64 WAV), where it stands in the prompt.

    A server may drop audio without a word, and its model then answers from the text alone. Before the first answers are used, the
    first prompt is therefore sent without its audio too, and has to count fewer tokens; ``check_audio: false`` is for servers that
    do not count them, at your own risk. ``sample_rate_hz`` resamples audio before it is sent. The other options are those of
    ``OpenAIText`` with ``api: chat``. ``list_options`` shows the options in writing, so that it does not go with tasks that
    speak them (``speak: context+choices``).
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        system_prompt: str | None = None,
        list_options: bool = False,
        max_tokens_field: MaxTokensField = "max_tokens",
        sample_rate_hz: int | None = None,
        check_audio: bool = True,
        **endpoint: Any,
    ) -> None:
        if sample_rate_hz is not None and sample_rate_hz < 8000:
            raise UserInputError(f"openai-audio: sample_rate_hz is {sample_rate_hz}; expected at least 8000.")
        self.endpoint = Endpoint.of("openai-audio", {"model": model, "base_url": base_url, **endpoint})
        self._chat = _ChatApi(self.endpoint, system_prompt, list_options, max_tokens_field)
        self._rate = sample_rate_hz
        self._to_be_checked = check_audio

    def fingerprint(self) -> str:
        settings = [self.endpoint.identity(), *_chat_settings(self._chat)]
        settings += [f"sample_rate_hz={self._rate}"] if self._rate else []
        return f"openai-audio({','.join(settings)})"

    @property
    def usage(self) -> Usage:
        return self.endpoint.usage

    def tokens(self) -> Tokens | None:
        return self.endpoint.usage.tokens

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """Summed log-probability (nats) of each continuation, from vLLM's ``prompt_logprobs``."""
        return self._chat.loglikelihoods(self._ready(requests))

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
        """Answer to each prompt at temperature 0, cut before the first stop string."""
        return self.endpoint.map(
            lambda request: self._chat.generate(request, max_new_tokens, stop), self._ready(requests)
        )

    def _ready(self, requests: Sequence[Request]) -> list[Request]:
        ready = [_resampled(request, self._rate) for request in requests]
        seconds = [s.audio.seconds for r in ready for s in r.prompt if isinstance(s, AudioSegment)]
        first = next((request for request in ready if request.has_audio), None)
        if first is not None and self._to_be_checked:
            self._check_heard(first)
            self._to_be_checked = False
        self.endpoint.meter.add(audio_seconds=sum(seconds))
        return ready

    def _check_heard(self, request: Request) -> None:
        """Raise ``EndpointError`` unless the audio of ``request`` adds to the tokens that the server counts."""
        with_audio = self._chat.messages(request)
        without = [*with_audio[:-1], wire.without_audio(with_audio[-1])]
        heard, unheard = self.endpoint.map(lambda messages: self._chat.ask(messages, 1), [with_audio, without])
        if heard.usage is None or unheard.usage is None or not heard.usage.prompt_tokens:
            raise EndpointError(
                f"{self.endpoint.address} counts no tokens (usage.prompt_tokens), so that it cannot be seen whether audio reaches the "
                "model. If you know that it does, set check_audio: false."
            )
        if heard.usage.prompt_tokens <= unheard.usage.prompt_tokens:
            raise EndpointError(
                f"{self.endpoint.address}: audio does not reach the model {self.endpoint.settings.model!r}: its prompt has "
                f"{heard.usage.prompt_tokens} tokens with audio and {unheard.usage.prompt_tokens} without. Serve a model that hears, "
                "with a server that takes input_audio."
            )


def _chat_settings(chat: _ChatApi) -> list[str]:
    settings = [f"system_prompt={chat.system_prompt!r}"] if chat.system_prompt is not None else []
    return [*settings, *(["list_options"] if chat.list_options else [])]


def _check_text(requests: Sequence[Request], name: str) -> None:
    for request in requests:
        if request.has_audio:
            raise ModelError(
                f"item {request.item_id!r}: the prompt holds audio, and {name} reads text only. Use openai-audio, or a cascade with "
                "openai-asr, for this column."
            )


def _resampled(request: Request, rate: int | None) -> Request:
    if rate is None:
        return request
    from salad_eval.audio.sound import resample

    segments = tuple(
        AudioSegment(resample(s.audio, rate), s.sha256) if isinstance(s, AudioSegment) else s for s in request.prompt
    )
    return replace(request, prompt=segments)


def _load_tokenizer(name: str) -> Any:
    from salad_eval.checkpoints import load_tokenizer
    from salad_eval.resources import resolve_pretrained

    return load_tokenizer(resolve_pretrained(name))
