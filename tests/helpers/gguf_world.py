"""GGUF files as llama.cpp's converter writes them, of tiny models and tokenizers made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

NORMAL, CONTROL = 1, 3


def write_gguf(path: Path, model: Any, tokenizer: Any, *, pre: str = "gpt-2", **fields: Any) -> Path:
    """A Llama as float32 GGUF. ``pre`` names the rule of its tokenizer; ``fields`` are further ones (``add_bos_token=True``)."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, pre, fields)
    for name, tensor in model.state_dict().items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        array = tensor.detach().float().numpy()
        for part, n_heads in heads.items():
            if f".{part}." in name:
                array = _interleaved(array, n_heads)
        writer.add_tensor(_their_name(name), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, tokenizer: Any, pre: str, fields: dict[str, Any]) -> None:
    table = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = table["model"]["vocab"]
    special = {one["content"] for one in table["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in special else NORMAL for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in table["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    for name, value in fields.items():
        getattr(writer, f"add_{name}")(value)


def _interleaved(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows of a query or key in llama.cpp's order: the two halves of each head's rotation by turns."""
    rows = weight.reshape(n_heads, 2, weight.shape[0] // n_heads // 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def _their_name(name: str) -> str:
    for ours, theirs in {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers": "blk",
        **_NAMES,
    }.items():
        name = name.replace(ours, theirs)
    return name
