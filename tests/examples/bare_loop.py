"""Gap-driven sampling in a training loop of one's own, with a checkpoint from which it goes on to the very same end.

python tests/examples/bare_loop.py              # stop it when you like, and start it again
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch.utils.data import DataLoader
from toy_world import DOMAINS, TRAINING, Measure, base_model
from transformers import default_data_collator

from salad_train.steering.callback import GapCallback
from salad_train.steering.sampler import GapSampler

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("runs/bare_loop"))
parser.add_argument("--steps", type=int, default=60)
out, steps = (options := parser.parse_args()).out, options.steps
out.mkdir(parents=True, exist_ok=True)

model = base_model()
measure = Measure(model)
sampler = GapSampler(measure(model), domains=DOMAINS)
callback = GapCallback(measure, sampler, every_steps=10, folder=out)
loader = DataLoader(TRAINING, batch_size=8, sampler=sampler, collate_fn=default_data_collator)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

step, epoch = 0, 0
if (out / "state.json").exists():
    state = json.loads((out / "state.json").read_text())
    load_model(model, out / "model.safetensors")
    sampler.load_state_dict(state["sampler"])  # the rest of the epoch, exactly
    step, epoch = state["step"], state["sampler"]["epoch"]
callback.resume(step)  # the history goes on from here

while step < steps:
    sampler.set_epoch(epoch)
    for batch in loader:
        model.train()
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if found := callback.step(model, step):  # one call: measures when it is time to, and re-weights the sampler
            by_domain = [
                f"{name} {gap:+.2f}, weight {sampler.weights[name]:.2f}" for name, gap in found.domains.items()
            ]
            print(f"step {step:3}  gap {found.gap:+.2f}  ({'; '.join(by_domain)})")
            save_model(model, out / "model.safetensors")
            (out / "state.json").write_text(json.dumps({"step": step, "sampler": sampler.state_dict()}))
        if step == steps:
            break
    epoch += 1
