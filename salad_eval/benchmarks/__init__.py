"""Benchmarks: from a task's YAML to items, and from an item to the request that a system gets. A benchmark is added as a YAML in tasks/.

YAML → ``spec`` (by ``reader``) → rows (``data``) → ``items``: text, options and gold as lm-eval prints them, and the spans that are
spoken.

    catalogue.py      tasks by name or path: ours, a YAML of one's own, any of lm-eval's
    reader.py         a task's YAML, read
    spec.py           what a task states, typed: lm-eval's keys and ours
    templates.py      lm-eval's template language, in a sandbox
    functions.py      the few functions that a YAML may name
    data.py           a task's rows: files, package, local mirror, datasets library
    row_values.py     a row's text, options and gold by the templates
    items.py          the rows of a task as items
    prompts.py        the question as lm-eval prints it, with the spans that are spoken
    spoken_spans.py   what a template prints of a row, apart from its fixed words
    lettered.py       how options are listed in the prompt where the task lists none
    shots.py          few-shot rows, drawn as lm-eval draws them
    shot_prompts.py   few-shot examples as they stand in the prompt
    recordings.py     ready sound as items, in place of a TTS
    requests.py       item → request, and the check that nothing spoken is also written
    scoring.py        how a task's answers become scores
    measures.py       lm-eval's metrics and filters of a task, which lm-eval runs
    domains.py        the domain and the slices of a row
    topics.py         domains for a benchmark that has none, by TF-IDF
    lm_eval_index.py  any task of the installed lm-eval, by name, group or tag
    lm_eval_fields.py what of an lm-eval task is spoken, where it states none of our fields
    coverage.py       how much of a benchmark can be asked aloud
    packaged.py       the embedded benchmark as a dataset for lm-eval
    hub.py            whether a model hub can be reached
    new_task.py       a task YAML of a table of questions
"""

from salad_eval.benchmarks.packaged import packaged_dataset

__all__ = ["packaged_dataset"]
