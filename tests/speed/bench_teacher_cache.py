"""What a cache of the teacher leaves out, on the shipped nano models: D from k kept tokens against D in full, and bytes a position.

    python -m tests.speed.bench_teacher_cache [--documents 60] [--k 8 32 128]

Student: the shipped speech LLM reading the held-out form of its corpus as text and, to stand for one that misunderstands, with a
share of the tokens before each position replaced. Top-k is a lower bound position by position; sampling is right on average.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from salad_eval.checkpoints import load_causal_lm
from salad_train.model.loading import load_salad
from salad_train.nano import world
from salad_train.speech.interleave import as_text
from salad_train.training.batches import collate, make_example
from salad_train.training.objective import LogitHead, cached_divergences, position_divergences
from salad_train.training.teacher_cache import Keep, TeacherCache, fill_cache, spec_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--k", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.15])
    args = parser.parse_args()
    torch.set_num_threads(1)
    teacher, tokenizer = load_causal_lm("nano/base", dtype="float32", device="cpu")
    model, _ = load_salad("nano/speech", dtype="float32", device="cpu")
    teacher.requires_grad_(False)
    documents = world.corpus(0)
    step = max(1, len(documents) // args.documents)
    examples = [
        make_example(as_text(doc, tokenizer, append_eos=True), (), (), -1)
        for doc in documents[::step][: args.documents]
    ]
    batch = collate(examples, None)
    rng = torch.Generator().manual_seed(0)
    vocabulary = teacher.config.vocab_size
    heads = LogitHead.of(model.language_model), LogitHead.of(teacher)
    with torch.no_grad():
        theirs = teacher.base_model(input_ids=batch.teacher_ids).last_hidden_state.flatten(0, 1)[batch.teacher]
        readings = {}
        for noise in args.noise:
            other = torch.randint(vocabulary, batch.input_ids.shape, generator=rng)
            swapped = torch.rand(batch.input_ids.shape, generator=rng) < noise
            ids = torch.where(swapped, other, batch.input_ids)
            readings[noise] = model.hidden_states(model.embed(ids)).flatten(0, 1)[batch.student]
    kinds: list[tuple[Keep, int]] = [("top", k) for k in args.k] + [("sampled", k) for k in args.k]
    with tempfile.TemporaryDirectory() as folder:
        caches = {}
        for keep, k in kinds:
            caches[keep, k] = TeacherCache(Path(folder) / f"{keep}-{k}", spec_for(teacher, tokenizer, k=k, keep=keep))
            fill_cache(caches[keep, k], teacher, [example.teacher_ids for example in examples])
        print(f"{len(examples)} documents, {len(batch.targets)} positions, vocabulary {vocabulary}")
        for noise, ours in readings.items():
            full = position_divergences(ours, heads[0], theirs, heads[1]).double().numpy()
            print(f"{noise:.0%} of the tokens replaced: D = {full.mean():.4f} nats a position in full")
            for (keep, k), cache in caches.items():
                found = cached_divergences(ours, heads[0], cache.positions(examples)).numpy()
                gap = found - full
                bias, error = gap.mean() / full.mean(), gap.std() / len(gap) ** 0.5 / full.mean()
                print(
                    f"  {keep:8s} k = {k:4d}: {found.mean():.4f}, {bias:+8.2%} ± {error:.2%}; spread by position "
                    f"{np.sqrt(np.square(gap).mean()):.4f}; {cache.spec.record.itemsize} bytes a position"
                )


if __name__ == "__main__":
    main()
