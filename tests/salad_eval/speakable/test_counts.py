"""Signs and units of real rows are said as often as they are written; `python -m tests.helpers.spoken_counts` takes all rows."""

from __future__ import annotations

import re

import pytest

from tests.helpers.places import SHARED_DATA
from tests.helpers.spoken_counts import CLASSES, count, phonemes, texts_of, unheard
from tests.speed.bench_speakable import SOURCES

N_TEXTS = 250  # of each source, of those with a sign or digit in them, spread evenly
_SIGN = re.compile(r"[^A-Za-z\s.,;:?!'\"()-]")


def test_a_sign_that_is_not_said_is_seen() -> None:
    tally = count(["x + y = 2 at 5%", "plus 3 + 4", "no sign at all"])
    assert {name: (t.n_texts, t.n_signs, len(t.unequal)) for name, t in tally.items()} == {
        "plus": (2, 2, 0),
        "equals": (1, 1, 0),
        "percent": (1, 1, 0),
    }


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_real_rows_say_each_sign_as_often_as_it_is_written(source: str) -> None:
    texts = [text for text in texts_of(SHARED_DATA, [source]) if len(text) < 1_500 and _SIGN.search(text)]
    if not texts:
        pytest.skip(f"no rows of {source} with a sign under {SHARED_DATA}; SALAD_SHARED_DATA names a folder with them")
    tallies = count(texts[:: max(1, len(texts) // N_TEXTS)])
    unequal = {name: tally.unequal for name, tally in tallies.items() if tally.unequal}
    assert not unequal


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if kind.word])
def test_espeak_says_the_word_of_a_sign_once(name: str) -> None:
    pytest.importorskip("espeakng_loader")
    word = CLASSES[name].word
    assert phonemes(word)
    assert not unheard(name, f"The {word} of it, and {word} again.")


def test_espeak_says_nothing_of_a_hyphen() -> None:
    pytest.importorskip("espeakng_loader")
    assert phonemes("minus")[0] not in phonemes("x - y")
    assert phonemes("minus")[0] in phonemes("x minus y")
