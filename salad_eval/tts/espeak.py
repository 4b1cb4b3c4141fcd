"""Speech from pyttsx3 on the espeak-ng library that ``espeakng-loader`` ships, so that pip alone is enough to speak.

pyttsx3's engine queues an utterance, sleeps in a loop until it is done, writes a file and prints a line. Its espeak
binding can also synthesise in the calling thread and hand the samples over, which gives the same sound without any of
that; this module drives that binding. The library keeps its voice, rate and pitch in the process: one engine a process.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from salad_eval.audio import sound as audio
from salad_eval.errors import AudioError, PluginError, UnknownNameError, UserInputError
from salad_eval.tts.voice import Setting, check_text, parse_settings
from salad_eval.types import Audio

HOW_TO_GET_ESPEAK = (
    "Install the library for Python with: pip install espeakng-loader; or for the system with: "
    "apt-get install espeak-ng, brew install espeak-ng, or the installer of the espeak-ng project"
)
RATE_RANGE = (80, 450)  # words a minute; espeak-ng speaks no slower, and above it words run together
PITCH_RANGE = (0, 99)  # espeak-ng's own scale, 50 is the voice's normal pitch
SETTINGS = {"rate": Setting(*RATE_RANGE, whole=True), "pitch": Setting(*PITCH_RANGE, whole=True)}
EXAMPLE = "en-us+f3,rate=150,pitch=60"
BUFFER_MS = 1000  # sound handed over at a time; longer buffers mean fewer calls back into Python
_LOCK = threading.Lock()  # the library has one state; a second thread would speak in the first one's voice


# --- voices ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VoiceSpec:
    """``en-us+f3,rate=150,pitch=60`` taken apart; ``None`` where the engine's default holds.

    ``base`` is a language code or voice file of espeak-ng, ``variant`` one of its speaker variants ("" is none),
    ``rate`` is in words a minute, ``pitch`` on espeak-ng's scale from 0 to 99.
    """

    base: str
    variant: str = ""
    rate: int | None = None
    pitch: int | None = None


def parse_voice(voice: str) -> VoiceSpec:
    """The parts of a voice written ``base[+variant][,rate=N][,pitch=N]``.

    Raises ``UserInputError`` for an unknown or repeated setting and for a value out of range. Whether there is such a
    voice is the engine's to say.
    """
    name, values = parse_settings(voice, SETTINGS, EXAMPLE)
    base, plus, variant = name.partition("+")
    if not base or (plus and not variant):
        raise UserInputError(f"voice {voice!r}: expected a voice name first, such as {EXAMPLE!r}")
    rate, pitch = (int(values[key]) if key in values else None for key in ("rate", "pitch"))
    return VoiceSpec(base, variant, rate, pitch)


# --- the library -----------------------------------------------------------------------------------------------------


def load_binding() -> ModuleType:
    """pyttsx3's espeak binding on a library that can be found: the one of ``espeakng-loader``, else the system's.

    A pyttsx3 engine started later in this process speaks with the same library. Raises ``PluginError`` saying how to
    get a library where there is none.
    """
    if (loaded := sys.modules.get("pyttsx3.drivers._espeak")) is not None:
        return loaded
    shipped = _shipped_library()
    try:
        if shipped is None:
            return importlib.import_module("pyttsx3.drivers._espeak")
        library, data_root = shipped
        os.environ["ESPEAK_DATA_PATH"] = str(data_root)  # the folder that holds espeak-ng-data
        # The binding looks for a system library by name while it is imported, and takes no hint where else to look.
        ctypes.cdll.LoadLibrary = lambda name: library  # type: ignore[method-assign]
        try:
            return importlib.import_module("pyttsx3.drivers._espeak")
        finally:
            del ctypes.cdll.LoadLibrary
    except (ImportError, RuntimeError, OSError, AttributeError) as cause:
        raise PluginError(f"no espeak-ng library to speak with ({cause}). {HOW_TO_GET_ESPEAK}") from cause


def _shipped_library() -> tuple[ctypes.CDLL, Path] | None:
    """The library of ``espeakng-loader`` and the folder that holds its voice data, if it can be used here."""
    try:
        import espeakng_loader

        data = Path(espeakng_loader.get_data_path())
        # Its symbols stay its own (ctypes' default mode): Piper brings an espeak-ng of another version into the same process.
        return ctypes.CDLL(espeakng_loader.get_library_path()), data.parent
    except (ImportError, RuntimeError, OSError):  # not installed, without its data, or built for another machine
        return None


class _Library:
    """The one espeak-ng of this process, set up to synthesise in the calling thread and hand over samples."""

    def __init__(self) -> None:
        self.binding: Any = load_binding()
        data_root = os.environ.get("ESPEAK_DATA_PATH")
        path = os.fsencode(data_root) if data_root else None
        self.sample_rate_hz: int = self.binding.Initialize(self.binding.AUDIO_OUTPUT_SYNCHRONOUS, BUFFER_MS, path)
        if self.sample_rate_hz <= 0:
            where = data_root or "its default path"
            raise PluginError(f"espeak-ng finds no voice data at {where}. {HOW_TO_GET_ESPEAK}")
        self.version: str = self.binding.Info(None).decode()
        # A voice is asked for by its file: by language code, en-gb+f3 is not found while en-us+f3 is. The bytes of a
        # language begin with its priority; the voices of another synthesiser (mbrola) carry the same codes.
        self.languages: dict[str, str] = {}
        for listed in self.binding.ListVoices():
            file = listed.identifier.decode()
            if not file.startswith("mb/"):
                self.languages.setdefault(listed.languages[1:].decode(errors="replace"), file)
        wanted = self.binding.VOICE(languages=b"variant")
        variants = self.binding.ListVoices(ctypes.pointer(wanted))
        self.variants = frozenset(variant.identifier.decode().rpartition("/")[2] for variant in variants)
        self._chunks: list[bytes] = []
        self._set: tuple[str, int, int] | None = None

    def _receive(self, samples: Any, n_samples: int, events: Any) -> int:
        if samples and n_samples > 0:
            self._chunks.append(ctypes.string_at(samples, n_samples * audio.BYTES_PER_SAMPLE))
        return 0

    def synthesise(self, text: str, language: str, variant: str, rate: int, pitch: int) -> bytes:
        """16-bit samples of ``text``; empty where the library made none."""
        binding = self.binding
        voice = self.languages[language] + (f"+{variant}" if variant else "")
        with _LOCK:
            if self._set != (voice, rate, pitch):
                self._set = None
                if (code := binding.SetVoiceByName(voice.encode())) != binding.EE_OK:
                    raise AudioError(f"espeak-ng could not load the voice {voice!r} (code {code})")
                # A voice brings its own rate and pitch along, so these come after it.
                binding.SetParameter(binding.RATE, rate, 0)
                binding.SetParameter(binding.PITCH, pitch, 0)
                self._set = (voice, rate, pitch)
            # Anyone else in this process who uses pyttsx3 would have taken the callback over.
            binding.SetSynthCallback(self._receive)
            self._chunks = []
            code = binding.Synth(text, flags=binding.CHARS_UTF8 | binding.ENDPAUSE)
            sound, self._chunks = b"".join(self._chunks), []
        if code != binding.EE_OK:
            raise AudioError(f"espeak-ng failed (code {code}) to speak {text!r:.80}")
        return sound


@cache
def _library() -> _Library:
    return _Library()


def without_last_stop(text: str) -> str:
    """``text`` without the full stop at its end.

    espeak-ng takes the stop of "option D." for that of an abbreviation, leaves out the pause after it and with the
    pause the last 60 ms of the letter. Without the stop it ends as a sentence does; other sentences sound the same.
    """
    text = text.rstrip()
    last_word = text[text.rfind(" ") + 1 :]
    return text[:-1] if last_word.endswith(".") and last_word.count(".") == 1 and len(last_word) > 1 else text


# --- the plug-in -----------------------------------------------------------------------------------------------------


class Pyttsx3TTS:
    """TTS plug-in ``pyttsx3``: espeak-ng voices such as ``en-us``, ``en-gb+f3`` or ``en-us+m1,rate=150,pitch=60``.

    ``sample_rate_hz``: the rate sound is handed over at. ``rate`` (words a minute, 80 to 450) and ``pitch`` (0 to 99)
    hold where a voice does not state its own. ``retries``: how often an utterance that came back without samples is
    asked for again; about one in a thousand does. ``language``: whose voices ``voices()`` lists; all can be spoken.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int = audio.SAMPLE_RATE_HZ,
        rate: int = 175,
        pitch: int = 50,
        retries: int = 3,
        language: str = "en",
    ) -> None:
        for name, value, (low, high) in (
            ("sample_rate_hz", sample_rate_hz, (8_000, 192_000)),
            ("rate", rate, RATE_RANGE),
            ("pitch", pitch, PITCH_RANGE),
            ("retries", retries, (0, 100)),
        ):
            if not isinstance(value, int) or not low <= value <= high:
                raise UserInputError(
                    f"tts plug-in 'pyttsx3': {name} is {value!r}, expected a whole number from {low} to {high}"
                )
        self.sample_rate_hz, self.rate, self.pitch = sample_rate_hz, rate, pitch
        self.retries, self.language = retries, language
        self._library = _library()
        self._checked: dict[str, VoiceSpec] = {}

    def fingerprint(self) -> str:
        return (
            f"pyttsx3 {version('pyttsx3')}, espeak-ng {self._library.version}, "
            f"rate={self.rate}, pitch={self.pitch}, {self.sample_rate_hz} Hz by {audio.versions()}"
        )

    def voices(self) -> list[str]:
        """Every voice of ``language``, alone and with every speaker variant."""
        bases = sorted(code for code in self._library.languages if (code + "-").startswith(self.language + "-"))
        return [*bases, *(f"{base}+{variant}" for base in bases for variant in sorted(self._library.variants))]

    def check_voice(self, voice: str) -> VoiceSpec:
        """The voice taken apart.

        Raises ``UserInputError`` for a malformed one and ``UnknownNameError`` for one that is not there. espeak-ng
        itself falls back to another voice without a word, so nothing is left to it.
        """
        spec = parse_voice(voice)
        library = self._library
        if spec.base not in library.languages:
            raise UnknownNameError("espeak-ng voice", spec.base, library.languages)
        if spec.variant and spec.variant not in library.variants:
            raise UnknownNameError("espeak-ng voice variant", spec.variant, library.variants)
        return spec

    def speak(self, text: str, voice: str) -> Audio:
        """``text`` in ``voice``.

        Raises ``AudioError`` where there is nothing to say or no sound came after all retries.
        """
        check_text(text)
        spec = self._checked.get(voice) or self._checked.setdefault(voice, self.check_voice(voice))
        rate = self.rate if spec.rate is None else spec.rate
        pitch = self.pitch if spec.pitch is None else spec.pitch
        for _ in range(1 + self.retries):
            pcm = self._library.synthesise(without_last_stop(text), spec.base, spec.variant, rate, pitch)
            if pcm:
                return audio.resample(Audio(audio.from_pcm16(pcm), self._library.sample_rate_hz), self.sample_rate_hz)
        raise AudioError(f"espeak-ng gave no sound for {text!r:.80} in voice {voice!r}, asked {1 + self.retries} times")
