"""What a speech LLM that reads by CTC (``readout: ctc``) writes of the questions of a run, beside what was said.

    python -m tests.study.written RUN [--show N] [--trained-on QUESTIONS.jsonl --first 4000]

``RUN``: the folder of a ``salad run`` whose speech LLM has such a checkpoint and keeps ``frames``. Prints the share of tokens missed
(edit distance over tokens), of tokens that no training span had, of positions that are read, and every N-th question as it is written.
``--trained-on``: also the share of tokens that are not written in their place, by how many of the first documents of a corpus hold them.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import jiwer
import torch

from salad_eval.pipeline.render import RenderOutcome
from salad_eval.records import read_jsonl
from salad_train.model import SaladForConditionalGeneration, SaladProcessor
from salad_train.model.loading import load_salad
from salad_train.model.readout import CtcReadout, written
from salad_train.training.frames import FrameStore, pad_frames
from salad_train.training.stages import open_store

BANDS = (10, 40, 160, 640)  # documents that hold a token


@dataclass(frozen=True, slots=True)
class Written:
    """A question as it was said and as the adapter writes it, in tokens; ``positions`` of its recording, ``read`` of them."""

    said: tuple[int, ...]
    written: tuple[int, ...]
    positions: int
    read: int


@torch.no_grad()
def write(
    model: SaladForConditionalGeneration, processor: SaladProcessor, store: FrameStore, run: Path
) -> Iterator[Written]:
    """Each recording of the run."""
    readout = model.readout
    if not isinstance(readout, CtcReadout):
        raise SystemExit("the speech LLM of this run does not read by CTC: its ctc_tokens is 0.")
    for outcome in read_jsonl(run / "render.jsonl", RenderOutcome):
        if outcome.rendering is None:
            continue
        frames, lengths = pad_frames([store.get(outcome.rendering.sha256)])
        heard, positions = model.adapted(encoder_hidden_states=frames, encoder_lengths=lengths)
        scores = readout.scores(heard, model.get_input_embeddings().weight)
        read = written(scores, positions)[0]
        said = processor.tokenizer(f" {outcome.rendering.spoken_text}", add_special_tokens=False)["input_ids"]
        tokens = [int(readout.ids[best - 1]) for best in scores[0].argmax(-1)[read].tolist() if best]
        yield Written(tuple(said), tuple(tokens), int(positions[0]), int(read.sum()))


def counted(corpus: Path, first: int, processor: SaladProcessor) -> Counter[int]:
    """In how many of the first documents of a corpus each token stands."""
    found: Counter[int] = Counter()
    with corpus.open(encoding="utf-8") as lines:
        for line in itertools.islice(lines, first):
            found.update(set(processor.tokenizer(json.loads(line)["text"], add_special_tokens=False)["input_ids"]))
    return found


def missed_by_count(found: Sequence[Written], counts: Counter[int]) -> list[tuple[str, int, float]]:
    """For each band of counts: its name, how many tokens said are in it, and the share of them that is not written in its place."""
    hit: Counter[int] = Counter()
    of: Counter[int] = Counter()
    for one in found:
        hits = {
            place
            for block in SequenceMatcher(None, one.said, one.written, autojunk=False).get_matching_blocks()
            for place in range(block.a, block.a + block.size)
        }
        for place, token in enumerate(one.said):
            band = bisect.bisect_right(BANDS, counts[token])
            of[band] += 1
            hit[band] += place in hits
    names = [
        f"under {BANDS[0]}",
        *(f"{low} to {high - 1}" for low, high in itertools.pairwise(BANDS)),
        f"{BANDS[-1]} or more",
    ]
    return [(name, of[band], 1 - hit[band] / of[band]) for band, name in enumerate(names) if of[band]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--show", type=int, default=10)
    parser.add_argument("--trained-on", type=Path)
    parser.add_argument("--first", type=int, default=4000)
    options = parser.parse_args()
    asked = json.loads((options.run / "plan.json").read_text(encoding="utf-8"))["adapted"]["options"]
    model, processor = load_salad(asked["pretrained"], device="cpu")
    found = list(write(model, processor, open_store(Path(asked["frames"]), model), options.run))
    known = set(model.readout.ids.tolist()) if model.readout is not None else set()
    said = [token for one in found for token in one.said]
    texts = [[" ".join(map(str, tokens)) for tokens in (one.said, one.written)] for one in found]
    missed = jiwer.wer([said for said, _ in texts], [heard for _, heard in texts])
    print(f"{len(found)} recordings, {len(said):,} tokens: {missed:.1%} missed")
    print(f"in no training span: {sum(token not in known for token in said) / len(said):.1%} of the tokens")
    print(f"read: {sum(one.read for one in found) / sum(one.positions for one in found):.0%} of the positions")
    if options.trained_on is not None:
        for name, n, share in missed_by_count(found, counted(options.trained_on, options.first, processor)):
            print(f"tokens in {name} of the documents trained on: {n:,}, {share:.0%} missed")
    for one in found[:: options.show]:
        print(f"  {processor.tokenizer.decode(one.said).strip()}  →  {processor.tokenizer.decode(one.written).strip()}")


if __name__ == "__main__":
    main()
