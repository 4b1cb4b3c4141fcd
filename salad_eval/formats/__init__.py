"""The forms that people have models in, each turned into what the rest of the package knows: a folder of transformers, or a path.

A foreign form is read once, into a cache, and from there on it is a checkpoint like any other: the same loading, the same errors,
the same identity by its bytes.

    gguf.py           GGUF (llama.cpp)
    gguf_tokenizer.py the tokenizer that a GGUF describes, with llama.cpp's ids
    peft.py           PEFT's adapter folders (LoRA and its kin)
    ctranslate2.py    CTranslate2's Whisper in transformers' class
    parts.py          a model that names those it shares weights with
    packages.py       ``package:NAME/FILE``: a file of an installed package
    cache.py          folders made once from something else
"""
