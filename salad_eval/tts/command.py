"""TTS plug-ins that are programs: espeak-ng, flite, Piper, and any other that turns a text into a WAV file.

A program is started for each utterance, with a list of arguments and never through a shell. The text goes in by a file or by
standard input, never among the arguments; what is in an argument is the plan's alone (the program, its options, the voice's name).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from salad_eval.audio.sound import read_audio
from salad_eval.errors import AudioError, MissingExtraError, PluginError, UnknownNameError, UserInputError
from salad_eval.identity import files_digest
from salad_eval.resources import resolve_path
from salad_eval.tts.espeak import SETTINGS as ESPEAK_SETTINGS
from salad_eval.tts.espeak import without_last_stop
from salad_eval.tts.piper import SETTINGS as PIPER_SETTINGS
from salad_eval.tts.voice import Setting, check_text, parse_settings
from salad_eval.types import Audio

TEXT, OUTPUT, VOICE = "{text}", "{output}", "{voice}"  # the places of an argument list that are filled in
START_SECONDS = 30.0  # for a program to say its version or its voices
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")


@dataclass(frozen=True, slots=True)
class VoiceSetting:
    """A number a voice may carry, and the arguments that hand it over, ``{value}`` in them."""

    range: Setting
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """How a program is asked to speak.

    ``argv``: the program and its arguments, with ``{voice}``; with ``{text}``, the path of a file that holds the text (else it comes by
    standard input); with ``{output}``, the path of the WAV file to write (else it goes to standard output). ``version``: the
    arguments that make it say which it is. ``voices``: from the program's path and the user's folder of voices, what is put for
    ``{voice}`` for each name. ``example``: a voice, for messages.
    """

    argv: tuple[str, ...]
    voices: Callable[[str, Path | None], Mapping[str, str]]
    version: tuple[str, ...] = ("--version",)
    settings: Mapping[str, VoiceSetting] = field(default_factory=dict)
    prepare: Callable[[str], str] = str
    install: str = ""
    example: str = ""


# --- the programs that are known -------------------------------------------------------------------------------------


def _espeak_voices(program: str, _: Path | None) -> dict[str, str]:
    """By language code, alone and with each speaker variant: as the plug-in ``pyttsx3`` names them."""
    bases: dict[str, str] = {}
    for line in _said_by([program, "--voices"]).splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 5 and not fields[4].startswith("mb/"):  # voices of another synthesiser carry the same codes
            bases.setdefault(fields[1], fields[4])
    listed = [line.split() for line in _said_by([program, "--voices=variant"]).splitlines()[1:]]
    variants = {fields[4].rpartition("/")[2] for fields in listed if len(fields) >= 5}
    combined = {f"{code}+{one}": f"{file}+{one}" for code, file in bases.items() for one in sorted(variants)}
    return {**bases, **combined}


def _espeak_text(text: str) -> str:
    return without_last_stop(text).replace("[[", "[ [")  # between double brackets it expects phonemes


def _flite_voices(program: str, folder: Path | None) -> dict[str, str]:
    """The voices inside the program, and the ``.flitevox`` files of the user's folder."""
    _, _, names = _said_by([program, "-lv"]).partition(":")
    return {**{name: name for name in names.split()}, **_voice_files(folder, ".flitevox")}


def _piper_voices(_: str, folder: Path | None) -> dict[str, str]:
    """The ``.onnx`` files of the user's folder, each with its ``.onnx.json``."""
    if folder is None:
        raise UserInputError(
            "tts 'piper': voices_dir is missing; give the folder of its voices (NAME.onnx with NAME.onnx.json)."
        )
    found = _voice_files(folder, ".onnx")
    for path in found.values():
        if not Path(path + ".json").is_file():
            raise UserInputError(
                f"tts 'piper': {path} lacks its settings {path}.json. Download the voice again, both files."
            )
    return found


def _voice_files(folder: Path | None, ending: str) -> dict[str, str]:
    return {path.stem: str(path) for path in sorted(folder.glob(f"*{ending}"))} if folder else {}


PROGRAMS: Mapping[str, Program] = {
    "espeak-ng": Program(
        argv=("espeak-ng", "-b", "1", "-v", VOICE, "-f", TEXT, "-w", OUTPUT),
        voices=_espeak_voices,
        settings={
            "rate": VoiceSetting(ESPEAK_SETTINGS["rate"], ("-s", "{value}")),
            "pitch": VoiceSetting(ESPEAK_SETTINGS["pitch"], ("-p", "{value}")),
        },
        prepare=_espeak_text,
        install="apt-get install espeak-ng, or brew install espeak-ng",
        example="en-us+f3,rate=150,pitch=60",
    ),
    "flite": Program(
        argv=("flite", "-voice", VOICE, "-f", TEXT, "-o", OUTPUT),
        voices=_flite_voices,
        settings={
            "stretch": VoiceSetting(Setting(0.3, 3.0), ("--setf", "duration_stretch={value}")),
            "f0": VoiceSetting(Setting(50, 400), ("--setf", "int_f0_target_mean={value}")),
        },
        install="apt-get install flite, or brew install flite",
        example="slt,stretch=1.2",
    ),
    "piper": Program(
        argv=("piper", "-m", VOICE, "-i", TEXT, "-f", OUTPUT),
        voices=_piper_voices,
        settings={
            name: VoiceSetting(PIPER_SETTINGS[name], (f"--{name.replace('_', '-')}", "{value}"))
            for name in PIPER_SETTINGS
        },
        install="pip install piper-tts",
        example="en_US-lessac-medium,length_scale=1.1",
    ),
}


