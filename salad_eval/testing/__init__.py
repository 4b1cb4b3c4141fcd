"""Stand-ins for plug-ins, for tests of what is built on them: repeatable, without models, files or network.

installed.py     plug-ins that are found as installed ones are, by worker processes too
voices.py        ToneTTS: letters as tones
recognisers.py   ToneASR: hears those tones as letters
systems.py       HashedSystem: a language model of digests that reads and hears; its answers mean nothing and never change
"""
