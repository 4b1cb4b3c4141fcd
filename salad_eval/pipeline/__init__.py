"""From a plan to a gap report.

    run.py          the line, on one page: items -> render -> transcribe -> respond -> score -> divergence -> report
    plan.py         what a run depends on, typed
    items.py        what is asked: tasks and items, read and checked
    render.py       items to sound        transcribe.py   sound to transcripts
    limits.py       what the speech system cannot hear whole, left out
    respond.py      prompts to answers    score.py        answers to right and wrong
    divergence.py   F, M and D            columns.py      whose system answers, in what form it is asked (named in types.py)
    speak.py        what a process that speaks does for render.py
    speech.py       what there is to hear of the items, as prompts need it
    session.py      a run under way: folder, plug-ins, sound; what is refused before anything is touched
    folder.py       the keeper of results: one JSONL a step, under a key and with a checksum
    engines.py      which engine does the work; an engine is added here
    executor.py     work done here or by processes (worker.py), with what they have opened (tools.py)    cluster.py      or by a Ray cluster
    arrays.py       arrays as they cross to another process    allocator.py    what becomes of memory that they free
    apart.py        voices that are not ours, built elsewhere before they are built here
    care.py         what plug-ins fail on, item by item    deadline.py     those that do not come back
    finished.py     a finished run, read back
    controls.py     controls: answers of a system that was never asked
    costs.py        what each column took, and what that costs
    estimate.py     what a run would take
    rescore.py      stored answers, scored in another way

Each step's file holds its record (``STEP``: name, version, chunk size), a plain function over a chunk of records, and what its key is
made of.
"""
