"""The tokenizer that a GGUF describes, with the ids that llama.cpp gives.

A GGUF holds vocabulary and merges, and of the rule by which text is cut before merges apply only a name (``tokenizer.ggml.pre``).
That rule is half of a tokenizer: digits alone or in threes, a run of spaces whole or split. It is therefore looked up here, and a
name that is not known is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from salad_eval.errors import ModelError, did_you_mean


@dataclass(frozen=True, slots=True)
class TextSplit:
    """How a byte-level tokenizer cuts text before its merges.

    Attributes:
        digits: whether every digit stands alone before anything else is looked at.
        words: the expression whose matches are the pieces; ``None``: GPT-2's own.
        whole_first: whether a piece that is a token is taken as it is, whatever the merges would make of it.
        begins: whether a text begins with the BOS token where the file does not say.
    """

    digits: bool = False
    words: str | None = None
    whole_first: bool = False
    begins: bool = False


# --- how text is cut -------------------------------------------------------------------------------------------------

_GPT2 = TextSplit()
_DIGITS = TextSplit(digits=True)


def _since_gpt4(digits: str, letters: str = r"[^\r\n\p{L}\p{N}]?\p{L}+", after_marks: str = r"[\r\n]*") -> str:
    """The expression of most models since GPT-4, which differ in how many digits make a piece."""
    endings = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    marks = rf" ?[^\s\p{{L}}\p{{N}}]+{after_marks}"
    return rf"{endings}|{letters}|{digits}|{marks}|\s*[\r\n]+|\s+(?!\S)|\s+"


_THREES, _ONES = _since_gpt4(r"\p{N}{1,3}"), _since_gpt4(r"\p{N}")
_LLAMA3 = TextSplit(words=_THREES, whole_first=True, begins=True)
_QWEN2 = TextSplit(words=_ONES)

SPLITS: Mapping[str, TextSplit] = MappingProxyType(
    {
        **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "modern-bert"), _GPT2),
        **dict.fromkeys(
            ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _DIGITS
        ),
        **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "lfm2", "midm-2.0"), _LLAMA3),
        **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), TextSplit(words=_THREES)),
        "glm4": TextSplit(words=_THREES, whole_first=True),
        **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "kormo"), _QWEN2),
    }
)  # fmt: skip
"""By ``tokenizer.ggml.pre``, for vocabularies of the kind ``gpt2``."""

_CONTROL, _USER_DEFINED = 3, 4  # token types: never part of plain text; always found whole in it


def read_tokenizer(file: Path) -> Any:
    """The tokenizer in ``file`` as a fast one of transformers. Raises ``ModelError`` for one of a kind that is not known."""
    from gguf import GGUFReader

    fields = {
        key: field.contents()
        for key, field in GGUFReader(file).fields.items()
        if key.startswith("tokenizer.")
    }  # fmt: skip
    kind = fields.get("tokenizer.ggml.model")
    if kind == "llama":  # sentencepiece: its rule is the same everywhere, and transformers reads it
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    if kind != "gpt2":
        raise ModelError(
            f"{file} has a tokenizer of the kind {kind!r}; known are 'gpt2' and 'llama'. Give the model's folder of transformers."
        )
    return _byte_level(str(file), fields)


def _byte_level(source: str, fields: Mapping[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    split = _split(source, fields.get("tokenizer.ggml.pre"))
    tokens: Sequence[str] = fields["tokenizer.ggml.tokens"]
    types: Sequence[int] = fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    backend = Tokenizer(
        models.BPE(vocab={token: n for n, token in enumerate(tokens)}, merges=merges, ignore_merges=split.whole_first)
    )
    backend.pre_tokenizer = _pre_tokenizer(split)
    backend.decoder = decoders.ByteLevel()
    whole = [(token, kind) for token, kind in zip(tokens, types, strict=True) if kind in (_CONTROL, _USER_DEFINED)]
    for kind, add in ((_CONTROL, backend.add_special_tokens), (_USER_DEFINED, backend.add_tokens)):
        add([AddedToken(token, normalized=False, special=kind == _CONTROL) for token, one in whole if one == kind])
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {short: fields.get(f"tokenizer.ggml.{long}_token_id") for short, long in names.items()}
    special = {f"{name}_token": tokens[n] for name, n in ids.items() if n is not None}
    around = [
        special.get(f"{name}_token") if fields.get(f"tokenizer.ggml.add_{name}_token", default) else None
        for name, default in (("bos", split.begins), ("eos", False))
    ]
    backend.post_processor = _post_processor(around, tokens)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=fields.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **special,
    )


def _split(source: str, name: str | None) -> TextSplit:
    if name is not None and name in SPLITS:
        return SPLITS[name]
    raise ModelError(
        f"{source}: its tokenizer cuts text by the rule {name!r}, which is not known here"
        f"{did_you_mean(str(name), SPLITS)}, and without it the ids would not be the model's. Known: {', '.join(sorted(SPLITS))}. "
        "Give the model's folder of transformers."
    )


def _pre_tokenizer(split: TextSplit) -> Any:
    from tokenizers import Regex, pre_tokenizers

    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if split.digits else []
    if split.words is not None:
        steps.append(pre_tokenizers.Split(Regex(split.words), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split.words is None))
    return pre_tokenizers.Sequence(steps)


def _post_processor(around: Sequence[str | None], tokens: Sequence[str]) -> Any:
    """What puts BOS before and EOS after a text, where they are wanted."""
    from tokenizers import processors

    before, after = around
    template = " ".join(part for part in (before, "$A", after) if part)
    wanted = [(token, tokens.index(token)) for token in around if token]
    byte_level = processors.ByteLevel(trim_offsets=False)
    if not wanted:
        return byte_level
    return processors.Sequence([byte_level, processors.TemplateProcessing(single=template, special_tokens=wanted)])
