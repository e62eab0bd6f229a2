# SPDX-License-Identifier: Apache-2.0
"""Starts a model with the circuit that copying needs, which a small model finds late or never.

After Olsson et al., "In-context learning and induction heads" (2022). The stream of `width` places is
divided: most hold the token, some a note of the token before, one a constant. A head of layer 0 attends
to the previous token (its query and key are constant, and their rotary phases peak at a distance of one) and
writes that note. Two heads of layer 1 look for the place whose note is the present token, and add what
stands there: the token that followed last time. Everything is trained on from there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipe.llm.model import Block, Llama

NOTES = 46  # places of the note, and head dimensions in which it is compared
_SPREAD = 0.12  # of a token's places; large, so that the first steps of training do not wash it out
_SCORES = 0.3  # first weight of the last norm: keeps the scores small for all that
_CONSTANT = 4.0  # the constant, in spreads
_SHARP = 12.0  # score of the previous token's query for each fast pair, after scaling
_FAST = 6  # pairs that turn fast enough to tell neighbours
_MATCH = 1.8  # query and key of the comparison, in spreads
_COPY = 4.0  # what is added, in spreads


@torch.no_grad()
def install(model: Llama) -> None:
    """Write the circuit into a model that was just made; the random state of torch decides its bases."""
    shape = model.shape
    places = shape.width - NOTES - 1
    embed = model.embed.weight
    embed.normal_(std=_SPREAD)
    embed[:, places:] = 0
    embed[:, -1] = _CONSTANT * _SPREAD
    model.norm.weight.fill_(_SCORES)
    probe = torch.linalg.qr(torch.randn(places, NOTES))[0].T
    _note_previous(model, places, probe)
    _copy_following(model, places, probe)


def _rows(model: Llama, part: int, head: int) -> slice:
    """Rows of a head in the fused projection: part 0 is query, 1 key, 2 value."""
    size = model.shape.size
    start = (part * model.shape.heads + head) * size
    return slice(start, start + size)


def _set(model: Llama, layer: int, head: int, weights: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Set query, key and value of a head; return its columns of the output, all zero."""
    block = model.blocks[layer]
    assert isinstance(block, Block)
    for part, weight in enumerate(weights):
        block.qkv.weight[_rows(model, part, head)] = weight
    size = model.shape.size
    return block.out.weight[:, head * size : (head + 1) * size]


def _note_previous(model: Llama, places: int, probe: Tensor) -> None:
    shape = model.shape
    rates = shape.theta ** (-torch.arange(0, 2 * _FAST, 2) / shape.size)
    strength = (_SHARP * shape.size**0.5) ** 0.5 / _CONSTANT
    q, k, v = (torch.zeros(shape.size, shape.width) for _ in range(3))
    q[0 : 2 * _FAST : 2, -1] = rates.cos() * strength
    q[1 : 2 * _FAST : 2, -1] = -rates.sin() * strength
    k[0 : 2 * _FAST : 2, -1] = strength
    v[:NOTES, :places] = probe
    out = _set(model, 0, 0, (q, k, v))
    out[places:-1, :NOTES] = torch.eye(NOTES) * _SPREAD


def _copy_following(model: Llama, places: int, probe: Tensor) -> None:
    shape = model.shape
    basis = torch.linalg.qr(torch.randn(places, 2 * shape.size))[0].T
    for head in range(2):
        q, k, v = (torch.zeros(shape.size, shape.width) for _ in range(3))
        q[-NOTES:, :places] = probe * _MATCH
        k[-NOTES:, places:-1] = torch.eye(NOTES) * _MATCH
        part = basis[head * shape.size : (head + 1) * shape.size]
        v[:, :places] = part
        out = _set(model, 1, head, (q, k, v))
        out[:places] = part.T * _COPY * _SPREAD
