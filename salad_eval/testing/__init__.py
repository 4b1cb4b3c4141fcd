"""For tests of plug-ins: stand-ins for the others, repeatable and without models, files or network, and lists of checks.

installed.py     plug-ins that are found as installed ones are, by worker processes too
voices.py        ToneTTS: letters as tones
recognisers.py   ToneASR: hears those tones as letters
systems.py       HashedSystem: a language model of digests that reads and hears; its answers mean nothing and never change
speech_checks.py SpeechSystemChecks: what every family of speech LLMs has to pass, under pytest
checkpoint_files.py  each file of a checkpoint, changed: is it in the fingerprint?
"""
