"""Our systems as lm-eval models: ``salad-text``, ``salad-cascade`` and ``salad-speech``.

All three read text; the last two also hear what a prompt's markers refer to (see ``audio_refs``). Option log-probabilities are
those of ``salad run``: all options of a context are scored at once, and the context is computed once.

``is_greedy``, the second half of what lm-eval wants of a log-probability, needs the whole next-token distributions. It is computed
for requests that are alone in their document (the output type ``loglikelihood``, whose accuracy it is) and with ``greedy=true`` for
all; the options of multiple-choice documents, whose ``acc`` and ``acc_norm`` do not look at it, are otherwise marked ``False``.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import logging
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from lm_eval.api.model import LM

from salad_eval import plugins
from salad_eval.errors import AudioError, ModelError, UserInputError
from salad_eval.lm_eval_bridge.audio_refs import (
    AudioRef,
    heard,
    holds_marker,
    parse_refs,
    read_ref,
    split_at_markers,
)
from salad_eval.pipeline.respond import CHUNK
from salad_eval.progress import track
from salad_eval.types import Distributional, Request, System

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CacheHook

    from salad_eval.systems.causal import CausalSystem

logger = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)

NANO = "nano"  # stands for the embedded models
DEFAULT_MAX_NEW_TOKENS = 256  # lm-eval's
_MAX_TOKENS_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # lm-eval's order
_DISTRIBUTIONS_AT_A_TIME = 4  # whole vocabularies: few at a time bound memory
_GREEDY_TOLERANCE = 1e-4  # nats a token: two batches of one model differ by less, two tokens in question by more


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A context as lm-eval gives it, split where sounds are heard; equal prompts are computed once."""

    pieces: tuple[str | AudioRef, ...]

    @property
    def refs(self) -> list[AudioRef]:
        return [piece for piece in self.pieces if isinstance(piece, AudioRef)]


