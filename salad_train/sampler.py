"""The sampler, where a trainer of your own finds it: ``from salad_train.sampler import GapSampler``. It is ``steering.sampler``."""

from salad_train.steering.sampler import GapSampler

__all__ = ["GapSampler"]
