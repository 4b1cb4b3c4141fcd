"""Voices (entry-point group ``salad.tts``): each a plug-in with ``synthesise`` and ``fingerprint``. ADDING_A_VOICE.md says how to add one.

espeak.py            ``pyttsx3``: espeak-ng by pip alone
command.py           voices that are programs: espeak-ng, flite, Piper, any other
transformers_vits.py ``transformers-vits``: MMS-TTS, VCTK
speecht5.py          ``speecht5``
kokoro.py            ``kokoro`` (an extra)
voice.py             voices as a plan writes them: ``en-us+f3,rate=150``
checkpoint.py        what those on torch have in common

    synthesis.py  one synthesis: spoken, checked, kept
    piper.py      ``piper`` (an extra)
    several.py    ``several``: voices of several engines in one run
"""
