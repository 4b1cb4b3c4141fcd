"""A tiny speech LLM as it would come with a checkpoint that brings its own code: copied into one by a test, and run by
transformers' loading of remote code. Frames of 100 ms of sound, projected, before a Llama.
"""

import torch
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

FRAME = 1600


class TinyVoxConfig(PretrainedConfig):
    model_type = "tinyvox"
    sub_configs = {"text_config": AutoConfig}  # noqa: RUF012

    def __init__(self, text_config=None, **kwargs):
        self.text_config = LlamaConfig(**text_config) if isinstance(text_config, dict) else text_config or LlamaConfig()
        super().__init__(**kwargs)


class TinyVoxModel(PreTrainedModel):
    config_class = TinyVoxConfig
    base_model_prefix = "tinyvox"

    def __init__(self, config):
        super().__init__(config)
        self.projector = torch.nn.Linear(FRAME, config.text_config.hidden_size)
        self.language_model = LlamaForCausalLM(config.text_config)
        self.post_init()

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def forward(self, input_ids, attention_mask=None, audio_values=None, audio_start=None, **kwargs):
        embeds = self.get_input_embeddings()(input_ids)
        if audio_values is not None:
            frames = self.projector(audio_values.unflatten(-1, (-1, FRAME)))
            for row, start in enumerate(audio_start.tolist()):
                embeds[0, start : start + frames.shape[1]] = frames[row]
        return self.language_model(inputs_embeds=embeds, attention_mask=attention_mask, **kwargs)


class TinyVoxProcessor(ProcessorMixin):
    attributes = ["feature_extractor", "tokenizer"]  # noqa: RUF012
    feature_extractor_class = "Wav2Vec2FeatureExtractor"
    tokenizer_class = "AutoTokenizer"
    audio_placeholder = "<|audio|>"

    def __init__(self, feature_extractor=None, tokenizer=None):
        super().__init__(feature_extractor, tokenizer)

    def __call__(self, text, audio=None, sampling_rate=None, return_tensors="pt", **kwargs):
        parts = text.split(self.audio_placeholder)
        ids, start = list(self.tokenizer.encode(parts[0])), []
        data = {}
        if audio is not None:
            audios = audio if isinstance(audio, list) else [audio]
            padded = [torch.nn.functional.pad(torch.as_tensor(a), (0, -len(a) % FRAME)) for a in audios]
            for sound, part in zip(padded, parts[1:], strict=True):
                start.append(len(ids))
                ids += [self.tokenizer.eos_token_id] * (len(sound) // FRAME)
                ids += self.tokenizer.encode(part, add_special_tokens=False) if part else []
            data = {"audio_values": torch.stack(padded), "audio_start": torch.tensor(start)}
        ids = torch.tensor([ids])
        return BatchFeature({"input_ids": ids, "attention_mask": torch.ones_like(ids), **data})
