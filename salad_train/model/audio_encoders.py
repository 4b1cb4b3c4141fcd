"""Any Hugging Face audio encoder behind one face: how long its output is, and output that no batch mate can change.

Frozen encoders differ in three ways that matter here: how they shorten time, what padding does to them, and where their
features come out. All three are stated as data in an ``EncoderSpec``; nothing else in this package asks which encoder
it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from salad_eval.asr.whisper_options import window_of
from salad_eval.errors import AudioError, ModelError

Geometry = tuple[tuple[int, int, int], ...]
ENCODER_DTYPES = ("float32", "bfloat16")
WHISPER_FRAMES_A_SECOND = 100
WHISPER_MARGIN = (
    100  # mel frames of silence that Whisper wants after a recording: cut right behind it, frames differ twice as much
)


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What must be known of an encoder to use it.

    Attributes:
        hidden_size: width of its output.
        geometry: (kernel, stride, padding) of each convolution along time; see ``output_length``.
        reads_waveform: whether its input is sound, shape (n, samples), and not features, shape (n, frames, bins) or
            (n, bins, frames).
        sample_multiple: waveforms are zero-padded to a multiple of this many samples, so that the last frame is whole.
        fixed_window: whether every input is padded to a window of silence after it (Whisper's: 30 s).
        windows: sizes of such a window in input frames, smallest first; a recording gets the smallest that leaves ``margin`` input
            frames of silence after it, and the largest where none does. Empty: the extractor's full window alone.
        margin: see ``windows``.
        dtype: in which it computes: "float32" (or what its weights are loaded in), or "bfloat16" under autocast.
        batch_safe: whether padding is masked throughout, so that a padded batch equals its members encoded alone.
    """

    hidden_size: int
    geometry: Geometry
    reads_waveform: bool = False
    sample_multiple: int = 1
    fixed_window: bool = False
    windows: tuple[int, ...] = ()
    margin: int = 0
    dtype: str = "float32"
    batch_safe: bool = True


