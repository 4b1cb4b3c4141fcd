"""Speech to train on: made by a voice, or natural by manifest.

utterances.py what is to be said, and who can say it
speaker.py    a TTS plug-in as a speaker, every sound kept
natural.py    recordings as a speaker
manifests.py  which stretch of which file says what (Lhotse, Emilia, plain)
alignment.py  when each word is said: CTC forced alignment
interleave.py a document as spans of text and speech
synthesise.py a selection → sound
"""
