"""The command ``salad``: options in, one call, views out. Nothing is computed here.

main.py         the app and its exit codes
run.py          ``salad run``: its options
report.py       ``salad report | compare``
tasks.py        ``salad tasks …``
speech.py       ``salad render | transcribe``
share.py        ``salad export | import | card``
lm_eval.py      ``salad lm-eval | from-lm-eval | to-lm-eval``
plugins.py      ``salad plugins``
doctor.py       ``salad doctor``
model_checks.py ``salad doctor --models | --check-model``

    store.py  ``salad store``
    items.py   ``salad items``, ``salad rescore``
    check.py   ``salad check``
    listing.py lists in the terminal, names whole
    names.py   names as they are given on the command line
    voices.py  ``salad voices``
"""
