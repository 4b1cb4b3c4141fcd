"""Gap-driven sampling in a plain ``transformers.Trainer``: one line draws examples by the gap, one keeps the gap up to date.

python tests/examples/plain_trainer.py
"""

import argparse

from toy_world import DOMAINS, TRAINING, Measure, base_model
from transformers import Trainer, TrainingArguments, default_data_collator

from salad_train.steering.callback import GapCallback, read_history
from salad_train.steering.sampler import GapSampler

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", default="runs/plain_trainer")
parser.add_argument("--steps", type=int, default=60)
out, steps = (options := parser.parse_args()).out, options.steps

model = base_model()
measure = Measure(
    model
)  # any function from the model to a GapReport; salad_train.steering.live.LiveGap is one for speech LLMs
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        out, max_steps=steps, per_device_train_batch_size=8, learning_rate=2e-3, save_strategy="no", report_to="none",
        use_cpu=True, disable_tqdm=True, logging_steps=steps,
    ),
    train_dataset=TRAINING,
    data_collator=default_data_collator,
)  # fmt: skip

# The report could as well be one on disk: GapSampler("runs/nano", …). DOMAINS: a label for each example of train_dataset.
sampler = GapSampler(measure(model), domains=DOMAINS)
sampler.attach(trainer)  # line one: draw by the gap
GapCallback(measure, sampler, every_steps=10, at_start=True).attach(trainer)  # line two: measure again, re-weight

trainer.train()

for found in read_history(out):
    by_domain = [f"{name} {gap:+.2f}, weight {found.update.weights[name]:.2f}" for name, gap in found.domains.items()]
    print(f"step {found.step:3}  gap {found.gap:+.2f}  ({'; '.join(by_domain)})")
