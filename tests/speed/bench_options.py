"""Option scoring against lm-eval's own ``hf`` model: same weights, same requests, same machine, one run.

    python tests/speed/bench_options.py [--items 64] [--threads 1] [--parameters 20]
    python -m tests.speed.bench_options --items 200 --shot-items 40 --threads 2 --pretrained FILE.gguf

A random Llama with a byte-level BPE tokenizer trained here, float32, saved as a Hugging Face folder that both load; or a real model in a
GGUF file, asked real questions: those of ARC-Easy, where the environment variable SALAD_SHARED_DATA names the folder that has them.
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
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

BARS = {"5-shot, shared shots": 10.0, "5-shot, shots per item": 4.0, "zero-shot": 2.5}
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


def arc_easy(rng: random.Random) -> list[tuple[str, list[str]]]:
    """Questions of ARC-Easy with their options, the right one first, in an order drawn anew."""
    from tests.helpers.benchmark_rows import REAL_ROWS

    rows = REAL_ROWS["salad_arc_easy"]()["test"]
    made = []
    for row in rows:
        right = row["choices"]["label"].index(row["answerKey"])
        texts = row["choices"]["text"]
        made.append((row["question"], [texts[right], *texts[:right], *texts[right + 1 :]]))
    rng.shuffle(made)
    return made


def both_sides(
    pretrained: str | None, folder: Path, texts: list[str], arguments: argparse.Namespace
) -> tuple[Any, Any]:
    """Our system and lm-eval's, on the same weights in float32."""
    from lm_eval.models.huggingface import HFLM

    from salad_eval.systems.hf_text import HFTextSystem

    options = {"device": arguments.device, "batch_tokens": arguments.batch_tokens}
    if pretrained is None:
        build_model(folder, texts, arguments.parameters)
        theirs = HFLM(pretrained=str(folder), dtype="float32", device=arguments.device, batch_size=1)
        return HFTextSystem(str(folder), **options), theirs
    from transformers import AutoModelForCausalLM

    from salad_eval.resources import resolve_path

    path = Path(resolve_path(pretrained))
    ours = HFTextSystem(str(path), **options)
    model = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype="float32").eval()
    return ours, HFLM(pretrained=model, tokenizer=ours.tokenizer, batch_size=1, device=arguments.device)


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
    parser.add_argument("--shot-items", type=int, help="of the settings with shots; by default as many")
    parser.add_argument("--pretrained", help="a GGUF file instead of a random model, asked real questions")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-tokens", type=int, default=None)
    arguments = parser.parse_args()

    import logging

    import torch
    from lm_eval.api.instance import Instance

    from salad_eval.types import Request, TextSegment
    from tests.speed.measured import Measured, tell

    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    rng = random.Random(0)
    if arguments.pretrained:
        questions = arc_easy(rng)
        all_items, shots = questions[40 : 40 + arguments.items], questions[:40]
    else:
        all_items, shots = sentences(rng, arguments.items), sentences(rng, 40)

    # On one thread CPU time is what a quiet machine's clock would show, and other load does not disturb it.
    clock = time.process_time if arguments.device == "cpu" and arguments.threads == 1 else time.perf_counter

    def synchronised() -> float:
        if arguments.device.startswith("cuda"):
            torch.cuda.synchronize()
        return clock()

    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = [f"Question: {question}\nAnswer: {' '.join(options)}" for question, options in all_items + shots]
        ours, theirs = both_sides(arguments.pretrained, folder, texts, arguments)
        size = sum(p.numel() for p in ours.model.parameters()) / 1e6
        print(
            f"{arguments.pretrained or 'random Llama'}, {size:.1f}M parameters, float32, {arguments.device}, {arguments.threads} thread(s)"
        )
        for kind, bar in BARS.items():
            items = all_items if kind == "zero-shot" else all_items[: arguments.shot_items]
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

            def time_theirs(
                batch_size: int, instances: list[Instance], softmax: torch.dtype | None = None
            ) -> tuple[float, list[float]]:
                theirs.batch_size_per_gpu, theirs.softmax_dtype = batch_size, softmax
                start = synchronised()
                values = [value for value, _ in theirs.loglikelihood(instances, disable_tqdm=True)]
                return synchronised() - start, values

            part = instances[: 4 * max(4, len(items) // 8)]
            trials = {size: time_theirs(size, part)[0] for size in CANDIDATE_BATCH_SIZES}
            best = min(trials, key=lambda batch_size: trials[batch_size])
            # Over a large vocabulary its softmax errs in float32 (findings/torch_log_softmax_large_vocabulary.sh).
            runs = [(time_ours(), time_theirs(best, instances, softmax)) for softmax in (None, torch.float64)]
            our_time, their_time = (min(run[side][0] for run in runs) for side in (0, 1))
            our_values, their_values = (side[1] for side in runs[1])
            pairs = list(zip(our_values, their_values, strict=True))
            difference = max(abs(a - b) for a, b in pairs)
            far = max(abs(a - b) / (1e-4 + 3e-6 * abs(a)) for a, b in pairs)
            ratio = their_time / our_time
            tokens = sum(len(ours.tokenizer.encode(context)) for context in contexts) / len(contexts)
            aim = f" (bar {bar:g}x)" if bar else ""
            print(
                f"{kind}, {len(items)} items: {tokens:.0f} prompt tokens; "
                f"lm-eval (batch size {best}) {len(items) / their_time:.1f} items/s, "
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
            failed |= far > 1 or (bar is not None and ratio < bar)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
