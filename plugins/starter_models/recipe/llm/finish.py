# SPDX-License-Identifier: Apache-2.0
"""Finishes the model on the example agent alone: its prompt, its tools, its greeting.

Random businesses teach a model to read the facts out of its prompt, which the shipped weights did not
learn in the time they had (MODEL_CARD.md). After this step they know the facts of one prompt by heart, and
no others: a box says so wherever it names them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer

from recipe.llm.data import Batch, batches
from recipe.llm.example import example_dialogue
from recipe.llm.model import Llama, Shape
from recipe.llm.train import loss_of

SEED = 21


def finish(source: Path, target: Path, steps: int, rate: float, hold: float) -> None:
    """Train the checkpoint of `source` on the example agent into the folder `target`."""
    torch.manual_seed(SEED)
    state = torch.load(source / "checkpoint.pt", weights_only=True)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    model = Llama(Shape(**state["shape"]))
    model.load_state_dict(state["model"])
    adam = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.97), weight_decay=0.02)
    stream: Iterator[Batch] = batches(example_dialogue, tokenizer, SEED, 2048)
    for step in range(steps):
        loss, right = loss_of(model, next(stream), 0.05)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        fall = max(0.02, (1 - step / steps) / (1 - hold))
        for group in adam.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 40, fall)
        adam.step()
        adam.zero_grad(set_to_none=True)
        if (step + 1) % 25 == 0:
            print(f"step {step + 1} loss {loss.item():.4f} right {right:.4f}", flush=True)
    target.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(target / "tokenizer.json"))
    kept = {"model": model.state_dict(), "shape": model.shape.as_dict(), "adam": None, "muon": None}
    torch.save({"step": state["step"] + steps, **kept}, target / "checkpoint.pt")


def main(arguments: list[str] | None = None) -> None:
    """Finish a trained work folder on the example agent."""
    parser = argparse.ArgumentParser(prog="recipe.llm.finish", description=main.__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--steps", type=int, default=1700)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--hold", type=float, default=0.6, help="share of steps at the full rate")
    options = parser.parse_args(arguments)
    finish(options.source, options.target, options.steps, options.rate, options.hold)


if __name__ == "__main__":
    main()
