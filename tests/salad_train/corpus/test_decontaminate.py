"""Which texts hold an item of the benchmark: tables of cases, invariances, and the embedded world as a known answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salad_eval.benchmarks.catalogue import load_task
from salad_eval.benchmarks.items import load_items
from salad_eval.errors import UserInputError
from salad_eval.resources import tasks_dir
from salad_eval.types import Item, SpokenPart
from salad_train.corpus.decontaminate import ItemNgrams, plain_words
from salad_train.nano import world

QUESTION = "Which gas do plants take from the air when they make sugar?"


def item(
    question: str,
    item_id: str = "q",
    *,
    choices: tuple[str, ...] = (),
    group: str | None = None,
    spoken: bool = True,
    frame: tuple[str, str] = ("Question: ", "\nAnswer:"),
    answers: tuple[str, ...] = (),
) -> Item:
    context = frame[0] + question + frame[1]
    start = len(frame[0])
    parts = (SpokenPart("question", start, start + len(question)),) if spoken else ()
    return Item(item_id, "task", "test", "d", context, choices, 0, group or item_id, parts, answers=answers)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3 p.m., Zoë!", ["its", "3", "p", "m", "zoe"]),
        ("don´t  don’t\tdon't", ["dont", "dont", "dont"]),
        ("STRASSE straße", ["strasse", "strasse"]),
        ("well-known_fact", ["well", "known", "fact"]),
        ("ﬁne ½ Ⅻ", ["fine", "1", "2", "xii"]),
        ("Пример 例", ["пример", "例"]),
        ("…—!", []),
    ],
)
def test_plain_words(text: str, words: list[str]) -> None:
    assert plain_words(text) == words


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (QUESTION, True),
        (f"A quiz. {QUESTION} Nobody knew.", True),
        ("which gas do plants\ntake from the AIR, they asked", True),  # eight words in a row
        ("which gas do plants take from the soil", False),  # seven
        ("Plants take a gas from the air: which one?", False),
        ("Question: which gas? Answer: carbon dioxide", False),
        ("", False),
    ],
)
def test_any_eight_words_of_a_question(text: str, held: bool) -> None:
    found = ItemNgrams([item(QUESTION)]).find(text)
    assert (found is not None) is held
    if found:
        assert found.item_id == "q"
        assert found.ngram == "which gas do plants take from the air"


def test_short_questions_count_as_a_whole_and_very_short_ones_not_at_all() -> None:
    items = [item(q, q, frame=("", "")) for q in ("What does a termite eat?", "What is gold?")]
    ngrams = ItemNgrams(items)
    assert ngrams.unchecked == ("What is gold?",)
    assert ngrams.find("Tell me: what does a termite eat, and why?").item_id == items[0].id  # type: ignore[union-attr]
    assert ngrams.find("What does a termite like to eat?") is None
    assert ngrams.find("What is gold? What is gold?") is None


def test_options_and_answers_count_from_n_words_on() -> None:
    option = "because warm air rises and cool air takes its place"
    ngrams = ItemNgrams([item(QUESTION, choices=("a bird in the hand", option))])
    assert ngrams.find(f"Winds blow {option}.") is not None
    assert ngrams.find("A bird in the hand is worth two in the bush.") is None
    accepted = ItemNgrams([item(QUESTION, answers=(option,))])
    assert accepted.find(option) is not None


def test_the_frame_of_a_prompt_does_not_count() -> None:
    long_frame = ("Read the following question with care and then give the right answer. Question: ", " The answer is:")
    questions = [f"Where did {name} hide it?" for name in ("Anna", "Ben", "Carl", "Dora", "Emil", "Fay")]
    for spoken in (True, False):
        items = [item(q, f"q{k}", frame=long_frame, spoken=spoken) for k, q in enumerate(questions)]
        ngrams = ItemNgrams(items)
        assert ngrams.find("Read the following question with care and then give the right answer.") is None
    spoken_only = ItemNgrams([item(q, f"q{k}", frame=long_frame) for k, q in enumerate(questions)])
    # Five words without the frame around them: found by the spoken part.
    assert spoken_only.find("where did Carl hide it").item_id == "q2"  # type: ignore[union-attr]


def test_without_spoken_parts_the_frame_is_what_all_contexts_share() -> None:
    questions = ["What does a termite eat?", "Which sea is the saltiest?", "Who wrote The Jungle Book?"] * 2
    items = [item(q, f"q{k}", spoken=False) for k, q in enumerate(questions)]
    assert ItemNgrams(items).find("And what does a termite eat?").item_id == "q0"  # type: ignore[union-attr]
    # A handful of items has no frame that could be told from its questions: only the whole contexts are looked for.
    few = ItemNgrams(items[:3])
    assert few.find("And what does a termite eat?") is None
    assert few.find("Question: what does a termite eat? Answer: wood") is not None


@pytest.mark.parametrize(("n_groups", "counts"), [(5, True), (6, False)])
def test_a_phrase_of_many_groups_is_the_benchmarks_phrasing(n_groups: int, counts: bool) -> None:
    stem = "which of the following is an example of a"
    endings = ["mammal", "metal", "river", "verb", "prime", "planet"][:n_groups]
    ngrams = ItemNgrams([item(f"{stem} {ending}?", ending) for ending in endings])
    assert (ngrams.find(f"The teacher asks {stem} good deed.") is not None) is counts
    assert ngrams.find(f"{stem} metal").item_id is not None  # type: ignore[union-attr]
    # Many questions about one passage are one group, however many they are.
    same = ItemNgrams([item(f"{stem} {ending}?", ending, group="passage") for ending in endings])
    assert same.find(f"{stem} good deed") is not None


def test_threshold_is_a_share_of_the_passages_ngrams() -> None:
    words = [f"w{k}" for k in range(17)]  # ten n-grams of eight words
    passage = item(" ".join(words), frame=("", ""))
    for threshold, n_words, held in [
        (0.5, 11, False),
        (0.5, 12, True),
        (1.0, 16, False),
        (1.0, 17, True),
        (0.7, 14, True),
        (0.7, 13, False),
    ]:
        found = ItemNgrams([passage], threshold=threshold).find(" ".join(words[:n_words]))
        assert (found is not None) is held, (threshold, n_words)
    # A phrase said again and again is one n-gram.
    assert ItemNgrams([passage], threshold=0.5).find(" ".join(words[:8] * 10)) is None


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"threshold": 1.1}, {"threshold": -0.1}, {"shortest": 0}, {"most_groups": 0}]
)
def test_parameters_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(UserInputError, match=next(iter(options))):
        ItemNgrams([], **options)


def test_no_items_hold_nothing() -> None:
    assert ItemNgrams([]).find(QUESTION) is None


WORDS = ["gas", "plant", "air", "the", "of", "zoë", "sugar", "7"]


@settings(max_examples=150, deadline=None)
@given(
    question=st.lists(st.sampled_from(WORDS), min_size=1, max_size=14),
    document=st.lists(st.sampled_from(WORDS), max_size=40),
    n=st.integers(1, 9),
    threshold=st.sampled_from([0.0, 0.3, 1.0]),
    data=st.data(),
)
def test_case_punctuation_and_blanks_make_no_difference(
    question: list[str], document: list[str], n: int, threshold: float, data: st.DataObject
) -> None:
    ngrams = ItemNgrams([item(" ".join(question), frame=("", ""))], n=n, threshold=threshold)

    def disguise(word: str) -> str:
        cased = data.draw(st.sampled_from([word, word.upper(), word.title()]))
        return cased + data.draw(st.sampled_from([" ", "\n", ", ", "! ", " — ", "-", "_", "’ "]))

    assert ngrams.find("".join(map(disguise, document))) == ngrams.find(" ".join(document))


@settings(max_examples=200, deadline=None)
@given(
    question=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12),
    document=st.lists(st.sampled_from([*WORDS, "other"]), max_size=40),
    n=st.integers(1, 8),
    shortest=st.integers(1, 8),
    threshold=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_equals_comparing_every_window_with_every_window(
    question: list[str], document: list[str], n: int, shortest: int, threshold: float
) -> None:
    found = ItemNgrams([item(" ".join(question), frame=("", ""))], n=n, shortest=shortest, threshold=threshold).find(
        " ".join(document)
    )
    plain = [word.replace("ë", "e") for word in question]
    length = min(n, len(plain))
    expected = False
    if len(plain) >= min(n, shortest):
        wanted = {tuple(plain[k : k + length]) for k in range(len(plain) - length + 1)}
        read = [word.replace("ë", "e") for word in document]
        held = {tuple(read[k : k + length]) for k in range(len(read) - length + 1)}
        expected = bool(wanted & held) and len(wanted & held) >= threshold * len(wanted)
    assert (found is not None) is expected


def test_the_embedded_corpus_holds_next_to_nothing_of_the_embedded_benchmark() -> None:
    # Its phrasings are held out by construction; what is left are long names inside a phrasing ("the Battle of Leuthen").
    task = load_task(tasks_dir() / "salad_nano.yaml")
    items = [one for split in ("validation", "test") for one in load_items(task, split)[0]]
    ngrams = ItemNgrams(items)
    documents = world.corpus(0)
    held = [document for document in documents if ngrams.find(document.text)]
    assert len(held) < 0.003 * len(documents)
    assert len(ngrams.unchecked) < 0.02 * len(items)
    # And every question that is checked is found where it does stand.
    told = [
        f"They asked: {one.part_text(one.spoken_parts[0])} I know!" for one in items if one.id not in ngrams.unchecked
    ]
    assert all(ngrams.find(text) for text in told)
