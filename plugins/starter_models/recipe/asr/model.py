# SPDX-License-Identifier: Apache-2.0
"""Whisper's architecture in plain torch, laid out for fast training on a CPU.

The weights map one to one onto Whisper's (see `export.py`); what differs is only that queries,
keys and values are one product, and that a connectionist temporal classification (CTC) head on
the encoder, used in training alone, teaches it the phonemes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """The model's dimensions; `width` must be a multiple of `heads`."""

    vocabulary: int
    phonemes: int
    width: int = 192
    heads: int = 4
    encoder_layers: int = 5
    decoder_layers: int = 2
    mels: int = 80
    frames: int = 1500  # encoder positions: 3000 feature frames
    tokens: int = 448

    def as_dict(self) -> dict[str, int]:
        """For the checkpoint."""
        return asdict(self)


def sinusoids(length: int, channels: int) -> Tensor:
    """Whisper's fixed encoder positions, shape (length, channels)."""
    step = torch.log(torch.tensor(10_000.0)) / (channels // 2 - 1)
    rates = torch.exp(-step * torch.arange(channels // 2))
    angle = torch.arange(length)[:, None] * rates[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# Up to this many keys three plain products beat the fused kernel, whose backward pass is slow
# on a CPU (28 % of a training step); beyond it the fused one saves memory.
_FUSED_FROM = 512


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if causal:
        length = scores.shape[-1]
        scores = scores + torch.full((length, length), -1e4, dtype=scores.dtype).triu(1)
    mixed: Tensor = scores.softmax(-1, dtype=scores.dtype).to(v.dtype) @ v
    return mixed


class Attention(nn.Module):
    """Multi-head attention over itself, or over `memory` where one is given."""

    def __init__(self, width: int, heads: int, cross: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.cross = cross
        if cross:
            self.q = nn.Linear(width, width)
            self.kv = nn.Linear(width, 2 * width)
        else:
            self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None = None, causal: bool = False) -> Tensor:
        """`x` (batch, time, width) to the same shape."""
        if memory is None:
            q, k, v = self.qkv(x).chunk(3, dim=-1)
        else:
            q = self.q(x)
            k, v = self.kv(memory).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        if k.shape[2] > _FUSED_FROM:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        else:
            mixed = _plain_attention(q, k, v, causal)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """One pre-norm transformer layer; the decoder's also look at the encoder's output."""

    def __init__(self, width: int, heads: int, cross: bool, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        if cross:
            self.norm_cross = nn.LayerNorm(width)
            self.cross = Attention(width, heads, cross=True)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = dropout

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """`x` (batch, time, width) to the same shape."""
        x = x + self._drop(self.attention(self.norm1(x), causal=memory is not None))
        if memory is not None:
            x = x + self._drop(self.cross(self.norm_cross(x), memory))
        return x + self._drop(self.down(F.gelu(self.up(self.norm2(x)))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Recognizer(nn.Module):
    """Whisper with a CTC head on the encoder."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.conv1 = nn.Conv1d(shape.mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.position_scale = nn.Parameter(torch.tensor(0.3))
        self.register_buffer("positions", sinusoids(shape.frames, width), persistent=False)
        self.encoder = nn.ModuleList(
            Block(width, shape.heads, False, dropout) for _ in range(shape.encoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(width)
        self.ctc = nn.Linear(width, shape.phonemes)
        self.embedding = nn.Embedding(shape.vocabulary, width)
        self.token_positions = nn.Parameter(torch.randn(shape.tokens, width) * 0.02)
        self.decoder = nn.ModuleList(
            Block(width, shape.heads, True, dropout) for _ in range(shape.decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embedding.weight, std=0.05)
        depth = 2 * max(len(self.encoder), len(self.decoder))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and name.endswith("weight") and "embedding" not in name:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5 * 0.7)
                if name.endswith(("out.weight", "down.weight")):
                    parameter.data.mul_(depth**-0.5)
            elif parameter.dim() == 3:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            if name.endswith("bias") and parameter.dim() == 1 and "norm" not in name:
                nn.init.zeros_(parameter)

    def encode(self, features: Tensor) -> Tensor:
        """Features (batch, 80, frames) to (batch, frames / 2, width)."""
        x = F.gelu(self.conv1(features))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        positions: Tensor = self.get_buffer("positions")
        x = x + (self.position_scale * positions[: x.shape[1]]).to(x.dtype)
        for block in self.encoder:
            x = block(x)
        out: Tensor = self.encoder_norm(x)
        return out

    def decode(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """Tokens (batch, length) to logits (batch, length, vocabulary)."""
        x = self.embedding(tokens) + self.token_positions[: tokens.shape[1]]
        for block in self.decoder:
            x = block(x, memory)
        return F.linear(self.decoder_norm(x), self.embedding.weight)
