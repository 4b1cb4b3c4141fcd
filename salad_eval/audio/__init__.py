"""Sound: checked, kept, changed on purpose, and in tables.

sound.py   mono sound: files, rates, identity, the checks of a rendering
store.py   sound kept once under the hash of its samples, and remembered by what was asked for
perturb.py acoustic conditions, added here, by name and settings: ``noise,snr=10``, ``telephone``
features.py  what encoders read of sound, made quicker than the library makes it, with equal bits
tables.py  Parquet and cached datasets with audio, read without their audio

    upkeep.py  looking after a store: list, verify, make room
"""

from salad_eval.audio.sound import problem

__all__ = ["problem"]
