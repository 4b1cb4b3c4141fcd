"""The speech-adapted LLM as a ``System``: it reads text as its own LM does, and hears speech through encoder and
adapter."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from salad_eval.errors import AudioError, ModelError, UserInputError
from salad_eval.systems import prompts
from salad_eval.types import Audio, AudioSegment, Request

if TYPE_CHECKING:
    import numpy as np
    import torch

    from salad_train.model.modeling_salad import SaladForConditionalGeneration
    from salad_train.model.processing_salad import SaladProcessor

_Encoded = tuple["list[torch.Tensor]", "list[list[tuple[int, ...]]]", "list[list[tuple[int, int]]]"]


class SaladSystem:
    """``System`` and ``Distributional`` for a ``SaladForConditionalGeneration``.

    A request without audio is answered by the LM alone, exactly as ``hf-text`` would answer with it. One with audio
    is answered from the
    text around the audio and what the adapter makes of it; it is an error if a recording gives no position to the LM.

    Args:
        pretrained: ``nano/speech``, a folder or a hub id.
        batch_tokens: rows × positions of a forward pass of the LM, which bounds memory.
        batch_seconds: padded sound in one pass of the encoder.
        max_length: limits text contexts below what the LM can hold (they lose tokens on the left); a prompt with
            audio that
            does not fit is an error, since audio cannot be cut.
        cache_mb: memory for embeddings of recordings heard before, so that asking twice encodes once.
        frames: a folder that keeps the frozen encoder's output (as float16, in which training reads it too), so that other
            checkpoints with the same encoder need not encode the same sound again.
    """

    def __init__(
        self,
        pretrained: str,
        dtype: str = "float32",
        device: str = "auto",
        batch_tokens: int = 4_096,
        batch_seconds: float = 40.0,
        revision: str | None = None,
        max_length: int | None = None,
        cache_mb: int = 64,
        frames: str | None = None,
        peft: str | None = None,
    ) -> None:
        from salad_eval.checkpoints import model_identity
        from salad_train.model.loading import load_salad

        model, processor = load_salad(pretrained, dtype=dtype, device=device, revision=revision, peft=peft)
        self._take(model, processor, batch_tokens, batch_seconds, max_length, cache_mb, frames)
        settings = f"dtype={dtype},max_length={self.max_length},tokenizer={self.tokenizer_fingerprint()}"
        identity = model_identity(pretrained, self.model, peft=peft)
        self._fingerprint = f"salad({identity},{settings}{',frames' if frames else ''})"

    @classmethod
    def live(
        cls,
        model: SaladForConditionalGeneration,
        processor: SaladProcessor,
        name: str = "live",
        frames: str | None = None,
    ) -> SaladSystem:
        """A system around a model in memory, in training for instance; ``name`` is its fingerprint. Put it in eval mode first."""
        system = cls.__new__(cls)
        system._take(model, processor, 4_096, 40.0, None, 64, frames)
        system._fingerprint = f"salad({name})"
        return system

    def _take(
        self,
        model: SaladForConditionalGeneration,
        processor: SaladProcessor,
        batch_tokens: int,
        batch_seconds: float,
        max_length: int | None,
        cache_mb: int,
        frames: str | None,
    ) -> None:
        if batch_tokens < 1 or batch_seconds <= 0 or cache_mb < 0:
            raise UserInputError(
                f"batch_tokens is {batch_tokens}, batch_seconds is {batch_seconds}, cache_mb is {cache_mb}; expected positive numbers."
            )
        self.model, self.processor = model, processor
        self.tokenizer = processor.tokenizer
        self.batch_tokens, self.batch_seconds = batch_tokens, batch_seconds
        own_length = prompts.max_length(model.config, self.tokenizer)
        self.max_length = own_length if max_length is None else min(own_length, max_length)
        self._heard: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._cache_bytes = cache_mb << 20
        self._frames = None
        if frames is not None:
            from salad_train.training.stages import open_store

            self._frames = open_store(Path(frames), model)

    def fingerprint(self) -> str:
        return self._fingerprint

    def tokenizer_fingerprint(self) -> str:
        return prompts.tokenizer_fingerprint(self.tokenizer)

    def loglikelihoods(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """Summed log-probability (nats) of each continuation of each request."""
        from salad_eval.systems.branching import continuation_logprobs

        prefixes, continuations, places = self._encoded(requests)
        scored = continuation_logprobs(
            self.model.language_model, prefixes, continuations, max_batch_tokens=self.batch_tokens
        )
        return [tuple(sum(scored[row][column]) for row, column in cells) for cells in places]

    def distributions(self, requests: Sequence[Request]) -> list[list[np.ndarray]]:
        """Next-token log-probabilities behind each continuation, (n_tokens, vocabulary); see ``Distributional``."""
        from salad_eval.systems.branching import continuation_distributions

        prefixes, continuations, places = self._encoded(requests)
        rows = continuation_distributions(
            self.model.language_model, prefixes, continuations, max_batch_tokens=self.batch_tokens
        )
        return [[rows[row][column] for row, column in cells] for cells in places]

    def generate(self, requests: Sequence[Request], *, max_new_tokens: int, stop: Sequence[str]) -> list[str]:
        """Greedy continuation of each prompt, cut before the first stop string."""
        import torch

        from salad_eval.systems.branching import greedy

        room = self.max_length - max_new_tokens
        if room < 1:
            raise UserInputError(
                f"max_new_tokens is {max_new_tokens}, but the model holds {self.max_length} positions, prompt included."
            )
        heard = self._hear(requests)
        prefixes = []
        for request in requests:
            if request.has_audio:
                # Options have no part in a free answer, and would move whitespace out of the prompt.
                asked = replace(request, continuations=())
                prefixes.append(
                    self._spoken_prefix(asked, prompts.encode_spoken_prompt(self.tokenizer, asked), heard, room)
                )
            else:
                prefixes.append(torch.tensor(prompts.encode_context(self.tokenizer, request.text, max_length=room)))
        outputs = greedy(
            self.model.language_model,
            prefixes,
            max_new_tokens=max_new_tokens,
            eos_ids=prompts.end_ids(self.model.language_model, self.tokenizer),
            stop=prompts.stop_rule(self.tokenizer, stop),
            max_batch_tokens=self.batch_tokens,
        )
        return [prompts.cut_at_stop(self.tokenizer.decode(ids, skip_special_tokens=True), stop) for ids in outputs]

    # --- prompts -----------------------------------------------------------------------------------------------------

    def _encoded(self, requests: Sequence[Request]) -> _Encoded:
        """Prefixes, their continuations, and for each request where its continuations went (row, column).

        Options of a text request share a row where they share a context, which they do unless a long one pushes some
        of it out.
        """
        import torch

        heard = self._hear(requests)
        prefixes: list[torch.Tensor] = []
        continuations: list[list[tuple[int, ...]]] = []
        places: list[list[tuple[int, int]]] = []
        for request in requests:
            if request.has_audio:
                spoken = prompts.encode_spoken_prompt(self.tokenizer, request)
                longest = max((len(option) for option in spoken.continuations), default=0)
                places.append([(len(prefixes), column) for column in range(len(spoken.continuations))])
                prefixes.append(self._spoken_prefix(request, spoken, heard, self.max_length + 1 - longest))
                continuations.append(list(spoken.continuations))
                continue
            rows: dict[tuple[int, ...], int] = {}
            cells = []
            for option in request.continuations:
                pair = prompts.encode_pair(self.tokenizer, request.text, option, max_length=self.max_length)
                row = rows.setdefault(pair.context, len(prefixes))
                if row == len(prefixes):
                    prefixes.append(torch.tensor(pair.context))
                    continuations.append([])
                cells.append((row, len(continuations[row])))
                continuations[row].append(pair.continuation)
            places.append(cells)
        return prefixes, continuations, places

    def _spoken_prefix(
        self, request: Request, spoken: prompts.SpokenPrompt, heard: dict[str, torch.Tensor], room: int
    ) -> torch.Tensor:
        """The prompt as input embeddings (T, LM width): tokens looked up, recordings as the adapter made them."""
        import torch

        embed = self.model.get_input_embeddings()
        table: torch.Tensor = embed.weight
        device = table.device
        parts = []
        n_audio = 0
        with torch.no_grad():
            for piece in spoken.pieces:
                if isinstance(piece, AudioSegment):
                    rows = heard[piece.sha256]
                    if not len(rows):
                        raise AudioError(
                            f"item {request.item_id!r}: the recording {piece.sha256[:12]} gave the LM no position; nothing was heard."
                        )
                    n_audio += len(rows)
                    parts.append(rows.to(table.dtype))
                else:
                    parts.append(embed(torch.tensor(piece, device=device)))
            prefix = torch.cat(parts)
        if not n_audio:
            raise ModelError(
                f"item {request.item_id!r}: a speech prompt gave the LM no audio position; nothing was heard."
            )
        if len(prefix) > room:
            raise ModelError(
                f"item {request.item_id!r}: its prompt takes {len(prefix)} positions ({n_audio} of audio), the model has room for {room}. "
                "Audio cannot be cut as text is; leave the item out or use a model with a longer context."
            )
        return prefix

    # --- hearing -----------------------------------------------------------------------------------------------------

    def _hear(self, requests: Sequence[Request]) -> dict[str, torch.Tensor]:
        """Embeddings of every recording in the requests by sha256, each encoded once."""
        wanted: dict[str, Audio] = {}
        for request in requests:
            for segment in request.prompt:
                if isinstance(segment, AudioSegment):
                    if not len(segment.audio.samples):
                        raise AudioError(f"item {request.item_id!r}: its audio is empty; render it again or reject it.")
                    wanted.setdefault(segment.sha256, segment.audio)
        found = {key: self._heard[key] for key in wanted if key in self._heard}
        new = [key for key in wanted if key not in found]
        if new:
            embedded = self._embed({key: wanted[key] for key in new})
            found.update(zip(new, embedded, strict=True))
            self._remember(dict(zip(new, embedded, strict=True)))
        return found

    def _embed(self, recordings: dict[str, Audio]) -> list[torch.Tensor]:
        """What the LM reads for each recording (sha256 → sound), by way of the kept frames where there is a store of them."""
        from salad_train.training.hearing import audio_embeddings, encoder_frames, stored_embeddings

        if self._frames is None:
            return audio_embeddings(self.model, self.processor, list(recordings.values()), self.batch_seconds)
        new = {key: audio for key, audio in recordings.items() if key not in self._frames}
        if new:
            rows = encoder_frames(self.model, self.processor, list(new.values()), self.batch_seconds)
            self._frames.add(list(new), rows, [audio.seconds for audio in new.values()])
        return stored_embeddings(self.model, [self._frames.get(key) for key in recordings])

    def _remember(self, embedded: dict[str, torch.Tensor]) -> None:
        """Keep what fits, newest first."""
        self._heard.update(embedded)
        size = sum(rows.numel() * rows.element_size() for rows in self._heard.values())
        while self._heard and size > self._cache_bytes:
            _, oldest = self._heard.popitem(last=False)
            size -= oldest.numel() * oldest.element_size()
