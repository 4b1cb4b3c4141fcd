"""Answers: what a generated text says, and what it scores. No judge, no guessing.

What cannot be read is ``None``, which scores as wrong and is counted as unparsed.

    score.py        from a response to right, wrong or missing: start here
    reply.py        the part that answers: after the reasoning, before what another speaker would say
    choice.py       which option a reply names, by letter or by text, with negation
    short.py        exact match and token F1, as in SQuAD
    numeric.py      the number given as the answer
    number_words.py English numbers in words
    yes_no.py       yes or no
"""
