# SPDX-License-Identifier: Apache-2.0
"""A small Llama: RMSNorm, interleaved rotary positions, SwiGLU, tied embeddings, no biases."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LIMIT = 30.0
"""Norm of a feed-forward's output above which training pulls it back. Where a token cannot be told yet, the
last layer otherwise grows without bound, and drowns what the attention would have to say there."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the model: `size` is of a head, `context` in tokens."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 4
    heads: int = 4
    inner: int = 640
    size: int = 64
    context: int = 2048
    theta: float = 1e8  # slow: so that heads can compare tokens hundreds of places apart
    eps: float = 1e-5

    def as_dict(self) -> dict[str, float]:
        """For the checkpoint."""
        return asdict(self)


def rotary(length: int, size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (length, size / 2)."""
    rates = theta ** (-torch.arange(0, size, 2).float() / size)
    angles = torch.arange(length).float()[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring pairs of the last axis; x is (batch, heads, length, size)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Block(nn.Module):
    """One layer: attention, then the gated feed-forward, each after a norm and added on.

    In training, `excess` says how far the feed-forward's output was beyond `LIMIT` (mean square).
    """

    excess: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, inner = shape.width, shape.inner
        self.heads = shape.heads
        self.attn_norm = nn.RMSNorm(width, eps=shape.eps)
        across = shape.heads * shape.size
        self.qkv = nn.Linear(width, 3 * across, bias=False)
        self.out = nn.Linear(across, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, eps=shape.eps)
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """One layer on (batch, length, width)."""
        batch, length, _ = x.shape
        qkv = self.qkv(self.attn_norm(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        h = self.ffn_norm(x)
        h = self.down(F.silu(self.gate(h)) * self.up(h))
        if self.training:
            self.excess = F.relu(h.float().norm(dim=-1) - LIMIT).square().mean()
        return x + h


class Llama(nn.Module):
    """The model.

    `forward` takes token ids (batch, length) and returns hidden states (batch, length, width);
    `logits` turns any selection of these into scores of the vocabulary.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.eps)
        cos, sin = rotary(shape.context, shape.size, shape.theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        nn.init.normal_(self.embed.weight, std=0.02)
        for block in self.blocks:
            for name in ("qkv", "gate", "up"):
                nn.init.normal_(getattr(block, name).weight, std=shape.width**-0.5 * 0.8)
            nn.init.zeros_(block.out.weight)
            nn.init.zeros_(block.down.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Hidden states (batch, length, width) of token ids (batch, length)."""
        x = self.embed(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, cos, sin)
        hidden: Tensor = self.norm(x)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores (..., vocabulary) of hidden states (..., width)."""
        return F.linear(hidden, self.embed.weight)
