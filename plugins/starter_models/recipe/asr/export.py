# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to what faster-whisper loads: CTranslate2, int8, with its companions.

The weights go through transformers' own Whisper class, so that CTranslate2's stock converter
does the rest and a test can compare the two.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from ctranslate2.converters import TransformersConverter  # type: ignore[import-untyped]
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration

from recipe.asr import tokenizer as bpe
from recipe.asr.features import HOP, MELS, N_FFT, SAMPLE_RATE
from recipe.asr.model import Shape, sinusoids

Weights = dict[str, torch.Tensor]


def _attention(out: Weights, name: str, state: Weights, source: str, cross: bool) -> None:
    weight, bias = (
        (
            torch.cat([state[f"{source}.q.{k}"], state[f"{source}.kv.{k}"]])
            for k in ("weight", "bias")
        )
        if cross
        else (state[f"{source}.qkv.{k}"] for k in ("weight", "bias"))
    )
    for part, w, b in zip("qkv", weight.chunk(3), bias.chunk(3), strict=True):
        out[f"{name}.{part}_proj.weight"] = w
        if part != "k":  # a key's bias shifts all scores alike: softmax does not see it
            out[f"{name}.{part}_proj.bias"] = b
    for kind in ("weight", "bias"):
        out[f"{name}.out_proj.{kind}"] = state[f"{source}.out.{kind}"]


def whisper_weights(state: Weights, shape: Shape, positions: torch.Tensor) -> Weights:
    """The checkpoint's weights under transformers' names."""
    out: Weights = {
        "model.encoder.embed_positions.weight": positions * state["position_scale"],
        "model.decoder.embed_tokens.weight": state["embedding.weight"],
        "model.decoder.embed_positions.weight": state["token_positions"],
        "proj_out.weight": state["embedding.weight"],
    }
    for side, layers in (("encoder", shape.encoder_layers), ("decoder", shape.decoder_layers)):
        for kind in ("weight", "bias"):
            out[f"model.{side}.layer_norm.{kind}"] = state[f"{side}_norm.{kind}"]
        for n in range(layers):
            here, there = f"{side}.{n}", f"model.{side}.layers.{n}"
            _attention(out, f"{there}.self_attn", state, f"{here}.attention", cross=False)
            names = {
                "norm1": "self_attn_layer_norm",
                "norm2": "final_layer_norm",
                "up": "fc1",
                "down": "fc2",
            }
            if side == "decoder":
                _attention(out, f"{there}.encoder_attn", state, f"{here}.cross", cross=True)
                names["norm_cross"] = "encoder_attn_layer_norm"
            for ours, theirs in names.items():
                for kind in ("weight", "bias"):
                    out[f"{there}.{theirs}.{kind}"] = state[f"{here}.{ours}.{kind}"]
    for conv in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            out[f"model.encoder.{conv}.{kind}"] = state[f"{conv}.{kind}"]
    return out


def _config(shape: Shape, tokenizer: Tokenizer) -> WhisperConfig:
    ids = {t: bpe.token_id(tokenizer, t) for t in bpe.SPECIALS}
    return WhisperConfig(
        vocab_size=shape.vocabulary,
        num_mel_bins=shape.mels,
        d_model=shape.width,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.width,
        decoder_ffn_dim=4 * shape.width,
        max_source_positions=shape.frames,
        max_target_positions=shape.tokens,
        bos_token_id=ids[bpe.EOT],
        eos_token_id=ids[bpe.EOT],
        pad_token_id=ids[bpe.EOT],
        decoder_start_token_id=ids[bpe.SOT],
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )


def whisper(checkpoint: Path, tokenizer: Tokenizer) -> WhisperForConditionalGeneration:
    """Hugging Face's Whisper with the checkpoint's weights."""
    loaded: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    shape = Shape(**loaded["shape"])
    model = WhisperForConditionalGeneration(_config(shape, tokenizer))
    weights = whisper_weights(loaded["model"], shape, sinusoids(shape.frames, shape.width))
    result = model.load_state_dict(weights, strict=False)
    if result.missing_keys or result.unexpected_keys:
        raise RuntimeError(f"the checkpoint does not fit Whisper: {result}")
    model.train(False)
    return model


def export(checkpoint: Path, tokenizer_path: Path, target: Path) -> None:
    """Write the model and the four small files that go with it into `target`."""
    tokenizer = bpe.load(tokenizer_path)
    preprocessor = {
        "feature_size": MELS,
        "sampling_rate": SAMPLE_RATE,
        "hop_length": HOP,
        "n_fft": N_FFT,
        "chunk_length": HOP * 3000 // SAMPLE_RATE,
    }
    with tempfile.TemporaryDirectory() as folder:
        whisper(checkpoint, tokenizer).save_pretrained(folder)
        PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_file=str(tokenizer_path), eos_token=bpe.EOT, bos_token=bpe.EOT
        ).save_pretrained(folder)
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        converter = TransformersConverter(folder)
        converter.convert(str(target), quantization="int8", force=True)
    shutil.copy(tokenizer_path, target / "tokenizer.json")
    (target / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
    config = json.loads((target / "config.json").read_text())
    # A first token of "nothing was said" must stay possible, so nothing is suppressed.
    config |= {"suppress_ids": [], "suppress_ids_begin": [], "lang_ids": []}
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Export the work folder's checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True)
    args = parser.parse_args(argv)
    export(args.work / "checkpoint.pt", args.work / "tokenizer.json", args.target)


if __name__ == "__main__":
    main()
