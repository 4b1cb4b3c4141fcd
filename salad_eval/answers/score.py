"""From a response to right, wrong or missing.

``ll``, ``ll_norm``, ``ll_bytes`` and ``ll_mutual_info`` are lm-eval's acc, acc_norm, acc_bytes and acc_mutual_info. The other
kinds read the answer out of a text, strictly: what cannot be read is wrong and counted as unparsed, never given an option by
chance or by default.

- ``generate``: the option that the text gives (below); without options, the whole text has to be a right answer.
- ``exact_match``, ``f1``: short answers by SQuAD's measures (``answers.short``); ``f1`` lies between 0 and 1.
- ``numeric``, ``numeric_last``: the number that the text gives, and it only (``answers.numeric``); ``numeric_last`` takes the last
  number of a text that states none.
- ``yes_no``: yes or no (``answers.yes_no``).

Of a text, what stands after its reasoning is read, and nothing where the reasoning is not closed (``answers.reply``).

How a generated answer to a multiple-choice item is read. Case, Unicode form, emphasis (``**C**``) and LaTeX around words are
ignored.

0. *The final answer*: what follows "final answer: …" or stands in ``\\boxed{}``.
1. *The answer alone*: the text, its first or last line or last sentence, is nothing but an option letter ("C", "(c)", "C."), an
   option's text, or both ("C. calcium").
2. *A stated answer*: "Answer: …", "the answer is …", "the correct option is …", "my choice is …", "I'd go with …", followed by an
   option letter that ends its phrase or by an option's text; "… is correct", "… is the best answer" after one; "it's C", "therefore,
   C"; a letter with its delimiter that opens the text. "The answer is calcium." is not C, unless option C is calcium. Not where it is
   taken back: "I don't think the answer is C", "if the answer is C", "is the answer C?", "option C is wrong".
3. *The only option named*: exactly one option's text (at word boundaries, the longest option first), bracketed letter or "option C"
   occurs in the text, apart from those that are denied ("not the cat but the dog"; "(A) is wrong" alone names none), and from
   questions. Not in a text that says that no option fits, goes through the options one by one, or breaks off; numbers count in short
   texts alone.

The first of 0, 1 with 2, and 3 that finds anything decides. Where it finds two different options ("Answer: B … the answer is C", or
"C. carbon" where carbon is B) the text is contradictory and unparsed. Letters count only where the item shows lettered options or its
options are letters. Options with the same text are right together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from salad_eval.answers import numeric, short, yes_no
from salad_eval.answers.choice import extract_choice, normalised_answer, same_text, shows_letters
from salad_eval.answers.reply import answer_part
from salad_eval.errors import DataError
from salad_eval.types import LOGPROB_SCORES, Item, Response, Score, ScoreKind

NO_GOLD = "the item has no gold answer"
NO_LOGPROBS = "no finite log-probabilities"
EMPTY_OPTION = "an option is empty, so its log-probability cannot be divided by its length"
NO_TEXT = "no generated text"
NOT_A_NUMBER = "the right answer is not a number"
NOT_YES_OR_NO = "the right answer is neither yes nor no"
UNPARSED = "unparsed"


def score_response(item: Item, response: Response, kind: ScoreKind) -> Score:
    """1.0 where the response is right, 0.0 where it is wrong (``f1``: in between too), ``None`` with a reason where that cannot be said.

    ``ll``: the option of highest summed log-probability, the first of equals. ``ll_norm``: divided by the option's
    length in characters before, ``ll_bytes`` in bytes of UTF-8; ``ll_mutual_info``: less the option's log-probability by itself.
    Options with equal texts are right together, where lm-eval takes the first alone.
    ``lm_eval`` and ``lm_eval_ll`` need the task: see ``benchmarks.scoring``. The kinds that read a text (see the module): one that
    cannot be read scores 0.0 with ``parsed=False``. Raises ``DataError`` where item and response do not belong together.
    """
    if item.id != response.item_id:
        raise DataError(f"the response of item {response.item_id!r} was to be scored against item {item.id!r}.")
    if kind in LOGPROB_SCORES:
        return _score_logprobs(item, response, kind)
    if response.text is None:
        return _made(response, None, NO_TEXT)
    return _READERS[kind](item, response, response.text)


def _made(
    response: Response, value: float | None, reason: str = "", predicted: int | None = None, parsed: bool = True
) -> Score:
    return Score(
        response.item_id, response.column, response.voice, response.perturbation, value, reason, predicted, parsed
    )


def _score_logprobs(item: Item, response: Response, kind: ScoreKind) -> Score:
    logprobs = response.choice_logprobs
    if logprobs is None:
        return _made(response, None, NO_LOGPROBS)
    expected = len(item.choices) * (2 if kind == "ll_mutual_info" else 1)
    if len(logprobs) != expected:
        raise DataError(
            f"item {item.id!r} has {len(item.choices)} options, but its response {len(logprobs)} log-probabilities; expected {expected}."
        )
    if item.gold is None:
        return _made(response, None, NO_GOLD)
    if not logprobs or not all(map(math.isfinite, logprobs)):
        return _made(response, None, NO_LOGPROBS)
    if kind in ("ll_norm", "ll_bytes") and not all(item.choices):
        return _made(response, None, EMPTY_OPTION)
    values = _VALUES[kind](logprobs, item.choices)
    predicted = values.index(max(values))
    return _made(response, float(predicted in _right_options(item)), predicted=predicted)


def _right_options(item: Item) -> set[int]:
    """The golds, and the options that say the same as one: no reader could tell them apart."""
    right = [item.choices[gold] for gold in item.golds]
    return {index for index, choice in enumerate(item.choices) if any(same_text(choice, one) for one in right)}


def _by_length(length: Callable[[str], int]) -> Callable[[Sequence[float], Sequence[str]], list[float]]:
    return lambda logprobs, choices: [value / length(choice) for value, choice in zip(logprobs, choices, strict=True)]


def _gained(logprobs: Sequence[float], choices: Sequence[str]) -> list[float]:
    n = len(choices)
    return [after - alone for after, alone in zip(logprobs[:n], logprobs[n:], strict=True)]


# What is compared of an item's options, from their log-probabilities and texts.
_VALUES: Mapping[ScoreKind, Callable[[Sequence[float], Sequence[str]], list[float]]] = {
    "ll": lambda logprobs, choices: list(logprobs),
    "ll_norm": _by_length(len),
    "ll_bytes": _by_length(lambda choice: len(choice.encode())),
    "ll_mutual_info": _gained,
}


def _unparsed(response: Response) -> Score:
    return _made(response, 0.0, UNPARSED, parsed=False)


def _score_option(item: Item, response: Response, text: str) -> Score:
    """``generate``."""
    if not item.choices:
        return _score_whole(item, response, text)
    if item.gold is None:
        return _made(response, None, NO_GOLD)
    predicted = extract_choice(text, item.choices, lettered=shows_letters(item.context, item.choices))
    if predicted is None:
        return _unparsed(response)
    return _made(response, float(predicted in _right_options(item)), predicted=predicted)


def _score_whole(item: Item, response: Response, text: str) -> Score:
    if not item.answers:
        return _made(response, None, NO_GOLD)
    answer = normalised_answer(answer_part(text))
    if not answer:
        return _unparsed(response)
    return _made(response, float(answer in {normalised_answer(accepted) for accepted in item.answers}))


def right_answers(item: Item) -> tuple[str, ...]:
    """What is right in words: the accepted answers, or for an item that has options alone the texts of the right ones."""
    return item.answers or tuple(item.choices[gold] for gold in item.golds)


def _score_short(measure: Callable[[str, Sequence[str]], float], item: Item, response: Response, text: str) -> Score:
    """``exact_match`` and ``f1``."""
    right = [answer for answer in right_answers(item) if short.tokens(answer)]
    if not right:
        return _made(response, None, NO_GOLD)
    answer = short.short_answer(text)
    return _made(response, measure(answer, right)) if short.tokens(answer) else _unparsed(response)


def _score_number(last: bool, item: Item, response: Response, text: str) -> Score:
    """``numeric`` and ``numeric_last``. A right answer that is no number makes the item one without a score."""
    right = {numeric.extract_number(numeric.final_answer(answer)) for answer in right_answers(item)}
    if not right or None in right:
        return _made(response, None, NO_GOLD if not right else NOT_A_NUMBER)
    number = numeric.extract_number(text, last=last)
    return _made(response, float(number in right)) if number is not None else _unparsed(response)


def _score_yes_no(item: Item, response: Response, text: str) -> Score:
    """``yes_no``. ``predicted`` is the option that says the same, where there is one."""
    right = {yes_no.is_yes(answer) for answer in right_answers(item)}
    if not right or None in right:
        return _made(response, None, NO_GOLD if not right else NOT_YES_OR_NO)
    said = yes_no.read_yes_no(text)
    if said is None:
        return _unparsed(response)
    options = [index for index, choice in enumerate(item.choices) if yes_no.is_yes(choice) is said]
    return _made(response, float(said in right), predicted=options[0] if options else None)


_READERS: Mapping[ScoreKind, Callable[[Item, Response, str], Score]] = {
    "generate": _score_option,
    "exact_match": partial(_score_short, short.exact_match),
    "f1": partial(_score_short, short.token_f1),
    "numeric": partial(_score_number, False),
    "numeric_last": partial(_score_number, True),
    "yes_no": _score_yes_no,
}
