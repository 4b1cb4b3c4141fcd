"""TTS plug-in ``kokoro`` (an extra): Kokoro-82M by its own package, the voice the SALAD paper renders its speech with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from salad_eval.checkpoints import explained, resolve_device
from salad_eval.errors import AudioError, MissingExtraError, ModelError, UnknownNameError, UserInputError, did_you_mean
from salad_eval.identity import files_digest
from salad_eval.resources import resolve_pretrained
from salad_eval.tts.checkpoint import own_noise, refuse_unspoken, to_audio
from salad_eval.tts.voice import Setting, check_text, parse_settings
from salad_eval.types import Audio

INSTALL = "pip install 'salad-gap[kokoro]'"
REPOSITORY = "hexgrad/Kokoro-82M"
SAMPLE_RATE_HZ = 24_000  # of every Kokoro model; its configuration does not say so
LANGUAGES: Mapping[str, str] = {"en-us": "a", "en-gb": "b"}
SETTINGS = {"speed": Setting(0.5, 2.0)}

G2P = Literal["misaki", "espeak"]


class KokoroTTS:
    """Speech by Kokoro, the same for the same text, voice and ``seed``.

    ``pretrained`` is a hub id or a folder with ``config.json``, one ``.pth`` file and ``voices/NAME.pt``. The package reads those with
    torch's reader of plain tensors, which runs no code. Voices are names such as ``af_heart``, or ``af_heart,speed=1.2``. ``language`` is
    ``en-us`` or ``en-gb``. ``g2p`` says who writes the text in phonemes: ``misaki``, as the model was trained, which needs spaCy's English
    model, or ``espeak``, which needs nothing more and is further from it.

    Raises ``MissingExtraError`` where the package is not installed and ``ModelError`` for a folder that lacks a file.
    """

    def __init__(
        self,
        pretrained: str = REPOSITORY,
        language: str = "en-us",
        g2p: G2P = "misaki",
        seed: int = 0,
        device: str = "auto",
        revision: str | None = None,
    ) -> None:
        for name, value, known in (("language", language, tuple(LANGUAGES)), ("g2p", g2p, tuple(_G2P))):
            if value not in known:
                raise UserInputError(
                    f"tts 'kokoro': {name} is {value!r}{did_you_mean(str(value), known)}; expected one of {', '.join(known)}."
                )
        _package()
        self._source, self._language, self._g2p, self._seed = resolve_pretrained(pretrained), language, g2p, seed
        folder = _folder(self._source, revision)
        self._config, self._weights, self._voices = _files(self._source, folder)
        self._device = resolve_device(device)
        identity = _digest(folder) if Path(self._source).is_dir() else f"hub:{self._source}@{folder.name}"
        self._fingerprint = (
            f"kokoro({identity},language={language},g2p={g2p},seed={seed},"
            f"kokoro={version('kokoro')},misaki={version('misaki')})"
        )

    def fingerprint(self) -> str:
        return self._fingerprint

    def voices(self) -> list[str]:
        return sorted(self._voices)

    @cached_property
    def _model(self) -> Any:
        with explained(self._source, "model"):
            model = _package().KModel(repo_id=REPOSITORY, config=str(self._config), model=str(self._weights))
        return model.to(self._device).eval()

    @cached_property
    def _phonemes(self) -> Callable[[str], list[str]]:
        try:
            return _G2P[self._g2p](self._language)
        except (Exception, SystemExit) as cause:  # spaCy ends the process where it cannot fetch its English model
            raise ModelError(
                f"tts 'kokoro': cannot load the {self._g2p} phonemes for {self._language} ({type(cause).__name__}: {cause}). "
                "For misaki, install spaCy's model: python -m spacy download en_core_web_sm; or set g2p=espeak."
            ) from None

    def speak(self, text: str, voice: str) -> Audio:
        """``text`` in ``voice``, at 24 kHz.

        Raises ``UnknownNameError`` for a voice that is not there and ``AudioError`` where there is nothing to say, or something of it
        would be left out.
        """
        import torch

        check_text(text)
        name, values = parse_settings(voice, SETTINGS, "af_heart,speed=1.2")
        if name not in self._voices:
            raise UnknownNameError("Kokoro voice", name, self._voices)
        parts = self._phonemes(text)
        if not parts:
            raise AudioError(f"kokoro has nothing to say for {text!r:.80}")
        model = self._model
        with explained(str(self._voices[name]), "voice"):
            styles = torch.load(self._voices[name], weights_only=True, map_location=self._device)
        sound = []
        for phonemes in parts:
            refuse_unspoken(text, "".join(one for one in phonemes if one not in model.vocab), self._source)
            if len(phonemes) > min(len(styles), model.context_length - 2):
                raise AudioError(f"kokoro takes {len(styles)} phonemes at a time and {text!r:.80} has {len(phonemes)}")
            with torch.inference_mode(), own_noise(self._device, self._seed, voice, text):
                sound.append(model(phonemes, styles[len(phonemes) - 1], values.get("speed", 1.0)))
        return to_audio(torch.cat([one.reshape(-1) for one in sound]), SAMPLE_RATE_HZ, text)


# --- phonemes --------------------------------------------------------------------------------------------------------


def _by_misaki(language: str) -> Callable[[str], list[str]]:
    """The package's own way, in parts that the model can take at once."""
    pipeline = _package().KPipeline(lang_code=LANGUAGES[language], repo_id=REPOSITORY, model=False)

    def phonemes(text: str) -> list[str]:
        parts = list(pipeline(text))
        for part in parts:
            for token in part.tokens or ():
                if not token.phonemes:
                    refuse_unspoken(text, token.text, "kokoro")
        return [part.phonemes for part in parts]

    return phonemes


def _by_espeak(language: str) -> Callable[[str], list[str]]:
    from misaki.espeak import EspeakG2P

    convert = EspeakG2P(language=language)

    def phonemes(text: str) -> list[str]:
        found, _ = convert(text)
        return [found] if found else []

    return phonemes


_G2P: Mapping[str, Callable[[str], Callable[[str], list[str]]]] = {"misaki": _by_misaki, "espeak": _by_espeak}


# --- files -----------------------------------------------------------------------------------------------------------


def _package() -> Any:
    try:
        import kokoro
    except ImportError as cause:
        if (cause.name or "").partition(".")[0] not in ("kokoro", "misaki", "loguru", "spacy"):
            raise
        raise MissingExtraError("tts 'kokoro'", cause.name or "kokoro", INSTALL) from None
    return kokoro


def _folder(source: str, revision: str | None) -> Path:
    """The folder itself, or the local copy of what the hub has."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    with explained(source, "model"):
        return Path(
            snapshot_download(source, revision=revision, allow_patterns=["config.json", "*.pth", "voices/*.pt"])
        )


def _files(source: str, folder: Path) -> tuple[Path, Path, dict[str, Path]]:
    """Configuration, weights and voices of a folder. Raises ``ModelError`` naming what is missing."""
    config, weights = folder / "config.json", sorted(folder.glob("*.pth"))
    voices = {path.stem: path for path in sorted((folder / "voices").glob("*.pt"))}
    if not config.is_file() or len(weights) != 1 or not voices:
        raise ModelError(
            f"{source} is no Kokoro folder: expected config.json, one .pth file ({len(weights)} are there) and voices/NAME.pt "
            f"({len(voices)} are there)."
        )
    return config, weights[0], voices


def _digest(folder: Path) -> str:
    return files_digest(
        [folder / "config.json", *sorted(folder.glob("*.pth")), *sorted((folder / "voices").glob("*.pt"))]
    )
