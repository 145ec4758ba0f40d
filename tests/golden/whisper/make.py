"""Makes ``tiny.safetensors``: a small random Whisper, and what transformers computes with it.

Run it as ``python tests/golden/whisper/make.py`` (transformers comes with fairseq2).
"""

# mypy: disable-error-code="no-untyped-call"

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

NUM_SAMPLES = 32_000


def main() -> None:
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=32,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=64,
        num_mel_bins=80,
        max_source_positions=NUM_SAMPLES // 320,
        init_std=0.2,
    )
    encoder = WhisperEncoder(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad and parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    draw = np.random.default_rng(0)
    time = np.arange(20_000) / 16_000
    speech = 0.05 * np.sin(2 * np.pi * (300 + 500 * time) * time) + draw.normal(0, 0.01, len(time))
    waveform = np.pad(speech, (0, NUM_SAMPLES - len(speech))).astype(np.float32)
    extractor = WhisperFeatureExtractor(chunk_length=NUM_SAMPLES // 16_000)
    mel = extractor(waveform, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        hidden = encoder(mel).last_hidden_state
    tensors = {f"model.encoder.{name}": value for name, value in encoder.state_dict().items()}
    tensors |= {"waveform": torch.from_numpy(waveform), "mel": mel[0], "hidden": hidden[0]}
    save_file(
        {k: v.contiguous() for k, v in tensors.items()},
        Path(__file__).with_name("tiny.safetensors"),
    )


if __name__ == "__main__":
    main()