def output_length(n: int, geometry: Sequence[Sequence[int]]) -> int:
    """Frames that come out for ``n`` input frames (or samples): floor((n + 2·padding − kernel) / stride) + 1 at each
    convolution."""
    for kernel, stride, padding in geometry:
        n = max(0, (n + 2 * padding - kernel) // stride + 1)
    return n


def encoder_config(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration of the encoder alone: a CTC or transducer model's ``encoder_config``, otherwise ``config``
    itself."""
    if config.model_type == "mimi":
        return config
    inner = getattr(config, "encoder_config", None)
    return inner if isinstance(inner, PretrainedConfig) else config


def spec_of(
    config: PretrainedConfig,
    geometry: Sequence[Sequence[int]] | None = None,
    windows: Sequence[float] | None = None,
    dtype: str = "float32",
) -> EncoderSpec:
    """The ``EncoderSpec`` of an encoder configuration; ``geometry`` overrides what would be derived, ``windows`` are in seconds.

    Raises ``ModelError`` for an encoder whose geometry is neither known nor given, and for windows that are none of its own.
    """
    if dtype not in ENCODER_DTYPES:
        raise ModelError(f"encoder_dtype is {dtype!r}; expected {' or '.join(ENCODER_DTYPES)}.")
    if dtype != "float32" and config.model_type == "mimi":
        raise ModelError(f"encoder_dtype is {dtype!r}, and Mimi's codes are looked up in float32. Leave it out.")
    if windows and config.model_type != "whisper":
        raise ModelError(
            f"encoder_windows is {list(windows)} for an audio encoder of type {config.model_type!r}, which takes a recording as long "
            "as it is. They are Whisper's alone."
        )
    return replace(_derived(config, geometry), dtype=dtype, **_windows(config, windows or ()))


def _windows(config: PretrainedConfig, seconds: Sequence[float]) -> dict[str, Any]:
    """Windows as input frames of Whisper's extractor."""
    if not seconds:
        return {}
    least, most = 2 * WHISPER_MARGIN, 2 * int(config.max_source_positions)
    frames = tuple(round(one * WHISPER_FRAMES_A_SECOND) for one in seconds)
    in_order = list(frames) == sorted(set(frames)) and not any(n % 2 for n in frames)
    if not in_order or frames[0] < least or frames[-1] != most:
        low, high = least / WHISPER_FRAMES_A_SECOND, most / WHISPER_FRAMES_A_SECOND
        raise ModelError(
            f"encoder_windows is {list(seconds)}; expected seconds in rising order, from {low:g} up, the last {high:g} (all that the "
            "encoder has positions for), in steps of 0.02."
        )
    return {"windows": frames, "margin": WHISPER_MARGIN}


def _derived(config: PretrainedConfig, geometry: Sequence[Sequence[int]] | None) -> EncoderSpec:
    stated: Geometry | None = tuple((int(k), int(s), int(p)) for k, s, p in geometry) if geometry is not None else None
    width = int(getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or 0)
    if config.model_type == "mimi":
        # Causal convolutions over zeros: padded to whole frames, a shorter recording cannot tell what follows it.
        frame = int(config.frame_size)
        return EncoderSpec(width, stated or ((1, frame, 0),), reads_waveform=True, sample_multiple=frame)
    if config.model_type == "whisper":
        return EncoderSpec(width, stated or ((3, 1, 1), (3, 2, 1)), fixed_window=True)
    if hasattr(config, "subsampling_conv_kernel_size") and hasattr(config, "subsampling_factor"):
        kernel, stride = config.subsampling_conv_kernel_size, config.subsampling_conv_stride
        layers = int(math.log2(config.subsampling_factor))
        return EncoderSpec(width, stated or ((kernel, stride, (kernel - 1) // 2),) * layers)
    if getattr(config, "conv_kernel", None) and getattr(config, "conv_stride", None):
        derived = tuple((int(k), int(s), 0) for k, s in zip(config.conv_kernel, config.conv_stride, strict=True))
        # Group normalisation over time sees the padding; such an encoder is run on one recording at a time.
        masked = getattr(config, "feat_extract_norm", "layer") == "layer"
        return EncoderSpec(width, stated or derived, reads_waveform=True, batch_safe=masked)
    if stated is None:
        raise ModelError(
            f"audio encoder of type {config.model_type!r}: how it shortens time is not known here. State it as length_geometry, "
            "a list of [kernel, stride, padding] for each convolution along time ([] where there is none). "
            "Known without: parakeet, whisper, mimi and the wav2vec 2.0 family."
        )
    # Padding is masked as far as the encoder does so itself, which is not known: run recordings one at a time.
    return EncoderSpec(width, stated, batch_safe=False)


def build_encoder(config: Any) -> PreTrainedModel:
    """A randomly initialised encoder of this configuration, without any decoder."""
    if config.model_type == "whisper":
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return WhisperEncoder(config)
    if config.model_type == "mimi" and getattr(config, "decoder_config", None) is not None:
        config.decoder_config = None  # the codec's decoder is never used
    model = AutoModel.from_config(config)
    return model.get_encoder() if getattr(config, "is_encoder_decoder", False) else model


def encoder_of(model: Any) -> PreTrainedModel:
    """The audio encoder inside ``model``: a CTC model's, an encoder-decoder's, or the model itself."""
    if model.config.model_type == "mimi":
        if getattr(model, "decoder", None) is not None:
            model.config.decoder_config = None
            model.decoder = None
        found: PreTrainedModel = model
    elif isinstance(getattr(model, "encoder", None), PreTrainedModel):
        found = model.encoder
    elif getattr(model.config, "is_encoder_decoder", False):
        found = model.get_encoder()
    else:
        found = model.base_model
    return found


@torch.no_grad()
def encode(
    encoder: PreTrainedModel,
    spec: EncoderSpec,
    features: torch.Tensor,
    mask: torch.Tensor,
    *,
    mimi_latents: str = "quantized",
    mimi_quantizers: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Frozen encoder output and its lengths.

    Args:
        features: (n, …) as the feature extractor gives them, padded on the right.
        mask: (n, frames or samples), 1 where real.

    Returns:
        (n, frames, hidden_size), zero beyond each length, and lengths (n,) of type int64. Rows do not depend on each
        other.
    """
    features = features.to(
        device=encoder.device, dtype=encoder.dtype if features.is_floating_point() else features.dtype
    )
    n_inputs = [int(n) for n in mask.sum(-1)]
    lengths = torch.tensor(
        [output_length(n, spec.geometry) for n in n_inputs], dtype=torch.long, device=features.device
    )
    if not len(lengths) or int(lengths.min()) < 1:
        raise AudioError(
            f"a recording of {min(n_inputs, default=0)} input frames is too short for one frame of the audio encoder; leave it out."
        )
    if spec.windows:
        hidden = _in_windows(encoder, spec, features, n_inputs)
    elif spec.batch_safe or len(lengths) == 1:
        hidden = _run(encoder, spec, features, mask.to(features.device), mimi_latents, mimi_quantizers)
    else:
        alone = [
            _run(
                encoder,
                spec,
                features[i : i + 1, :n],
                mask[i : i + 1, :n].to(features.device),
                mimi_latents,
                mimi_quantizers,
            )[0]
            for i, n in enumerate(n_inputs)
        ]
        hidden = nn.utils.rnn.pad_sequence(alone, batch_first=True)
    longest = int(lengths.max())
    if hidden.shape[1] < longest:
        raise ModelError(
            f"the audio encoder gave {hidden.shape[1]} frames where its geometry {spec.geometry} says {longest}; "
            "correct length_geometry in the model's configuration."
        )
    hidden = hidden[:, :longest]
    return hidden.masked_fill(~first_places(lengths, longest)[..., None], 0.0), lengths


def first_places(counts: torch.Tensor, width: int) -> torch.Tensor:
    """(n, width) true in the first ``counts[i]`` places of row i: what is no padding."""
    return torch.arange(width, device=counts.device) < counts[:, None]


def _in_windows(encoder: Any, spec: EncoderSpec, features: torch.Tensor, n_inputs: Sequence[int]) -> torch.Tensor:
    """Whisper's output, each recording in its own window, whatever its batch mates need: (n, longest output, width)."""
    windows = [window_of(n, spec.windows, spec.margin) for n in n_inputs]
    rows: dict[int, torch.Tensor] = {}
    for size in sorted(set(windows)):
        places = [place for place, own in enumerate(windows) if own == size]
        with torch.autocast(features.device.type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
            output = _whisper(encoder, features[places, :, :size])
        rows.update(zip(places, output.to(features.dtype), strict=True))
    return nn.utils.rnn.pad_sequence([rows[place] for place in range(len(windows))], batch_first=True)


def _whisper(encoder: Any, features: torch.Tensor) -> torch.Tensor:
    """Whisper's encoder on a window shorter than its own: (n, mels, frames) → (n, frames / 2, width).

    The class of transformers refuses one. Its positions are sinusoids from the beginning on, so the first of them fit.
    """
    hidden = nn.functional.gelu(encoder.conv1(features))
    hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        output = layer(hidden, None)
        hidden = output[0] if isinstance(output, tuple) else output
    normalised: torch.Tensor = encoder.layer_norm(hidden)
    return normalised


def _run(
    encoder: Any,
    spec: EncoderSpec,
    features: torch.Tensor,
    mask: torch.Tensor,
    mimi_latents: str,
    mimi_quantizers: int | None,
) -> torch.Tensor:
    if encoder.config.model_type != "mimi":
        with torch.autocast(features.device.type, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
            output: torch.Tensor = encoder(features, attention_mask=mask).last_hidden_state
        return output.to(features.dtype)
    latents: torch.Tensor = encoder.encoder(features[:, None]).latents
    if mimi_latents == "quantized":
        codes = encoder.quantizer.encode(latents, mimi_quantizers).transpose(0, 1)
        latents = encoder.quantizer.decode(codes)
    return latents.transpose(1, 2)


def stack(frames: torch.Tensor, lengths: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Join every ``n`` neighbouring frames into one: (b, t, d) → (b, ⌈t/n⌉, n·d), lengths ⌈length/n⌉.

    Frames beyond a length must be zero; a last group that is not full is completed with zeros.
    """
    if n == 1:
        return frames, lengths
    batch, time, width = frames.shape
    missing = -time % n
    if missing:
        frames = nn.functional.pad(frames, (0, 0, 0, missing))
    return frames.reshape(batch, (time + missing) // n, n * width), (lengths + n - 1) // n
