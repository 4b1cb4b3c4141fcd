"""The callback, where a trainer of your own finds it: ``from salad_train.callback import GapCallback``. It is ``steering.callback``."""

from salad_train.steering.callback import GapCallback, GapMeasurement

__all__ = ["GapCallback", "GapMeasurement"]
