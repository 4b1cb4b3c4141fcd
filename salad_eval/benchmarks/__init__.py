"""Benchmarks: from a task's YAML to items."""

from salad_eval.benchmarks.packaged import packaged_dataset

__all__ = ["packaged_dataset"]