# --- the plug-ins ----------------------------------------------------------------------------------------------------


class CommandTTS:
    """TTS plug-in ``command``: a program that is known by ``engine``, or one of your own by ``argv``.

    ``engine``: a name in ``PROGRAMS``. ``argv`` with ``voices``: a list of arguments as ``Program`` explains, and the names that
    ``{voice}`` may stand for. ``version``: which version it is, for the fingerprint, where the program does not say so.
    ``voices_dir``: a folder of voice files (Piper, flite). ``executable``: where the program lies, if not on the search path.
    ``timeout_seconds``: an utterance that takes longer is given up.

    Raises ``MissingExtraError`` where the program is not installed and ``UserInputError`` for options that do not fit together.
    """

    def __init__(
        self,
        engine: str | None = None,
        argv: Sequence[str] | None = None,
        voices: Sequence[str] | None = None,
        version: str | None = None,
        voices_dir: str | None = None,
        executable: str | None = None,
        timeout_seconds: float = 60.0,
    ) -> None:
        if not timeout_seconds > 0:
            raise UserInputError(f"tts 'command': timeout_seconds is {timeout_seconds}; expected more than 0.")
        folder = resolve_path(voices_dir) if voices_dir is not None else None
        if folder is not None and not folder.is_dir():
            raise UserInputError(f"tts 'command': there is no folder voices_dir {voices_dir!r}.")
        self._program = _program(engine, argv, voices)
        self._name = engine or Path(self._program.argv[0]).name
        self._executable = _executable(executable or self._program.argv[0], self._name, self._program.install)
        self._timeout_seconds = timeout_seconds
        self._voices = dict(self._program.voices(self._executable, folder))
        self._settings = {name: setting.range for name, setting in self._program.settings.items()}
        files = [path for path in self._voices.values() if os.path.isabs(path) or os.sep in path]
        told = version or _version(self._executable, self._program.version)
        parts = [f"{self._name} {told}", *([] if argv is None else [f"argv={list(self._program.argv)}"])]
        if folder is not None:
            parts.append(f"voices={files_digest(path for path in sorted(files) if Path(path).is_file())}")
        self._fingerprint = f"command({', '.join(parts)})"

    def fingerprint(self) -> str:
        return self._fingerprint

    def voices(self) -> list[str]:
        return sorted(self._voices)

    def speak(self, text: str, voice: str) -> Audio:
        """``text`` in ``voice``, at the program's own sample rate.

        Raises ``UnknownNameError`` for a voice the program does not have, and ``AudioError``, naming the cause, where there is nothing
        to say, the program ends with an error, takes too long, or writes no sound.
        """
        check_text(text)
        name, values = parse_settings(voice, self._settings, self._program.example or "NAME")
        if name not in self._voices:
            raise UnknownNameError(f"{self._name} voice", name, self._voices)
        said = self._program.prepare(" ".join(text.split()))  # programs that read line by line would stop at the first
        with tempfile.TemporaryDirectory(prefix="salad-tts-") as folder:
            text_file, output = Path(folder, "text.txt"), Path(folder, "speech.wav")
            text_file.write_text(said + "\n", encoding="utf-8")
            places = {TEXT: str(text_file), OUTPUT: str(output), VOICE: self._voices[name]}
            arguments = [_filled(argument, places) for argument in self._program.argv[1:]]
            for key, value in values.items():
                arguments[:0] = [one.replace("{value}", f"{value:g}") for one in self._program.settings[key].arguments]
            self._run([self._executable, *arguments], said, text_file, output)
            return self._read(output, text)

    def _run(self, argv: list[str], said: str, text_file: Path, output: Path) -> None:
        by_file, to_file = (any(place in one for one in self._program.argv) for place in (TEXT, OUTPUT))
        with (
            open(os.devnull if by_file else text_file, "rb") as source,
            open(os.devnull if to_file else output, "wb") as sink,
            tempfile.TemporaryFile() as errors,
        ):
            try:
                process = subprocess.Popen(
                    [*_ends_with_us(), *argv], stdin=source, stdout=sink, stderr=errors, start_new_session=True
                )
            except OSError as cause:
                raise PluginError(f"tts {self._name!r}: {argv[0]} could not be started: {cause}.") from None
            try:
                code = process.wait(self._timeout_seconds)
            except subprocess.TimeoutExpired:
                raise AudioError(
                    f"{self._name} was given up after {self._timeout_seconds:g} s (timeout_seconds) on {said!r:.80}"
                ) from None
            finally:
                if process.poll() is None:  # also where this process was asked to end
                    _kill(process)
            if code != 0:
                errors.seek(0)
                lines = errors.read().decode(errors="replace").strip().splitlines()
                if _ends_with_us() and lines and lines[-1].startswith("setpriv: failed to execute "):
                    why = lines[-1].rpartition(": ")[2]
                    raise PluginError(f"tts {self._name!r}: {argv[0]} could not be started: {why}.")
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                why = f": {lines[-1][:300]}" if lines else ""
                raise AudioError(f"{self._name} ended with {how} on {said!r:.80}{why}")

    def _read(self, output: Path, text: str) -> Audio:
        if not output.is_file() or output.stat().st_size == 0:
            raise AudioError(f"{self._name} wrote no sound for {text!r:.80}")
        try:
            return read_audio(output)
        except AudioError as cause:
            reason = str(cause).replace(str(output), "what it wrote")
            raise AudioError(f"{self._name} wrote no usable sound for {text!r:.80}: {reason}") from None


