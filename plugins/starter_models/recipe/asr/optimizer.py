# SPDX-License-Identifier: Apache-2.0
"""Muon: momentum whose update of each weight matrix is made orthogonal before it is applied.

After Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). Used for
the transformer's matrices; embeddings, norms, biases and convolutions are left to AdamW.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic of the Newton-Schulz iteration


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest matrix with singular values about one; same shape as the argument."""
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    out: Tensor = (x.T if tall else x).to(matrix.dtype)
    return out


class Muon:
    """The optimizer over `parameters`, all of them matrices. Fused projections are split."""

    def __init__(self, parameters: Iterable[nn.Parameter], momentum: float = 0.95) -> None:
        self.parameters = list(parameters)
        self.momentum = momentum
        self.buffers = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, rate: float, decay: float = 0.0) -> None:
        """One update at learning rate `rate`."""
        for parameter, buffer in zip(self.parameters, self.buffers, strict=True):
            if parameter.grad is None:
                continue
            buffer.lerp_(parameter.grad, 1 - self.momentum)
            update = parameter.grad.lerp(buffer, self.momentum)
            width = update.shape[1]
            fused = update.shape[0] in (2 * width, 3 * width)
            parts = torch.split(update, width) if fused else (update,)
            square = torch.cat([orthogonalised(part) for part in parts])
            scale = max(1.0, parts[0].shape[0] / width) ** 0.5
            parameter.mul_(1 - rate * decay).add_(square, alpha=-rate * scale)

    def state(self) -> list[Tensor]:
        """The momentum, for the checkpoint."""
        return self.buffers

    def restore(self, buffers: list[Tensor]) -> None:
        """Take up the momentum of a checkpoint."""
        for mine, theirs in zip(self.buffers, buffers, strict=True):
            mine.copy_(theirs)
