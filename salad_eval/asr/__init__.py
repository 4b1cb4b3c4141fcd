"""Recognisers (entry-point group ``salad.asr``): each a plug-in with ``transcribe`` and ``fingerprint``.

Those behind a server are in ``served``.

    transformers_ctc.py        ``transformers-ctc``: Parakeet, wav2vec 2.0, HuBERT, WavLM
    transformers_transducer.py ``transformers-transducer``: Parakeet RNN-T and TDT
    whisper.py                 ``whisper``, by transformers
    faster_whisper.py          ``faster-whisper``, by CTranslate2 (an extra)
    whisper_options.py         what can be asked of a Whisper, whichever program runs it
    pieces.py                  what each does with sound first: check, resample, cut, batch
    checkpoint.py              class, processor and identity of a checkpoint
    whisper_decoding.py        decoding as Whisper's own program does it
"""