class EspeakNgTTS(CommandTTS):
    """TTS plug-in ``espeak-ng``: the program of that name. ``pyttsx3`` speaks with the same voices and is many times faster."""

    def __init__(self, executable: str | None = None, timeout_seconds: float = 60.0) -> None:
        super().__init__("espeak-ng", executable=executable, timeout_seconds=timeout_seconds)


class FliteTTS(CommandTTS):
    """TTS plug-in ``flite``: voices such as ``slt`` or ``rms,stretch=1.2``, and ``.flitevox`` files in ``voices_dir``."""

    def __init__(
        self, voices_dir: str | None = None, executable: str | None = None, timeout_seconds: float = 60.0
    ) -> None:
        super().__init__("flite", voices_dir=voices_dir, executable=executable, timeout_seconds=timeout_seconds)


class PiperCliTTS(CommandTTS):
    """TTS plug-in ``piper-cli``: the program of that name with the ``.onnx`` voices in ``voices_dir``. ``piper`` loads a voice once.

    The program draws noise anew each time; ``noise_scale=0,noise_w_scale=0`` in a voice makes it the same at each call.
    """

    def __init__(self, voices_dir: str, executable: str | None = None, timeout_seconds: float = 120.0) -> None:
        super().__init__("piper", voices_dir=voices_dir, executable=executable, timeout_seconds=timeout_seconds)


# --- starting and reading --------------------------------------------------------------------------------------------


def _program(engine: str | None, argv: Sequence[str] | None, voices: Sequence[str] | None) -> Program:
    if (engine is None) == (argv is None):
        raise UserInputError(f"tts 'command': give either engine ({', '.join(PROGRAMS)}) or argv, a list of arguments.")
    if engine is not None:
        if engine not in PROGRAMS:
            raise UnknownNameError("tts engine", engine, PROGRAMS)
        if voices is not None:
            raise UserInputError(f"tts 'command': voices goes with argv; the voices of {engine} are its own.")
        return PROGRAMS[engine]
    if isinstance(argv, str) or not argv or not all(isinstance(one, str) for one in argv):
        raise UserInputError(f"tts 'command': argv is {argv!r}; expected a list of strings, the program first.")
    if isinstance(voices, str) or not voices or not all(isinstance(one, str) for one in voices):
        raise UserInputError(
            f"tts 'command': voices is {voices!r}; expected a list of the names that argv's {VOICE} may be."
        )
    names = {name: name for name in voices}
    return Program(argv=tuple(argv), voices=lambda *_: names, example=voices[0])


def _executable(name: str, engine: str, install: str) -> str:
    found = shutil.which(os.path.expanduser(name))
    if found is None:
        if install:
            raise MissingExtraError(f"tts {engine!r}", name, install)
        raise UserInputError(f"tts 'command': there is no program {name!r} that can be run. Give its path.")
    return found


def _filled(argument: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        argument = argument.replace(place, value)
    return argument


def _said_by(argv: Sequence[str]) -> str:
    """What a program writes when it is asked about itself."""
    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=START_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise PluginError(f"tts: {argv[0]} could not be asked about itself ({' '.join(argv)}): {cause}.") from None
    return (done.stdout + done.stderr).decode(errors="replace")


def _version(executable: str, arguments: Sequence[str]) -> str:
    """The first version number in what the program says of itself (some end with an error after it), else a hash of its file."""
    with contextlib.suppress(PluginError):
        if found := _VERSION.search(_said_by([executable, *arguments])):
            return found.group()
    return files_digest([executable])


@cache
def _ends_with_us() -> tuple[str, ...]:
    """What is put before a program so that it ends with this process, even if that is killed; nothing where the system has no such
    thing (Linux has, in util-linux from 2.33 on)."""
    words = ("setpriv", "--pdeathsig", "KILL", "--")
    if sys.platform != "linux" or shutil.which(words[0]) is None:
        return ()
    tried = subprocess.run([*words, sys.executable, "-c", ""], capture_output=True, check=False)
    return words if tried.returncode == 0 else ()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
