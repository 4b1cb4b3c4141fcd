"""Open-ended answers read from a generated text: short answers, numbers, yes or no. No judge, no guessing.

What cannot be read is ``None``, which scores as wrong and is counted as unparsed.
"""
