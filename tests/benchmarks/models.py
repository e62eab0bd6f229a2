# SPDX-License-Identifier: Apache-2.0
"""Makes language models of real shapes with random weights: weights do not change what computing costs.

    python -m tests.benchmarks.models --shape qwen2-0.5b --out /tmp/models

What such a model writes is noise, but always the same noise: the weights come from a seed, and each printable
character makes another one likely. Without that the likeliest tokens of random weights lie so close together
that rounding would choose, and two ways of computing the same could not be compared by what they write. Its
vocabulary spells every text letter by letter; the rest of its tokens are there for their cost.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' + (message.content or '') + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
_MERGED = (chr(256), chr(257))
"""The one merge, without which llama.cpp takes no vocabulary: of two bytes that no text holds."""

_NEWLINE = chr(256 + 10)
"""How the vocabulary writes a line feed, with which every prompt ends."""

_BLOCK = 32
"""Weights of a Q4_0 block: a 16-bit scale and 32 numbers of four bits, from -8 to 7."""

_SPREAD = 8.0
"""Standard deviation of the characters' logits."""

_FOLLOWS = 0.7
"""How much of a character's row in the output matrix is its forerunner's embedding; the rest is noise."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a decoder with grouped attention and a gated feed-forward part.

    Attributes:
        architecture: llama.cpp's name.
        biases: whether queries, keys and values have them.
    """

    architecture: str
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    context: int
    theta: float
    biases: bool


SHAPES = {
    "qwen2-0.5b": Shape("qwen2", 151936, 896, 24, 14, 2, 4864, 32768, 1e6, biases=True),
    "llama3-8b": Shape("llama", 128256, 4096, 32, 32, 8, 14336, 131072, 5e5, biases=False),
}


def language_model(name: str, folder: Path) -> Path:
    """Return a Q4_0 file of the shape `name` in `folder`; written unless it is there."""
    path = folder / f"{name}-random-q4_0.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        write(unfinished, SHAPES[name])
        unfinished.rename(path)
    return path


def write(path: Path, shape: Shape, seed: int = 0) -> None:
    """Write a model of random weights: matrices in Q4_0, norms and biases in 32-bit floats."""
    tokens = vocabulary(shape.vocabulary)
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(shape.theta)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token in CONTROL else normal for token in tokens])
    writer.add_token_merges([" ".join(_MERGED)])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(value=False)
    writer.add_chat_template(TEMPLATE)
    for tensor, data in _tensors(shape, tokens, np.random.default_rng(seed)):
        quantized = gguf.GGMLQuantizationType.Q4_0 if data.dtype == np.uint8 else None
        writer.add_tensor(tensor, data, raw_dtype=quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def vocabulary(size: int) -> list[str]:
    """Return control tokens, the 256 characters that write bytes in GPT-2's vocabulary, and unused words."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    shifted = iter(range(256, 512))
    letters = [chr(byte) if byte in printable else chr(next(shifted)) for byte in range(256)]
    unused = (f"unused{number}" for number in range(size))
    return [*CONTROL, *letters, "".join(_MERGED), *unused][:size]


def _tensors(
    shape: Shape, tokens: Sequence[str], random: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    width, inner = shape.width, shape.inner
    narrow = width // shape.heads * shape.kv_heads
    ones = np.ones(width, np.float32)
    embeddings = _q4_0(random, len(tokens), width, 1.0)
    yield "token_embd.weight", embeddings
    yield "output.weight", _head(random, tokens, embeddings)
    yield "output_norm.weight", ones
    for layer in range(shape.layers):
        for part, rows in (("q", width), ("k", narrow), ("v", narrow)):
            yield f"blk.{layer}.attn_{part}.weight", _q4_0(random, rows, width, width**-0.5)
            if shape.biases:
                yield f"blk.{layer}.attn_{part}.bias", np.zeros(rows, np.float32)
        yield f"blk.{layer}.attn_output.weight", _q4_0(random, width, width, width**-0.5)
        yield f"blk.{layer}.ffn_gate.weight", _q4_0(random, inner, width, width**-0.5)
        yield f"blk.{layer}.ffn_up.weight", _q4_0(random, inner, width, width**-0.5)
        yield f"blk.{layer}.ffn_down.weight", _q4_0(random, width, inner, inner**-0.5)
        yield f"blk.{layer}.attn_norm.weight", ones
        yield f"blk.{layer}.ffn_norm.weight", ones


def _head(
    random: np.random.Generator, tokens: Sequence[str], embeddings: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The output matrix: logits of zero for all but printable characters, which are never a space."""
    count = len(tokens)
    given = embeddings.reshape(count, -1, 2 + _BLOCK // 2)
    width = given.shape[1] * _BLOCK
    rows = _q4_0(random, count, width, _SPREAD * width**-0.5)
    blocks = rows.reshape(given.shape)
    letters = [n for n, token in enumerate(tokens) if len(token) == 1 and "!" <= token <= "~"]
    order = [tokens.index(_NEWLINE), *random.permutation(letters)]
    copied = round(_FOLLOWS * given.shape[1])
    blocks[order[1:], :copied, 2:] = given[order[:-1], :copied, 2:]
    silent = np.ones(count, bool)
    silent[letters] = False
    blocks[silent, :, :2] = 0
    return rows


def _q4_0(
    random: np.random.Generator, rows: int, columns: int, deviation: float
) -> NDArray[np.uint8]:
    """Return a matrix as llama.cpp stores it, shape (rows, bytes of a row)."""
    blocks = np.empty((rows, columns // _BLOCK, 2 + _BLOCK // 2), np.uint8)
    blocks[..., 2:] = _BALANCED[np.frombuffer(random.bytes(rows * columns // 2), np.uint8)].reshape(
        rows, columns // _BLOCK, -1
    )
    scale = np.float16(deviation / np.arange(-7, 8).std())
    blocks[..., :2] = np.frombuffer(scale.tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def _balanced() -> NDArray[np.uint8]:
    """A table from bytes to pairs of numbers from -7 to 7, stored with 8 added: -8 would shift the mean."""
    low, high = np.arange(256) & 15, np.arange(256) >> 4
    pairs: NDArray[np.uint8] = np.where(low, low, 8) + 16 * np.where(high, high, 8)
    return pairs.astype(np.uint8)


_BALANCED = _balanced()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write one model and print its path."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen2-0.5b")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    print(language_model(options.shape, options.out))


if __name__ == "__main__":
    main(sys.argv[1:])