class SystemLM(LM):
    """An lm-eval model around a ``System``.

    Args:
        pretrained: The checkpoint (a folder or a hub id), or ``nano`` for the embedded ones.
        system: The system's registered name (``salad plugins list``).
        greedy: Compute ``is_greedy`` for every request, not only where a metric is sure to want it.
        batch_size, max_batch_size: lm-eval's; our systems batch by tokens (``batch_tokens``), so these are not used.
        device: lm-eval's ``--device``; a GPU that is not there is taken for "whatever there is", since lm-eval's default names one.
        options: Everything else goes to the system by name: dtype, revision, batch_tokens, …

    Raises ``UserInputError`` for names and options that do not exist and ``ModelError`` for a checkpoint that cannot be loaded.
    """

    MULTIMODAL = True  # lm-eval hands audio to such models only; a model that cannot hear says so by itself
    NAME: ClassVar[str] = ""
    DEFAULT_SYSTEM: ClassVar[str] = ""
    HEARS: ClassVar[bool] = True

    def __init__(
        self,
        pretrained: str | None = None,
        system: str | None = None,
        greedy: bool = False,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if not isinstance(pretrained, str) or not pretrained:
            raise UserInputError(
                f"--model {self.NAME}: model_args has no pretrained. Give --model_args pretrained={NANO} for the embedded models, or "
                "pretrained=FOLDER or a hub id."
            )
        self.greedy = greedy
        self.system = self.build(pretrained, system or self.DEFAULT_SYSTEM, _present(device), options)
        self._template: str | None = None

    @classmethod
    def build(cls, pretrained: str, system: str, device: str | None, options: Mapping[str, Any]) -> System:
        """The system that the model's arguments describe."""
        raise NotImplementedError

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> SystemLM:
        """As lm-eval makes a model; what ``--model_args`` says goes before lm-eval's own ``--device``."""
        lm_evals = {key: value for key, value in (additional_config or {}).items() if value is not None}
        return cls(**{**lm_evals, **arg_dict})

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> SystemLM:
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    # --- what lm-eval asks -------------------------------------------------------------------------------------------

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each request (context, continuation[, {"audio": references}]): summed log-probability in nats, and is_greedy.

        Raises ``AudioError`` for audio that is missing, damaged or not placed in the text, ``ModelError`` where the system has no
        finite log-probability to give.
        """
        found: dict[int, tuple[float, bool]] = {}
        by_prompt = _grouped([self._prompt(request, 2) for request in requests])
        wanted = self._greedy_wanted(requests)
        chunks = list(_chunks(by_prompt))
        for chunk in track(chunks, "log-probabilities") if not disable_tqdm else chunks:
            asked = [
                Request(_name(requests[members[0]]), segments, tuple(requests[i].args[1] for i in members))
                for (_, members), segments in zip(chunk, _heard([prompt for prompt, _ in chunk]), strict=True)
            ]
            scored = self.system.loglikelihoods(asked)
            greedy = self._greedy(asked, scored, [any(wanted[i] for i in members) for _, members in chunk])
            for (_, members), request, sums, flags in zip(chunk, asked, scored, greedy, strict=True):
                for i, value, flag in zip(members, sums, flags, strict=True):
                    if not math.isfinite(value):
                        raise ModelError(
                            f"{request.item_id}: {self.system.fingerprint()} gave the log-probability {value} for "
                            f"{requests[i].args[1]!r:.60}; lm-eval cannot leave an item out, so nothing is reported. Try dtype=float32."
                        )
                    found[i] = (float(value), flag)
                    self.cache_hook.add_partial("loglikelihood", requests[i].args, found[i])
        return [found[i] for i in range(len(requests))]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """For each request (context, generation settings[, {"audio": references}]) the greedy continuation, cut at ``until``.

        Raises ``ModelError`` where sampling is asked for.
        """
        found: dict[int, str] = {}
        prompts = [self._prompt(request, 2) for request in requests]
        settings = [_generation(request.args[1], _name(request)) for request in requests]
        by_settings: dict[_Generation, list[int]] = {}
        for i, setting in enumerate(settings):
            by_settings.setdefault(setting, []).append(i)
        chunks = [
            (setting, [(prompt, [members[k] for k in places]) for prompt, places in chunk])
            for setting, members in by_settings.items()
            for chunk in _chunks(_grouped([prompts[i] for i in members]))
        ]
        for setting, chunk in track(chunks, "generation") if not disable_tqdm else chunks:
            asked = [
                Request(_name(requests[members[0]]), segments)
                for (_, members), segments in zip(chunk, _heard([prompt for prompt, _ in chunk]), strict=True)
            ]
            texts = self.system.generate(asked, max_new_tokens=setting.max_new_tokens, stop=setting.stop)
            for (_, members), text in zip(chunk, texts, strict=True):
                for i in members:
                    found[i] = text
                    self.cache_hook.add_partial("generate_until", requests[i].args, text)
        return [found[i] for i in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """For each request (text,) its log-probability in nats, in windows of the model's length, as lm-eval's ``hf`` model does.

        Raises ``ModelError`` for a system whose language model cannot be reached, and for audio.
        """
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        from salad_eval.systems import prompts
        from salad_eval.systems.branching import continuation_logprobs

        reader = _text_model(self.system)
        found = []
        for request in track(requests, "rolling log-probabilities") if not disable_tqdm else requests:
            if len(request.args) > 1 or holds_marker(request.args[0]):
                raise ModelError(f"{_name(request)}: loglikelihood_rolling reads text; there is none of speech.")
            windows = [
                make_disjoint_window(window)
                for window in get_rolling_token_windows(
                    token_list=prompts.encode(reader.tokenizer, request.args[0]),
                    prefix_token=prompts.prefix_token_id(reader.tokenizer),
                    max_seq_len=reader.max_length,
                    context_len=1,
                )
            ]
            found.append(_windows_logprob(reader, windows, continuation_logprobs))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    # --- chat templates ----------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the language model that answers, or ``None`` where the system has none to show."""
        return _tokenizer(self.system)

    @property
    def tokenizer_name(self) -> str:
        """Names tokenizer and chat template, in characters that a file name can bear."""
        tokenizer = self.tokenizer
        template = str(getattr(tokenizer, "chat_template", "")) + str(self._template)
        known = self.system.tokenizer_fingerprint() if isinstance(self.system, Distributional) else repr(tokenizer)
        return f"{self.NAME}-{hashlib.sha256((known + template).encode()).hexdigest()[:16]}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that ``--apply_chat_template [NAME]`` means. Raises ``ModelError`` where there is none."""
        if not chat_template:
            return None
        tokenizer = self._chat_tokenizer()
        self._template = chat_template if isinstance(chat_template, str) else None
        try:
            return str(tokenizer.get_chat_template(self._template))
        except Exception as cause:
            raise ModelError(f"--apply_chat_template {chat_template}: {' '.join(str(cause).split())}") from None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Chat turns as one prompt by the tokenizer's template; markers for sounds pass through it as text."""
        return str(
            self._chat_tokenizer().apply_chat_template(
                chat_history,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def _chat_tokenizer(self) -> Any:
        if _wraps_itself(self.system):
            raise ModelError(
                f"--apply_chat_template: {self.system.fingerprint()} wraps prompts in a chat template by itself; both would wrap them "
                "twice. Leave the flag out, or give chat_template=false in model_args."
            )
        tokenizer = self.tokenizer
        if tokenizer is None or not getattr(tokenizer, "chat_template", None):
            what = "it shows no tokenizer" if tokenizer is None else "its tokenizer has none"
            raise ModelError(
                f"--apply_chat_template: {self.system.fingerprint()} cannot use one: {what}. Leave the flag out, or use a chat model."
            )
        return tokenizer

    # --- identity ----------------------------------------------------------------------------------------------------

    def get_model_info(self) -> dict[str, str]:
        """What lm-eval writes into its results of the model."""
        return {"model_fingerprint": self.system.fingerprint(), "salad_gap_version": version("salad-gap")}

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Use lm-eval's response cache, in a table of this model's own.

        The cache's keys tell requests apart, audio by its digest, and not models: without this, a second model would be given the
        first one's answers.
        """
        super().set_cache_hook(cache_hook)
        if cache_hook.dbdict is not None:
            identity = f"{self.NAME}\n{self.system.fingerprint()}\ngreedy={self.greedy}\n{version('salad-gap')}"
            _use_table(cache_hook.dbdict, f"salad-{hashlib.sha256(identity.encode()).hexdigest()[:16]}")

    # --- parts -------------------------------------------------------------------------------------------------------

    def _prompt(self, request: Instance, n_text: int) -> _Prompt:
        """A request's context with its sounds in their places. Raises ``AudioError`` where they do not fit together."""
        where = _name(request)
        context, given = request.args[0], request.args[n_text:]
        if not isinstance(context, str):
            raise ModelError(f"{where}: its context is a {type(context).__name__}; expected a text.")
        refs = parse_refs(given[0], where) if given else ()
        if refs and not self.HEARS:
            raise ModelError(
                f"{where}: the task is spoken, and {self.NAME} reads text. Use --model salad-speech or salad-cascade, or the task's "
                "text form."
            )
        return _Prompt(split_at_markers(context, refs, where))

    def _greedy_wanted(self, requests: Sequence[Instance]) -> list[bool]:
        of_document = Counter((request.task_name, request.doc_id) for request in requests)
        return [
            self.greedy
            or (request.idx == 0 and of_document[request.task_name, request.doc_id] == (request.repeats or 1))
            for request in requests
        ]

    def _greedy(
        self, asked: Sequence[Request], scored: Sequence[Sequence[float]], wanted: Sequence[bool]
    ) -> list[list[bool]]:
        """Whether each continuation is what greedy decoding gives; all ``False`` for requests where nobody asks."""
        flags = [[False] * len(request.continuations) for request in asked]
        places = [i for i, want in enumerate(wanted) if want]
        if places and not isinstance(self.system, Distributional):
            raise ModelError(
                f"{asked[places[0]].item_id}: the metric wants to know whether the answer is what greedy decoding gives, and "
                f"{self.system.fingerprint()} gives no next-token distributions. Use a generate_until or multiple_choice task."
            )
        for start in range(0, len(places), _DISTRIBUTIONS_AT_A_TIME):
            part = places[start : start + _DISTRIBUTIONS_AT_A_TIME]
            assert isinstance(self.system, Distributional)  # for the type checker: looked at above
            for i, options in zip(part, self.system.distributions([asked[i] for i in part]), strict=True):
                best = [float(rows.max(axis=-1).sum()) if len(rows) else 0.0 for rows in options]
                flags[i] = [
                    value >= most - _GREEDY_TOLERANCE * max(1, len(rows))
                    for value, most, rows in zip(scored[i], best, options, strict=True)
                ]
        return flags


class SaladTextLM(SystemLM):
    """A text LLM reading text: ``--model salad-text --model_args pretrained=nano`` (or a folder, a hub id)."""

    NAME = "salad-text"
    DEFAULT_SYSTEM = "hf-text"
    HEARS = False

    @classmethod
    def build(cls, pretrained: str, system: str, device: str | None, options: Mapping[str, Any]) -> System:
        return _system(system, _nano(pretrained, "nano/base"), device, options)


class SaladSpeechLM(SystemLM):
    """A speech LLM, hearing what is spoken and reading the rest: ``--model salad-speech --model_args pretrained=nano``.

    ``system=…`` names another registered speech system.
    """

    NAME = "salad-speech"
    DEFAULT_SYSTEM = "salad"

    @classmethod
    def build(cls, pretrained: str, system: str, device: str | None, options: Mapping[str, Any]) -> System:
        return _system(system, _nano(pretrained, "nano/speech"), device, options)


class SaladCascadeLM(SystemLM):
    """ASR, then a text LLM on the transcript: ``--model salad-cascade --model_args pretrained=LLM,asr=RECOGNISER``.

    ``asr`` is the recogniser's checkpoint, ``asr_system`` its plug-in (``transformers-ctc`` by default), and ``asr_KEY`` an option of
    it; all else goes to the text system. ``pretrained=nano`` brings the embedded recogniser along.
    """

    NAME = "salad-cascade"
    DEFAULT_SYSTEM = "hf-text"

    @classmethod
    def build(cls, pretrained: str, system: str, device: str | None, options: Mapping[str, Any]) -> System:
        from salad_eval.systems.cascade import CascadeSystem

        asr = options.get("asr", "nano/asr" if pretrained == NANO else None)
        if not isinstance(asr, str):
            raise UserInputError(
                "--model salad-cascade: model_args has no asr. Give asr=FOLDER or a hub id (and asr_system=NAME for a recogniser other "
                "than transformers-ctc)."
            )
        asr_system = str(options.get("asr_system", "transformers-ctc"))
        own = {
            key.removeprefix("asr_"): value
            for key, value in options.items()
            if key.startswith("asr_") and key != "asr_system"
        }
        text = {key: value for key, value in options.items() if key != "asr" and not key.startswith("asr_")}
        recogniser = _with_device("salad.asr", asr_system, {"pretrained": asr, **own}, device)
        return CascadeSystem(
            asr=plugins.create("salad.asr", asr_system, recogniser),
            text=_system(system, _nano(pretrained, "nano/base"), device, text),
        )


# --- arguments -------------------------------------------------------------------------------------------------------


def _nano(pretrained: str, embedded: str) -> str:
    return embedded if pretrained == NANO else pretrained


def _system(name: str, pretrained: str, device: str | None, options: Mapping[str, Any]) -> System:
    given = _with_device("salad.systems", name, {"pretrained": pretrained, **options}, device)
    created: System = plugins.create("salad.systems", name, given)
    return created


def _with_device(group: plugins.Group, name: str, options: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    """The options, with lm-eval's device where the plug-in takes one and none is given."""
    parameters = inspect.signature(plugins.load(group, name)).parameters
    if device is None or "device" not in parameters or "device_map" in options:
        return dict(options)
    return {"device": device, **options}


def _present(device: str | None) -> str | None:
    """lm-eval's device, but for a GPU on a machine without one: ``cuda:0`` is what lm-eval says where the user says nothing."""
    if device is None or not str(device).startswith("cuda"):
        return device
    import torch

    if torch.cuda.is_available():
        return device
    logger.info("there is no %s here; the model goes where the system puts it by itself", device)
    return None


@dataclass(frozen=True, slots=True)
class _Generation:
    max_new_tokens: int
    stop: tuple[str, ...]


def _generation(settings: Mapping[str, Any], where: str) -> _Generation:
    """lm-eval's generation settings as ours, which are greedy."""
    if settings.get("do_sample") or (settings.get("do_sample") is None and float(settings.get("temperature") or 0) > 0):
        raise ModelError(
            f"{where}: generation_kwargs ask for sampling (do_sample, temperature); answers are generated greedily here. "
            "Give --gen_kwargs do_sample=False,temperature=0."
        )
    until = settings.get("until") or []
    stop = tuple(text for text in ([until] if isinstance(until, str) else until) if text)
    most = next((int(settings[key]) for key in _MAX_TOKENS_KEYS if settings.get(key) is not None), None)
    return _Generation(most if most is not None else DEFAULT_MAX_NEW_TOKENS, stop)


# --- requests --------------------------------------------------------------------------------------------------------


def _name(request: Instance) -> str:
    return f"{request.task_name}, document {request.doc_id}"


def _grouped(keys: Sequence[K]) -> list[tuple[K, list[int]]]:
    """Equal keys together, in the order of their first; each with its places."""
    groups: dict[K, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.items())


def _chunks(groups: Sequence[tuple[_Prompt, list[int]]]) -> Iterator[list[tuple[_Prompt, list[int]]]]:
    """Prompts with sound and prompts without apart, as many at a time as are held in a run."""
    for spoken, form in ((False, "text"), (True, "speech")):
        remaining = iter([group for group in groups if bool(group[0].refs) == spoken])
        while chunk := list(itertools.islice(remaining, CHUNK[form])):
            yield chunk


def _heard(prompts: Sequence[_Prompt]) -> list[Any]:
    """The prompts as segments, every sound read once and its digest checked."""
    refs = {ref.sha256: ref for prompt in prompts for ref in prompt.refs}
    sounds = {sha256: read_ref(ref) for sha256, ref in refs.items()}
    for sha256, sound in sounds.items():
        if not len(sound.audio.samples):
            raise AudioError(f"{refs[sha256].path}: the sound has no samples; nothing could be heard.")
    return [heard(prompt.pieces, sounds) for prompt in prompts]


# --- inside a system -------------------------------------------------------------------------------------------------


def _answering(system: Any) -> Any:
    """The system that answers: in a cascade, the text system behind the recogniser."""
    from salad_eval.systems.cascade import CascadeSystem

    return _answering(system.text) if isinstance(system, CascadeSystem) else system


def _tokenizer(system: Any) -> Any:
    return getattr(_answering(system), "tokenizer", None)


def _wraps_itself(system: Any) -> bool:
    """Whether the system puts prompts into a chat template of its own accord."""
    answering = _answering(system)
    return bool(getattr(answering, "chat_template", None) or getattr(answering, "chat", None))


def _text_model(system: Any) -> CausalSystem:
    """The causal LM that can be asked for token log-probabilities."""
    from salad_eval.systems.causal import CausalSystem

    answering = _answering(system)
    if not isinstance(answering, CausalSystem):
        raise ModelError(
            f"{system.fingerprint()} shows no causal LM, tokenizer and length, so there is no loglikelihood_rolling of it. "
            "Perplexity is of text LLMs, of cascades, and of speech LLMs whose LM can be reached."
        )
    return answering


def _windows_logprob(reader: CausalSystem, windows: Sequence[tuple[list[int], list[int]]], score: Any) -> float:
    import torch

    contexts = [torch.tensor(context) for context, _ in windows]
    lm = reader.llm.language_model(has_audio=False)
    scored = score(lm, contexts, [[ids] for _, ids in windows], max_batch_tokens=reader.batch_tokens)
    return float(sum(value for (option,) in scored for value in option))


def _use_table(database: Any, name: str) -> None:
    """Make a ``SqliteDict`` read and write another table of its file, made where needed."""
    database.tablename = name
    database.conn.execute(f'CREATE TABLE IF NOT EXISTS "{name}" (key TEXT PRIMARY KEY, value BLOB)')
    database.conn.commit()
