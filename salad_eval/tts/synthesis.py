"""One synthesis: spoken, checked, and kept in the store."""

from __future__ import annotations

from dataclasses import dataclass

from salad_eval.audio.perturb import perturbation
from salad_eval.audio.sound import SAMPLE_RATE_HZ, problem, resample
from salad_eval.audio.store import AudioStore, SpeechRequest, StoredSound
from salad_eval.errors import AudioError, PluginError, SaladError
from salad_eval.types import TTS


@dataclass(frozen=True, slots=True)
class Failure:
    """Why no sound could be made for a request."""

    reason: str
    detail: str = ""


def synthesise(engine: TTS, store: AudioStore, request: SpeechRequest, retries: int) -> StoredSound | Failure:
    """Speak a request, check the sound, and keep it; asked again up to ``retries`` times where it fails.

    The reasons are those of ``sound.problem`` and ``tts_error`` where the engine raised ``AudioError``. The check is on
    the clean sound: a perturbation may well hide what is missing. Any other error ends the run: a ``SaladError`` as it is
    (an unknown voice, a full disk), a bug of the plug-in as ``PluginError``.
    """
    failure = Failure("tts_error")
    for _ in range(1 + retries):
        try:
            audio = resample(engine.speak(request.spoken_text, request.voice), SAMPLE_RATE_HZ)
        except AudioError as cause:
            failure = Failure("tts_error", str(cause))
            continue
        except SaladError:
            raise
        except Exception as cause:  # a bug in the plug-in: the same end of the run in this process and in a worker
            raise PluginError(
                f"the TTS plug-in failed on {request.spoken_text!r:.80} in voice {request.voice!r}: "
                f"{type(cause).__name__}: {cause}"
            ) from cause
        found = problem(audio, request.spoken_text)
        if found is None:
            return store.put_sound(perturbation(request.perturbation)(audio))
        failure = Failure(found, f"{audio.seconds:.2f} s for {request.spoken_text!r:.80} in voice {request.voice!r}")
    return failure
