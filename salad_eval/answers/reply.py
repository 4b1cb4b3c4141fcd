"""The part of a generated text that answers: after its reasoning, before what another speaker would say.

A model that reasons aloud marks where its reasoning ends. What it weighs in between is no answer, and a text whose reasoning does not
end (it ran out of tokens) has none. The marks are those of the chat templates in use: ``<think>`` (DeepSeek-R1, Qwen3, Phi-4-reasoning,
Granite, Hunyuan and most others), tags of prompts (``<thinking>``, ``<reasoning>``, ``<scratchpad>``, …), ``<seed:think>``, Magistral's
``[THINK]``, Kimi's ``◁think▷``, ``<|begin_of_thought|>`` (Sky-T1), ``<|START_THINKING|>`` (Command A) and the channels of gpt-oss,
also as they look once a tokenizer has left out their special tokens.
"""

from __future__ import annotations

import re

_NAMES = r"(?:seed:)?think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad|analysis|rationale|chain_of_thought|inner_monologue"
_OPENS = (
    rf"<[ ]?(?:{_NAMES})[ ]?>|<\|(?:{_NAMES})\|>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    r"|<\|channel\|>\s*(?:analysis|commentary)\b"
)
_CLOSES = (
    rf"<[ ]?/[ ]?(?:{_NAMES})[ ]?>|<\|/(?:{_NAMES})\|>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>"
    r"|<\|channel\|>\s*final\s*(?:<\|message\|>)?"
)
_REASONING = re.compile(rf"(?P<closes>{_CLOSES})|(?P<opens>{_OPENS})", re.IGNORECASE)
# gpt-oss without its special tokens: the channels' names run into what stands beside them.
_BARE_CHANNEL = re.compile(r"\s*analysis(?=[A-Z])")
_BARE_FINAL = "assistantfinal"
_TURN_ENDS = re.compile(
    r"<\|(?:im_end|im_start|eot_id|eom_id|end|endoftext|end_of_text|end_of_turn|return|END_RESPONSE|user)\|>"
    r"|</s>|<end_of_turn>|</(?:answer|response|solution|output)>|<\|end_of_solution\|>",
    re.IGNORECASE,
)
_WRAPPER = re.compile(
    r"<(?:answer|response|solution|output)>|<\|begin_of_solution\|>|<\|START_RESPONSE\|>|<\|START_TEXT\|>",
    re.IGNORECASE,
)
# A base model goes on with the next question of its own making.
_NEXT_QUESTION = re.compile(r"\n[ \t#*]*(?:Question|Q|User|Human)(?:[ \t]*\d+)?[ \t*]*:", re.IGNORECASE)


def answer_part(text: str) -> str:
    """``text`` without its reasoning, wrapper tags, marks of a turn's end and what follows them.

    Empty where the reasoning is not closed. A closing mark without an opening one counts: many templates open the block in the prompt.
    """
    marks = list(_REASONING.finditer(text))
    if marks:
        last = marks[-1]
        if last["opens"]:
            return ""
        text = text[last.end() :]
    elif _BARE_CHANNEL.match(text):
        text = text.rpartition(_BARE_FINAL)[2] if _BARE_FINAL in text else ""
    wrappers = list(_WRAPPER.finditer(text))
    text = text[wrappers[-1].end() :] if wrappers else text
    for end in (_TURN_ENDS, _NEXT_QUESTION):
        text = _before(end, text)
    return text.strip()


def _before(end: re.Pattern[str], text: str) -> str:
    """``text`` up to the first ``end`` that has something before it."""
    for match in end.finditer(text):
        if text[: match.start()].strip():
            return text[: match.start()]
    return text
