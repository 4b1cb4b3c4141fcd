"""What columns of some of lm-eval's tasks hold, where their code does not say it plainly enough for a search to find it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_ALGHAFA = {
    "query": "text question", "label": "gold index text", "sol1": "option 0", "sol2": "option 1", "sol3": "option 2", "sol4": "option 3",
    "choices": "-", "gold": "-",
}  # fmt: skip
_STORY = {
    **{f"input_sentence_{n}": "text question" for n in range(1, 5)}, "sentence_quiz1": "option 0", "sentence_quiz2": "option 1",
    "answer_right_ending": "gold index from 1",
}  # fmt: skip
# By the beginning of a task's path: a kind of ``values`` for each column; in braces what lies below it, "=" and JSON for the same value
# in every row, "~" and a list for one after the other, "-" for a column that the code makes itself.
_FIXED: Mapping[str, Mapping[str, str]] = {
    "arab_culture": {
        "options": '{"english_keys": "list letters", "arabic_keys": "list letters", "text": "list options"}',
        "answer_key": '{"english_answer_key": "gold letter", "arabic_answer_key": "gold letter"}',
        "country": '="Egypt"', "region": '="Gulf"', "first_statement": "text question",
    },
    "arabic_leaderboard_complete/arabic_leaderboard_alghafa": _ALGHAFA,
    "arabic_leaderboard_light/arabic_leaderboard_alghafa": _ALGHAFA,
    "arabicmmlu/": {
        "Level": '="Primary"', "Country": '="Egypt"', "Subject": '="Math"', "Question": "text question", "Context": "text passage",
        **{f"Option {n}": f"option {n - 1}" for n in range(1, 5)}, "Option 5": "text null", "Answer Key": "gold letter",
    },
    "aradice/ArabicMMLU": {
        "Level": '="Primary"', "Country": '="Egypt"', "Subject": '="Math"', "question": "text question", "context": "text passage",
        "options": "list {A: …}", "Answer Key": "gold letter", "prompt": "-", "choices": "-", "target": "-",
    },
    "bbq/": {
        "ans0": "option 0", "ans1": "option 1", "ans2": '="Unknown"', "label": "gold index", "category": '="Age"',
        "answer_info": '={"ans0": ["a", "man"], "ans1": ["b", "woman"], "ans2": ["unknown", "unknown"]}',
        "additional_metadata": '={"stereotyped_groups": ["Man"]}', "question_polarity": '~["neg", "nonneg"]',
        "context_condition": '~["ambig", "disambig"]', "context": "text passage", "question": "text question",
        "biased_answers": "-", "ans0_groups": "-", "ans1_groups": "-", "ans2_groups": "-", "stereotyped_groups": "-",
    },
    "careqa/careqa_e": {
        **{f"op{n}": f"option {n - 1}" for n in range(1, 5)}, "cop": "gold index from 1", "question": "text question",
    },
    "click/": {
        "id": '="economy geography history law politics popular society tradition PSE_korean Kedu_1"', "choices": "list options",
        "answer": "gold right text", "paragraph": "text passage", "question": "text question",
    },
    "darija_bench/darija_sentiment": {
        "messages": '[{"content": "text question"}, {"content": "~[\\"ايجابي\\", \\"سلبي\\"]"}]', "content": "-",
    },
    "histoires_morales": {
        "norm": "text question", "situation": "text passage", "intention": "text question", "moral_action": "right",
        "immoral_action": "wrong 0", "query": "-", "choices": "-", "label": "-",
    },
    "mathqa": {
        "options": "list options as a ) …", "correct": "gold small letter", "Problem": "text question",
    },
    "med_text_classification/med_text_classification_easy": {"class": "gold index from 1 text", "text": "text passage"},
    "moral_stories": {
        "norm": "text question", "situation": "text passage", "intention": "text question", "moral_action": "right",
        "immoral_action": "wrong 0", "query": "-", "choices": "-", "label": "-",
    },
    "race/": {
        "article": "text passage",
        "problems": "list problems as Python", "problem": "-", "question": "-", "answer": "-", "options": "-",
    },
    "qa4mre": {
        "document_str": "text passage", "question_str": "text question", "correct_answer_id": "gold index from 1 text",
        "answer_options": '{"answer_str": "list options"}',
    },
    "wsc273": {
        "text": '="The cup and the tree: it is too big to fit."', "pronoun": '="it"', "pronoun_loc": "=22", "options": "list options",
        "label": "gold index",
    },
    "xcopa": {
        "premise": "text passage", "question": '~["cause", "effect"]', "choice1": "option 0", "choice2": "option 1", "label": "gold index",
    },
    "storycloze": _STORY,
    "xstorycloze": _STORY,
    "toxigen": {"toxicity_ai": "~[1.0, 5.0]", "toxicity_human": "~[1.5, 4.5]", "text": "text passage"},
    "physics_gre": {"has_image": "=false", "target_scores": "list {A: one-hot}", "input": "text question"},
    "nerel-bench": {"instruction": "text question", "context": '="{}"', "true_answer": "right"},
    "openai-mmmlu": {
        "Subject": "given", "Question": "text question", **{letter: f"option {k}" for k, letter in enumerate("ABCD")},
        "Answer": "gold letter",
    },
    "drop/": {
        "query_id": "text word", "passage": "text passage", "question": "text question", "answer": "text drop answer",
        "validated_answers": "text drop answers", "answers": "-", "id": "-", "number": "-", "date": "-", "spans": "-",
    },
}  # fmt: skip
_GOLD_AT_ONE_PLACE = ("histoires_morales", "moral_stories")


def gold_is_fixed(path: Path) -> bool:
    """Whether the code of the task at that path puts the right option at one place in every row."""
    return any(f"/tasks/{start}" in path.as_posix() for start in _GOLD_AT_ONE_PLACE)


def fixed_of(path: str) -> Mapping[str, str]:
    """What is known of the columns of a task at that path below lm-eval's task folder."""
    return next((kinds for start, kinds in _FIXED.items() if path.startswith(start)), {})
