"""Speech made for training: a TTS plug-in as a ``Speaker``, with every sound kept in the audio store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from salad_eval.audio.store import AudioStore
from salad_eval.pipeline.apart import is_strange, opened
from salad_eval.pipeline.engines import Workshop
from salad_eval.pipeline.render import RenderJob, render
from salad_eval.pipeline.tools import PluginRef
from salad_eval.speakable import Unspeakable, to_spoken
from salad_eval.types import CLEAN, Audio, Rendering
from salad_train.speech.utterances import Utterance, span_key


class TTSSpeaker:
    """``Speaker`` that says spans with a TTS plug-in; what ``store`` remembers is not said again.

    Args:
        tts, options: the plug-in's name in ``salad.tts`` and its options.
        shop: where it is said; by default by one process of this machine.
    """

    def __init__(
        self,
        store: AudioStore,
        tts: str = "pyttsx3",
        options: Mapping[str, Any] | None = None,
        shop: Workshop | None = None,
    ) -> None:
        self.store, self.tts, self.options = store, tts, dict(options or {})
        shop = shop or Workshop(workers=1)
        self._tools, self._executor = shop.tools, shop.voices(apart=is_strange(self._ref))

    @cached_property
    def _fingerprint(self) -> str:
        return f"{self.tts}: {opened(self._tools, self._ref).fingerprint()}"

    @property
    def _ref(self) -> PluginRef:
        return PluginRef("salad.tts", self.tts, self.options)

    def fingerprint(self) -> str:
        return self._fingerprint

    def key(self, utterance: Utterance) -> str:
        return span_key(utterance.text, f"{self._fingerprint}:{utterance.voice}")

    def render(self, utterances: Sequence[Utterance]) -> Iterator[Rendering | None]:
        """What is in the store of each utterance after saying it, as soon as it is said; ``None`` where it cannot be. Whoever has
        enough takes no more: little is said ahead. Ask for many at once: each call may start workers."""
        jobs: dict[int, RenderJob] = {}
        for k, utterance in enumerate(utterances):
            with suppress(Unspeakable):
                jobs[k] = RenderJob(str(k), "span", utterance.voice, CLEAN, to_spoken(utterance.text))
        outcomes = render(
            list(jobs.values()),
            tts=self.tts,
            tts_options=self.options,
            store=self.store,
            executor=self._executor,
            tools=self._tools,
        )
        for k in range(len(utterances)):
            outcome = next(outcomes) if k in jobs else None
            yield outcome if isinstance(outcome, Rendering) else None

    def speak(self, utterances: Sequence[Utterance]) -> Iterator[Audio | None]:
        for rendering in self.render(utterances):
            yield None if rendering is None else self.store.get(rendering.sha256)
