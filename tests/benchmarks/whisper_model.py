# SPDX-License-Identifier: Apache-2.0
"""Makes a Whisper model with random weights and the real sizes, int8, in CTranslate2's format.

Weights do not change the compute, but what is written decides how long it takes. So the model says the same
thirteen tokens about any sound: the position embeddings of the decoder point at them, and everything the
layers compute is added to that. Whoever asks gets the same words, after all the work.

Usage: python -m tests.benchmarks.whisper_model FOLDER [base|tiny]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ctranslate2  # type: ignore[import-untyped]
import numpy as np
from faster_whisper.tokenizer import _LANGUAGE_CODES  # type: ignore[import-untyped]
from numpy.typing import NDArray

TEXT = "I can book an appointment for you on Friday at half past two"
"""What it says: thirteen tokens, as many as three seconds of speech have."""

_SIZES = {"tiny": (384, 6, 4), "base": (512, 8, 6)}  # width, heads, layers
_WORDS = 50_256
_VOCABULARY = 51_864  # of the English-only models: their prompt has two tokens
_FIRST = 1  # the position of the last token of the prompt, which predicts the first of the text
_POINT = 400.0  # how much more a position says than the layers do


def make_model(folder: Path, size: str = "base") -> Path:
    """Write model.bin, config.json, vocabulary.json and tokenizer.json; return `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    width, heads, layers = _SIZES[size]
    spec = ctranslate2.specs.WhisperSpec(layers, heads, layers, heads)
    tokens = _tokens()
    _fill(spec, width, [tokens.index(word) for word in _spoken()])
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = []
    spec.config.alignment_heads = [(layers - 1, 0)]
    spec.config.lang_ids = list(range(_WORDS + 2, _WORDS + 101))
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(folder))
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(tokens)), "utf-8")
    return folder


def _spoken() -> list[str]:
    return [f"\u0120{word}" for word in TEXT.split()]  # how byte-level BPE writes a space


def _tokens() -> list[str]:
    """Return the vocabulary: bytes, the words of the text, fillers, then Whisper's own tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = iter(range(256, 512))
    alphabet = [chr(byte) if byte in printable else chr(next(shifted)) for byte in range(256)]
    words = [*alphabet, *_spoken()]
    words += [f"\u0120w{number}" for number in range(_WORDS - len(words))]
    languages = [f"<|{code}|>" for code in _LANGUAGE_CODES if code != "yue"]
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *languages,
        "<|translate|>",
        "<|transcribe|>",
    ]
    special += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    times = [f"<|{number * 0.02:.2f}|>" for number in range(1501)]
    tokens = [*words, *special, *times]
    assert len(tokens) == len(set(tokens)) == _VOCABULARY
    return tokens


def _tokenizer(tokens: list[str]) -> dict[str, Any]:
    added = [
        {"id": at, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for at, token in enumerate(tokens) if at >= _WORDS
    ]  # fmt: skip
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    model: dict[str, Any] = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": {token: at for at, token in enumerate(tokens[:_WORDS])},
        "merges": [],
    }
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
            "model": model}  # fmt: skip


def _fill(spec: Any, width: int, text: list[int]) -> None:
    """Give every required weight random values of the shape that its name asks for."""
    random = np.random.default_rng(11)

    def weights(*shape: int, fan: int = 0) -> NDArray[np.float32]:
        values = random.standard_normal(shape, np.float32)
        return np.asarray(values / np.float32((fan or shape[-1]) ** 0.5), np.float32)

    for name, part in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        _norm(part.layer_norm, width)
        for layer in part.layer:
            attentions: list[tuple[Any, tuple[int, ...]]] = [(layer.self_attention, (3, 1))]
            if name == "decoder":
                attentions.append((layer.attention, (1, 2, 1)))
            for attention, heights in attentions:
                _norm(attention.layer_norm, width)
                for linear, height in zip(attention.linear, heights, strict=True):
                    _linear(linear, weights(height * width, width))
            _norm(layer.ffn.layer_norm, width)
            _linear(layer.ffn.linear_0, weights(4 * width, width))
            _linear(layer.ffn.linear_1, weights(width, 4 * width))
    spec.encoder.conv1.weight = weights(width, 80, 3, fan=240)
    spec.encoder.conv2.weight = weights(width, width, 3, fan=3 * width)
    for conv in (spec.encoder.conv1, spec.encoder.conv2):
        conv.bias = np.zeros(width, np.float32)
    spec.encoder.position_encodings.encodings = weights(1500, width)
    embeddings = weights(_VOCABULARY, width)
    spec.decoder.embeddings.weight = embeddings
    spec.decoder.projection.weight = embeddings
    said = [0] * _FIRST + text + [_WORDS] * (448 - _FIRST - len(text))  # the end, from then on
    spec.decoder.position_encodings.encodings = _POINT * embeddings[said]


def _norm(norm: Any, width: int) -> None:
    norm.gamma, norm.beta = np.ones(width, np.float32), np.zeros(width, np.float32)


def _linear(linear: Any, weight: NDArray[np.float32]) -> None:
    linear.weight, linear.bias = weight, np.zeros(len(weight), np.float32)


if __name__ == "__main__":
    sys.stdout.write(f"{make_model(Path(sys.argv[1]), (sys.argv[2:] or ['base'])[0])}\n")
