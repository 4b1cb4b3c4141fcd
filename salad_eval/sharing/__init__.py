"""A run's sound and results, for others.

export.py       the sound of a run as a dataset
importing.py    an exported folder, checked; nothing of it is run
layout.py       its columns
rendered.py     what a run rendered, read back
shared_task.py  one task of an export
dataset_card.py the card of the dataset
model_card.py   a report as a block for a model card
eval_results.py a report as the hub's .eval_results files
"""
