"""What columns of some of lm-eval's tasks hold, where their code does not say it plainly enough for a search to find it."""

from __future__ import annotations

import json
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
_BBQ = {
    "ans0": "option 0", "ans1": "option 1", "ans2": '="Unknown"', "label": "~[0, 1, 2]", "category": '="Age"',
    "answer_info": '={"ans0": ["a", "man"], "ans1": ["b", "woman"], "ans2": ["unknown", "unknown"]}',
    "additional_metadata": '={"stereotyped_groups": ["Man"]}', "question_polarity": '~["neg", "nonneg"]',
    "context_condition": '~["ambig", "disambig"]', "context": "text passage", "question": "text question",
    "biased_answers": "-", "ans0_groups": "-", "ans1_groups": "-", "ans2_groups": "-", "stereotyped_groups": "-",
}  # fmt: skip
_COPA = {
    "premise": "text passage", "question": '~["cause", "effect"]', "choice1": "option 0", "choice2": "option 1", "label": "gold index",
    "query": "-", "choices": "-", "gold": "-",
}  # fmt: skip
_TOXIGEN = {
    "toxicity_ai": "~[1.0, 5.0]", "toxicity_human": "~[1.5, 4.5]", "text": "text passage", "query": "-", "choices": "-", "gold": "-",
}  # fmt: skip
_GLIANOREX = {"question": "text question", "options": "list {A: …}", "answer_idx": "gold letter"}
_WINOGENDER = {
    "sentence": "text passage", "pronoun": '="they"', "occupation": "option 0", "participant": "option 1", "label": "gold index",
}  # fmt: skip
_TYDIQA = {
    "ar": "arabic", "bn": "bengali", "en": "english", "fi": "finnish", "id": "indonesian", "ko": "korean", "ru": "russian",
    "sw": "swahili", "te": "telugu",
}  # fmt: skip
_QASPER = {"title": "text question", "abstract": "text passage", "question": "-", "answer": "-", "answer_type": "-"}


