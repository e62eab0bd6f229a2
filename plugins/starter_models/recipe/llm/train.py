# SPDX-License-Identifier: Apache-2.0
"""Train the language model: seeded, scheduled by steps, resumable."""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recipe.llm import circuit
from recipe.llm import tokenizer as bpe
from recipe.llm.conversation import quiz, random_dialogue, short_dialogue
from recipe.llm.data import Batch, batches, patterns
from recipe.llm.desk import dental_business, dental_dialogue, desk_quiz
from recipe.llm.dialogue import Dialogue
from recipe.llm.example import example_business, example_dialogue
from recipe.llm.model import Llama, Shape

SEED = 11
_EVERY = 100  # steps between checkpoints
_PULL = 1e-3  # weight of the norms' excess
_MAKERS: tuple[tuple[int, Callable[[random.Random], Dialogue]], ...] = (
    (30, example_dialogue),
    (27, dental_dialogue),
    (8, lambda rng: desk_quiz(rng, example_business(rng))),
    (10, lambda rng: desk_quiz(rng, dental_business(rng))),
    (8, random_dialogue),
    (8, quiz),
    (9, short_dialogue),
)
"""Kinds of dialogues, each with its share: of the example agent, of any dental practice, of any business."""


@dataclass(frozen=True)
class Schedule:
    """Everything that depends on the step.

    The model starts with a circuit that copies (`recipe.llm.circuit`). Patterns that train copying alone are
    frequent at first and go on for as long as the rate is high, so that dialogues do not wear it out.
    """

    steps: int = 24000
    decay: int = 8000  # the last so many steps, in which the rate falls to zero
    tokens: int = 2048
    warm: int = 600
    peak: float = 8e-4
    settled: int = 600

    def rate(self, step: int) -> float:
        """Learning rate: warm-up, constant, then a straight line to nearly zero."""
        return self.peak * max(
            0.005, min(1.0, (step + 1) / self.warm, (self.steps - step) / self.decay)
        )

    def pattern_share(self, step: int) -> float:
        """Share of steps that train copying alone."""
        if step < self.settled:
            return 0.25
        return 0.08 if step < self.steps - self.decay / 2 else 0.0


def any_dialogue(rng: random.Random) -> Dialogue:
    """A dialogue of a random kind."""
    shares, makers = zip(*_MAKERS, strict=True)
    make: Callable[[random.Random], Dialogue] = rng.choices(makers, shares)[0]
    return make(rng)


def loss_of(model: Llama, batch: Batch) -> tuple[Tensor, float]:
    """Weighted cross entropy with the pull on the norms, and the share of right tokens in answers."""
    targets, weight = batch.ids[:, 1:].flatten(), batch.weight[:, 1:].flatten()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.logits(model(batch.ids[:, :-1]).flatten(0, 1))
        losses = F.cross_entropy(logits, targets, reduction="none").float()
    right = (logits.argmax(-1) == targets)[weight >= 1].float().mean()
    excess = sum(block.excess for block in model.blocks)
    return (losses * weight).sum() / weight.sum() + _PULL * excess, float(right)


class Trainer:
    """Model, optimizer and data streams, as a checkpoint holds them."""

    def __init__(self, work: Path, shape: Shape, schedule: Schedule) -> None:
        torch.manual_seed(SEED)
        self.work, self.schedule = work, schedule
        self.tokenizer = bpe.load_or_train(work / "tokenizer.json", SEED)
        self.model = Llama(shape)
        circuit.install(self.model)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), betas=(0.9, 0.97), weight_decay=0.05, fused=True
        )
        self.step = 0

    @property
    def path(self) -> Path:
        """Where the checkpoint lies."""
        return self.work / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state: dict[str, Any] = {
            "step": self.step, "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(), "shape": self.model.shape.as_dict(),
        }  # fmt: skip
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path)

    def restore(self) -> None:
        """Take up the checkpoint, if there is one."""
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def run(self) -> None:
        """Train to the end of the schedule. After a resumption the data go on, never repeat."""
        plan = self.schedule
        choice = random.Random(SEED + self.step)
        talk = batches(any_dialogue, self.tokenizer, 1000 * SEED + self.step, plan.tokens)
        copying = patterns(self.model.shape.vocabulary, 2000 * SEED + self.step, plan.tokens)
        began, seen = time.monotonic(), 0
        scores: dict[str, list[float]] = {"talk": [], "copy": []}
        while self.step < plan.steps:
            kind = "copy" if choice.random() < plan.pattern_share(self.step) else "talk"
            batch = next(copying if kind == "copy" else talk)
            loss, right = loss_of(self.model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for group in self.optimizer.param_groups:
                group["lr"] = plan.rate(self.step)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.step += 1
            seen += batch.ids.numel()
            scores[kind] += [loss.item(), right]
            if self.step % 25 == 0:
                self._report(scores, seen / (time.monotonic() - began))
                scores = {"talk": [], "copy": []}
            if self.step % _EVERY == 0 or self.step == plan.steps:
                self.save()

    def _report(self, scores: dict[str, list[float]], speed: float) -> None:
        line: dict[str, Any] = {"step": self.step, "tokens_per_s": round(speed)}
        for kind, values in scores.items():
            if values:
                count = len(values) // 2
                line[kind] = [round(sum(values[i::2]) / count, 4) for i in (0, 1)]
        print(json.dumps(line), flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Train in a work folder, from its checkpoint where there is one."""
    plain = Schedule()
    parser = argparse.ArgumentParser(prog="recipe.llm.train", description=main.__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=plain.steps)
    parser.add_argument("--decay", type=int, default=plain.decay)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    plan = Schedule(options.steps, options.decay)
    trainer = Trainer(options.work, Shape(), plan)
    trainer.restore()
    trainer.run()


if __name__ == "__main__":
    main()
