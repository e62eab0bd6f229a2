# SPDX-License-Identifier: Apache-2.0
"""Gives a model the copying circuit that small models find late: a pair of induction heads.

Measured, it brought little in the 750 steps that followed it (see MODEL_CARD.md). After
Olsson et al., "In-context learning and induction heads" (2022). The residual stream gets 32
new places, and each layer two new heads. A head of layer 0 attends to the previous token (its
query and key are constant, and their rotary phases peak at a distance of one) and notes it in the
new places. The new heads of layer 1 look for where the present token was noted, and add what
stood there: the token that followed last time. Training goes on from there.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from recipe.llm.data import dialogues, patterns
from recipe.llm.model import Block, Llama, Shape

SEED = 3
_NEW = 32  # places: one constant, the others for the previous token
_SLOW = 24  # head dimensions whose rotation is slow enough to compare over a prompt
_SHARP = 60.0  # score of the previous token's query, shared by the fast pairs
_MATCH = 40.0  # score of a token that was noted, after scaling
_COPY = 0.35  # size of what is added, relative to the residual stream


def widened(shape: Shape) -> Shape:
    """The shape with room for the circuit."""
    return replace(shape, width=shape.width + _NEW, heads=shape.heads + 2)


@torch.no_grad()
def grafted(old: Llama, sample: Tensor) -> Llama:
    """A copy of the model with the circuit; `sample` holds token ids (batch, length) to scale by."""
    shape = widened(old.shape)
    new = Llama(shape)
    width, size = old.shape.width, shape.size
    inner = old.shape.heads * size
    norm = old.embed(sample).norm(dim=-1).mean()
    new.embed.weight.zero_()
    new.embed.weight[:, :width] = old.embed.weight
    new.embed.weight[:, width] = norm * (_NEW / width) ** 0.5
    new.norm.weight[:width] = old.norm.weight
    for mine, theirs in zip(new.blocks, old.blocks, strict=True):
        assert isinstance(mine, Block)
        assert isinstance(theirs, Block)
        for weight in (
            mine.qkv.weight,
            mine.out.weight,
            mine.gate.weight,
            mine.up.weight,
            mine.down.weight,
        ):
            weight.zero_()
        total = shape.heads * size
        for part in range(3):
            mine.qkv.weight[part * total : part * total + inner, :width] = theirs.qkv.weight[
                part * inner : (part + 1) * inner
            ]
            spare = mine.qkv.weight[part * total + inner : (part + 1) * total]
            spare.normal_(std=0.02)
        mine.out.weight[:width, :inner] = theirs.out.weight
        mine.gate.weight[:, :width] = theirs.gate.weight
        mine.up.weight[:, :width] = theirs.up.weight
        mine.down.weight[:width] = theirs.down.weight
        mine.attn_norm.weight[:width] = theirs.attn_norm.weight
        mine.ffn_norm.weight[:width] = theirs.ffn_norm.weight
    probe = torch.linalg.qr(torch.randn(width, _NEW - 1))[0].T
    _note_previous(new, old.shape.heads, probe, float(norm))
    _copy_following(new, old.shape.heads, probe, sample)
    return new


def _rows(model: Llama, part: int, head: int) -> slice:
    """Rows of a head in the fused projection: part 0 is query, 1 key, 2 value."""
    size = model.shape.size
    start = (part * model.shape.heads + head) * size
    return slice(start, start + size)


def _note_previous(model: Llama, head: int, probe: Tensor, norm: float) -> None:
    block, width, size = model.blocks[0], probe.shape[1], model.shape.size
    assert isinstance(block, Block)
    rates = model.shape.theta ** (-torch.arange(0, size, 2).float() / size)
    fast = (rates > 0.05).float() * _SHARP**0.5
    q, k, v = (torch.zeros(size, model.shape.width) for _ in range(3))
    q[0::2, width] = fast * rates.cos() / 2.4
    q[1::2, width] = -fast * rates.sin() / 2.4
    k[0::2, width] = fast / 2.4
    v[: len(probe), :width] = probe
    for part, weight in enumerate((q, k, v)):
        block.qkv.weight[_rows(model, part, head)] = weight
    columns = slice(head * size, head * size + len(probe))
    block.out.weight[width + 1 :, columns] = torch.eye(len(probe)) * 0.05 * norm


def _fitted(inputs: Tensor, outputs: Tensor, ridge: float = 0.003) -> Tensor:
    """The matrix (out, in) that best turns rows of inputs into rows of outputs."""
    gram = inputs.T @ inputs
    gram += torch.eye(len(gram)) * ridge * gram.diagonal().mean()
    return torch.linalg.solve(gram, inputs.T @ outputs).T


def _copy_following(model: Llama, first: int, probe: Tensor, sample: Tensor) -> None:
    block, width, size = model.blocks[1], probe.shape[1], model.shape.size
    assert isinstance(block, Block)
    cos, sin = model.cos[: sample.shape[1]], model.sin[: sample.shape[1]]
    stream = model.blocks[0](model.embed(sample), cos, sin)
    state = block.attn_norm(stream)
    known = state[:, 1:-1, : width + 1].flatten(0, 1)
    notes = state[:, 2:, width + 1 :].flatten(0, 1)
    middle = notes.mean(0)
    values, vectors = torch.linalg.eigh((notes - middle).T @ (notes - middle) / len(notes))
    white = (vectors / values.clamp(min=1e-6).sqrt()).T.flip(0)
    clear = (notes - middle) @ white.T
    meaning = _fitted(known, clear)
    agreement = ((known @ meaning.T) * clear).sum(-1).mean() * _SLOW / len(probe)
    gain = (_MATCH * size**0.5 / agreement) ** 0.5
    tokens = model.embed.weight[sample[:, 1:-1], :width].flatten(0, 1)
    tokens = tokens - tokens.mean(0)
    tokens = tokens / tokens.norm(dim=-1, keepdim=True)
    left, sizes, right = torch.linalg.svd(_fitted(known, tokens))
    scale = _COPY * stream.norm(dim=-1).mean()
    for i in range(2):
        head, used = first + i, slice(0, _SLOW) if i == 0 else slice(len(probe) - _SLOW, len(probe))
        q, k, v = (torch.zeros(size, model.shape.width) for _ in range(3))
        q[size - _SLOW :, : width + 1] = meaning[used] * gain
        k[size - _SLOW :, width + 1 :] = white[used] * gain
        k[size - _SLOW :, width] = -(white[used] @ middle) * gain / state[..., width].mean()
        some = slice(i * size, (i + 1) * size)
        v[:, : width + 1] = sizes[some, None].sqrt() * right[some]
        for part, weight in enumerate((q, k, v)):
            block.qkv.weight[_rows(model, part, head)] = weight
        columns = slice(head * size, head * size + size)
        block.out.weight[:width, columns] = left[:, some] * sizes[some].sqrt() * scale


def main(arguments: list[str] | None = None) -> None:
    """Give the checkpoint of one work folder the circuit, and start another folder with it."""
    parser = argparse.ArgumentParser(prog="recipe.llm.circuit", description=main.__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args(arguments)
    torch.manual_seed(SEED)
    tokenizer = Tokenizer.from_file(str(options.source / "tokenizer.json"))
    state = torch.load(options.source / "checkpoint.pt", weights_only=True)
    old = Llama(Shape(**state["shape"]))
    old.load_state_dict(state["model"])
    batch = next(patterns(old.shape.vocabulary, SEED, 8192)).ids
    talk = next(dialogues(tokenizer, SEED, 8192)).ids
    length = batch.shape[1]
    cut = [talk[:, i : i + length] for i in range(0, talk.shape[1] - length, length)]
    new = grafted(old, torch.cat([batch, *cut]))
    state |= {"model": new.state_dict(), "shape": new.shape.as_dict(), "adam": None, "muon": None}
    options.target.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(options.target / "tokenizer.json"))
    torch.save(state, options.target / "checkpoint.pt")


if __name__ == "__main__":
    main()