def _qasper(yes_no: str, free: str) -> str:
    blob = {
        "unanswerable": "=false",
        "yes_no": f"={yes_no}",
        "free_form_answer": free or '=""',
        "extractive_spans": "=[]",
    }
    return json.dumps({"question": ["text question"], "answers": [{"answer": [blob]}]})


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
    **{
        f"bbq/bbq_generate{kind}.yaml": {**_BBQ, "ans0": "text word", "ans1": "text other word", "context_condition": condition}
        for kind, condition in (("", '~["ambig", "disambig"]'), ("_ambig", '="ambig"'), ("_disambig", '="disambig"'))
    },
    **{
        f"bbq/bbq_multiple_choice_{condition}.yaml": {**_BBQ, "context_condition": f'="{condition}"'}
        for condition in ("ambig", "disambig")
    },
    "bbq/": _BBQ,
    "arabic_leaderboard_complete/arabic_leaderboard_arabic_mt_copa": _COPA,
    "arabic_leaderboard_light/arabic_leaderboard_arabic_mt_copa": _COPA,
    "arabic_leaderboard_complete/arabic_leaderboard_arabic_mt_toxigen": _TOXIGEN,
    "arabic_leaderboard_light/arabic_leaderboard_arabic_mt_toxigen": _TOXIGEN,
    "copal_id": _COPA,
    "kobest/kobest_copa": {
        "premise": "text passage", "question": '~["원인", "결과"]', "alternative_1": "option 0", "alternative_2": "option 1",
        "label": "gold index",
    },
    "glianorex/glianorex_fr": {**_GLIANOREX, "language": '="fr"'},
    "glianorex/": {**_GLIANOREX, "language": '="en"'},
    "japanese_leaderboard/ja_leaderboard_jcommonsenseqa": {
        "question": "text question", **{f"choice{k}": f"option {k}" for k in range(5)}, "label": "gold index", "choices": "-",
    },
    "bigbench/multiple_choice/": {
        "inputs": "text question", "targets": "list [right]", "multiple_choice_targets": "list options",
        "multiple_choice_scores": "gold one-hot",
    },
    "leaderboard/musr/": {
        "narrative": "text passage", "question": "text question", "choices": "list options as Python", "answer_choice": "gold right text",
    },
    "agieval/math": {},
    "agieval/gaokao-mathcloze": {},
    "agieval/": {"query": "text question", "choices": "list options", "gold": "gold [index]"},
    **{
        f"tydiqa/tydiqa_goldp_{code}.yaml": {
            "id": f'="{language}-1"', "context": "text passage", "question": "text question", "answers": "list {text, label}",
        }
        for code, language in _TYDIQA.items()
    },
    **{
        f"winogender/winogender{kind}_{gender}.yaml": {**_WINOGENDER, "gender": f'="{gender}"'}
        for kind in ("", "_gotcha") for gender in ("female", "male", "neutral")
    },
    "truthfulqa/truthfulqa_gen": {
        "question": "text question", "correct_answers": "list [right]", "incorrect_answers": "list wrong", "best_answer": "right",
    },
    "truthfulqa-multi/truthfulqa-multi_gen": {
        "question": "text question", "correct_answers": "list [right]", "incorrect_answers": "list wrong", "best_answer": "right",
        "lang": '="en"',
    },
    **{
        f"llama3/instruct/mmlu_{language}/": {
            "subtask_name": f"given after mmlu_{language}_chat.", "input_question": "text question",
            "input_choice_list": '{"A": "option 0", "B": "option 1", "C": "option 2", "D": "option 3"}',
            "input_correct_responses": "gold [letter]",
        }
        for language in ("de", "es", "fr", "hi", "it", "pt", "th")
    },
    "afrimgsm/": {"question": "text question", "answer": "text null", "answer_number": "gold number"},
    "logiqa2/logieval": {"content": "text question", "ideal": "gold letter"},
    "graphwalks": {"prompt": "text question", "answer_nodes": "list [right]"},
    "qasper/bool": {**_QASPER, "qas": _qasper(yes_no="true", free="")},
    "qasper/": {**_QASPER, "qas": _qasper(yes_no="false", free="right")},
    "metabench/metabench_arc": {
        **{f"arc_question_shot_{n}": "text question" for n in range(1, 26)},
        **{f"arc_answerKey_shot_{n}": "gold letter" for n in range(1, 26)},
        **{f"arc_choices_shot_{n}": "list {text, label}" for n in range(1, 26)},
        **{f"arc_idx_shot_{n}": "text number" for n in range(1, 26)},
        "alltwentyfiveshot_longprompt": "text passage", "question": "text question", "choices": "list {text, label}",
        "answerKey": "gold letter", "twentyfive_shot_preprompt": "-", "original_hash": "-",
    },
    "careqa/careqa_e": {
        **{f"op{n}": f"option {n - 1}" for n in range(1, 5)}, "cop": "gold index from 1", "question": "text question",
    },
    "click/": {
        "id": '="economy geography history law politics popular society tradition PSE_korean Kedu_1"', "choices": "list options",
        "answer": "gold right text", "paragraph": "text passage", "question": "text question",
    },
    **{
        f"darija_bench/darija_sentiment/darija_sentiment_{name}": {
            "messages": '[{"content": "text question"}, {"content": "~[\\"ايجابي\\", \\"سلبي\\", \\"ماكينش إحساس\\"]"}]', "content": "-",
        }
        for name in ("mac", "msda")
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
_MORE_ROWS = {"med_text_classification/med_text_classification_easy": 10}  # of which it asks a tenth
_GOLD_AT_ONE_PLACE = ("histoires_morales", "moral_stories")


def gold_is_fixed(path: Path) -> bool:
    """Whether the code of the task at that path puts the right option at one place in every row."""
    return any(f"/tasks/{start}" in path.as_posix() for start in _GOLD_AT_ONE_PLACE)


def fixed_of(path: str) -> Mapping[str, str]:
    """What is known of the columns of a task at that path below lm-eval's task folder."""
    return next((kinds for start, kinds in _FIXED.items() if path.startswith(start)), {})


def more_rows_of(path: Path) -> int:
    """How many times the usual number of rows the task at that path needs."""
    return next((more for start, more in _MORE_ROWS.items() if f"/tasks/{start}" in path.as_posix()), 1)
