"""Option scoring against lm-eval's own ``hf`` model: same weights, same requests, same machine, one run.

    python tests/speed/bench_options.py [--items 64] [--threads 1] [--parameters 20]

A random Llama with a byte-level BPE tokenizer trained here, float32, saved as a Hugging Face folder that both load.
lm-eval gets the best of the batch sizes tried for it. Each setting is timed twice on both sides, in turns; the faster
run counts. The printed ratio is items per second; the log-probabilities of all options must agree within 1e-4.

The 5-shot prompts come in two kinds: the same five shots for all items (as MMLU and most harnesses' ``first_n`` do),
where shots are shared by items, and five drawn anew for each item (lm-eval's default sampler), where only an item's
options share its context.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BARS = {"5-shot, shared shots": 10.0, "5-shot, shots per item": None, "zero-shot": 2.0}
CANDIDATE_BATCH_SIZES = (1, 4, 16, 64)


def sentences(rng: random.Random, n: int) -> list[tuple[str, list[str]]]:
    """Questions of 20 to 50 words with four options of 2 to 6 words, over a vocabulary of made-up words."""
    syllables = [
        "ka",
        "lo",
        "mi",
        "ter",
        "sun",
        "bra",
        "ve",
        "non",
        "qui",
        "dor",
        "pel",
        "ash",
        "i",
        "gru",
        "ta",
        "ren",
    ]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(6000)]
    made = []
    for _ in range(n):
        question = " ".join(rng.choices(words, k=rng.randint(20, 50)))
        made.append((question.capitalize(), [" ".join(rng.choices(words, k=rng.randint(2, 6))) for _ in range(4)]))
    return made


def build_model(folder: Path, texts: list[str], million_parameters: int) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8000,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    ).save_pretrained(folder)
    hidden = 512
    layers = max(1, round((million_parameters * 1e6 - 8000 * hidden) / (hidden * hidden * 2.5 + 3 * hidden * 1408)))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8000,
        hidden_size=hidden,
        intermediate_size=1408,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        initializer_range=0.05,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def prompts(kind: str, items: list[tuple[str, list[str]]], shots: list[tuple[str, list[str]]], seed: int) -> list[str]:
    rng = random.Random(seed)

    def shown(question: str, answer: str) -> str:
        return f"Question: {question}\nAnswer:{answer}"

    made = []
    for question, _ in items:
        chosen = {"5-shot, shared shots": shots[:5], "5-shot, shots per item": rng.sample(shots, 5), "zero-shot": []}[
            kind
        ]
        examples = "".join(shown(q, f" {options[0]}") + "\n\n" for q, options in chosen)
        made.append(examples + shown(question, ""))
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parameters", type=int, default=20, help="millions")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-tokens", type=int, default=None)
    arguments = parser.parse_args()

    import logging

    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from salad_eval.systems.hf_text import HFTextSystem
    from salad_eval.types import Request, TextSegment
    from tests.speed.measured import Measured, tell

    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    rng = random.Random(0)
    items, shots = sentences(rng, arguments.items), sentences(rng, 40)

    # On one thread CPU time is what a quiet machine's clock would show, and other load does not disturb it.
    clock = time.process_time if arguments.device == "cpu" and arguments.threads == 1 else time.perf_counter

    def synchronised() -> float:
        if arguments.device.startswith("cuda"):
            torch.cuda.synchronize()
        return clock()

    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = [f"Question: {question}\nAnswer: {' '.join(options)}" for question, options in items + shots]
        build_model(folder, texts, arguments.parameters)
        ours = HFTextSystem(name, device=arguments.device, batch_tokens=arguments.batch_tokens)
        theirs = HFLM(pretrained=name, dtype="float32", device=arguments.device, batch_size=1)
        size = sum(p.numel() for p in ours.model.parameters()) / 1e6
        print(
            f"Llama, {size:.1f}M parameters, float32, {arguments.device}, {arguments.threads} thread(s), {len(items)} items, 4 options"
        )
        for kind, bar in BARS.items():
            contexts = prompts(kind, items, shots, seed=1)
            requests = [
                Request(str(i), (TextSegment(context),), tuple(" " + option for option in options))
                for i, (context, (_, options)) in enumerate(zip(contexts, items, strict=True))
            ]
            instances = [
                Instance("loglikelihood", {}, (context, " " + option), 0)
                for context, (_, options) in zip(contexts, items, strict=True)
                for option in options
            ]

            def time_ours(requests: list[Request] = requests) -> tuple[float, list[float]]:
                start = synchronised()
                values = [value for row in ours.loglikelihoods(requests) for value in row]
                return synchronised() - start, values

            def time_theirs(batch_size: int, instances: list[Instance]) -> tuple[float, list[float]]:
                theirs.batch_size_per_gpu = batch_size
                start = synchronised()
                values = [value for value, _ in theirs.loglikelihood(instances, disable_tqdm=True)]
                return synchronised() - start, values

            part = instances[: 4 * max(4, len(items) // 8)]
            trials = {size: time_theirs(size, part)[0] for size in CANDIDATE_BATCH_SIZES}
            best = min(trials, key=lambda batch_size: trials[batch_size])
            runs = [(time_ours(), time_theirs(best, instances)) for _ in range(2)]
            (our_time, our_values), (their_time, their_values) = min(r[0] for r in runs), min(r[1] for r in runs)
            difference = max(abs(a - b) for a, b in zip(our_values, their_values, strict=True))
            ratio = their_time / our_time
            tokens = sum(len(ours.tokenizer.encode(context)) for context in contexts) / len(contexts)
            aim = f" (bar {bar:g}x)" if bar else ""
            print(
                f"{kind}: {tokens:.0f} prompt tokens; lm-eval (batch size {best}) {len(items) / their_time:.1f} items/s, "
                f"salad {len(items) / our_time:.1f} items/s: {ratio:.1f}x{aim}; "
                f"largest log-probability difference {difference:.1e}",
                flush=True,
            )
            tell(
                Measured(
                    f"{kind}, {size:.0f}M parameters, {tokens:.0f} tokens, {arguments.threads} thread(s)", ratio, "×", bar,
                    against=f"lm-eval hf, batch size {best}",
                )
            )  # fmt: skip
            failed |= difference > 1e-4 or (bar is not None and ratio < bar)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
