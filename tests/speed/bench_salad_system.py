"""How long a speech column takes: requests of one recording and four options, at the sizes of the embedded models.

    python tests/speed/bench_salad_system.py [--items 1700] [--seconds 2.5] [--threads 2]

Random weights (speed does not depend on them). Prints processor time, which other work on the machine does not change
much, and wall time.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, ParakeetCTCConfig, ParakeetFeatureExtractor, ParakeetForCTC

from salad_eval.batches import of_like_length
from salad_eval.systems import branching
from salad_eval.types import Audio, AudioSegment, Request, TextSegment
from salad_train.model import SaladAdapterConfig, SaladForConditionalGeneration, SaladProcessor
from salad_train.model.system import SaladSystem
from tests.helpers.speech_llm_world import tokenizer
from tests.speed.measured import Measured, tell


def nano_sized() -> tuple[SaladForConditionalGeneration, SaladProcessor]:
    torch.manual_seed(0)
    encoder = ParakeetForCTC(
        ParakeetCTCConfig(
            vocab_size=30,
            pad_token_id=29,
            encoder_config={
                "hidden_size": 144, "num_hidden_layers": 5, "num_attention_heads": 4, "intermediate_size": 288,
                "subsampling_factor": 4, "subsampling_conv_channels": 32, "num_mel_bins": 64,
            },
        )
    )  # fmt: skip
    lm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=2048, hidden_size=192, intermediate_size=512, num_hidden_layers=4, num_attention_heads=6,
            max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=1,
        )
    )  # fmt: skip
    adapter = SaladAdapterConfig(
        hidden_size=192, intermediate_size=512, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=6
    )
    model = SaladForConditionalGeneration.from_parts(encoder, lm, adapter, stack_frames=2)
    return model, SaladProcessor.from_parts(ParakeetFeatureExtractor(feature_size=64), tokenizer(), model.config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1700)
    parser.add_argument("--seconds", type=float, default=2.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=0, help="requests a call; 0: all in one")
    parser.add_argument("--batch-seconds", type=float, default=40.0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, processor = nano_sized()
    rng = np.random.default_rng(0)
    requests = []
    for k in range(args.items):
        n = int(16_000 * args.seconds * rng.uniform(0.6, 1.4))
        audio = Audio((0.1 * rng.standard_normal(n)).astype(np.float32), 16_000)
        prompt = (TextSegment("Question: "), AudioSegment(audio, f"{k:064x}"), TextSegment("\nAnswer:"))
        options = tuple(f" {word} {k % 7}" for word in ("gold", "Paris", "a river", "rain"))
        requests.append(Request(str(k), prompt, options))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        system = SaladSystem(folder, device="cpu", batch_seconds=args.batch_seconds)
    audios = [request.prompt[1].audio for request in requests]  # type: ignore[union-attr]
    took: dict[str, float] = {"features": 0.0, "encoder": 0.0, "adapter": 0.0}
    with torch.no_grad():
        for batch in of_like_length([audio.seconds for audio in audios], args.batch_seconds):
            t0 = time.process_time()
            features = processor.extract([audios[i].samples for i in batch])
            t1 = time.process_time()
            frames, lengths = system.model.encode_audio(**features)
            t2 = time.process_time()
            system.model.get_audio_features(encoder_hidden_states=frames, encoder_lengths=lengths)
            t3 = time.process_time()
            for name, seconds in zip(took, (t1 - t0, t2 - t1, t3 - t2), strict=True):
                took[name] += seconds
    size = args.chunk or len(requests)
    began, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(requests), size):
        system.loglikelihoods(requests[start : start + size])
    whole, cpu = time.perf_counter() - began, time.process_time() - cpu
    prefixes, continuations, _ = system._encoded(requests)
    began = time.process_time()
    branching.continuation_logprobs(system.model.language_model, prefixes, continuations)
    took["options (LM)"] = time.process_time() - began
    sound = sum(audio.seconds for audio in audios)
    print(f"{args.items} requests, {sound:.0f} s of sound, {args.threads} threads; processor time")
    for name, seconds in took.items():
        print(f"  {name:14s} {seconds:6.2f} s   {1000 * seconds / args.items:6.2f} ms a request")
    what = f"a question of one recording and 4 options, {args.threads} thread(s)"
    tell(Measured(f"{what}, processor time", 1000 * cpu / args.items, "ms", better="less"))
    print(f"  whole          {cpu:6.2f} s   {1000 * cpu / args.items:6.2f} ms a request; {whole:.2f} s of wall time")


if __name__ == "__main__":
    main()
