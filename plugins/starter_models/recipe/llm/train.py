# SPDX-License-Identifier: Apache-2.0
"""Train the language model: seeded, scheduled by steps, resumable, one thread."""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recipe.asr.optimizer import Muon
from recipe.llm import tokenizer as bpe
from recipe.llm.data import Batch, dialogues, patterns
from recipe.llm.model import Llama, Shape

SEED = 11
_EVERY = 100  # steps between checkpoints


@dataclass(frozen=True)
class Schedule:
    """Everything that depends on the step."""

    steps: int
    decay: int  # the last so many steps, in which the rates fall to zero
    tokens: int = 2048
    warm: int = 60
    muon: float = 0.005
    adam: float = 2e-3
    copy_until: int = 300
    aside: float = 0.2

    def rate(self, step: int) -> float:
        """Factor on both learning rates: warm-up, constant, then a straight line to zero."""
        return max(0.005, min(1.0, (step + 1) / self.warm, (self.steps - step) / self.decay))

    def pattern_share(self, step: int) -> float:
        """Share of steps that train copying alone: first nearly all, later a few, then none."""
        if step < self.copy_until:
            return 0.85
        return 0.02 if step < self.steps - self.decay else 0.0


def loss_of(model: Llama, batch: Batch, aside: float = 0.0) -> tuple[Tensor, float]:
    """Mean cross entropy over the learned tokens, and the share of them that were right.

    All other tokens, which are given at run time, count `aside` as much: predicting them teaches
    what the words are.
    """
    targets = batch.ids[:, 1:]
    wanted = batch.learn[:, 1:]
    kept = targets != bpe.END if aside else wanted
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model(batch.ids[:, :-1])
        logits = model.logits(hidden[kept])
    targets, wanted = targets[kept], wanted[kept]
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    loss = losses[wanted].mean()
    if aside:
        loss = loss + aside * losses[~wanted].mean()
    right = float((logits.argmax(-1) == targets)[wanted].float().mean())
    return loss, right


class Trainer:
    """Model, optimizers and data streams, as a checkpoint holds them."""

    def __init__(self, work: Path, shape: Shape, schedule: Schedule) -> None:
        torch.manual_seed(SEED)
        self.work, self.schedule = work, schedule
        self.tokenizer = bpe.load_or_train(work / "tokenizer.json", SEED)
        self.model = Llama(shape)
        matrices = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in n]
        rest = [p for n, p in self.model.named_parameters() if p.ndim == 1 or "embed" in n]
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(rest, lr=schedule.adam, betas=(0.9, 0.98), weight_decay=0.0)
        self.step = 0

    @property
    def path(self) -> Path:
        """Where the checkpoint lies."""
        return self.work / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state: dict[str, Any] = {
            "step": self.step, "model": self.model.state_dict(), "adam": self.adam.state_dict(),
            "muon": self.muon.state(), "shape": self.model.shape.as_dict(),
        }  # fmt: skip
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path)

    def restore(self) -> None:
        """Take up the checkpoint, if there is one."""
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            self.model.load_state_dict(state["model"])
            if state["adam"] is not None:
                self.adam.load_state_dict(state["adam"])
                self.muon.restore(state["muon"])
            self.step = state["step"]

    def run(self) -> None:
        """Train to the end of the schedule. After a resumption the data go on, never repeat."""
        plan = self.schedule
        choice = random.Random(SEED + self.step)
        talk = dialogues(self.tokenizer, 1000 * SEED + self.step, plan.tokens)
        copying = patterns(self.model.shape.vocabulary, 2000 * SEED + self.step, plan.tokens)
        began, seen = time.monotonic(), 0
        scores: dict[str, list[float]] = {"talk": [], "copy": []}
        while self.step < plan.steps:
            kind = "copy" if choice.random() < plan.pattern_share(self.step) else "talk"
            batch = next(copying if kind == "copy" else talk)
            loss, right = loss_of(self.model, batch, plan.aside if kind == "talk" else 0.0)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.adam.param_groups[0]["params"], 1.0)
            rate = plan.rate(self.step)
            for group in self.adam.param_groups:
                group["lr"] = plan.adam * rate
            self.adam.step()
            self.muon.step(plan.muon * rate, decay=0.01)
            self.model.zero_grad(set_to_none=True)
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
    parser = argparse.ArgumentParser(prog="recipe.llm.train", description=main.__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--decay", type=int, default=4000)
    parser.add_argument("--copy-until", type=int, default=600)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    plan = Schedule(options.steps, options.decay, copy_until=options.copy_until)
    shape = Shape()
    if (options.work / "checkpoint.pt").exists():
        shape = Shape(**torch.load(options.work / "checkpoint.pt", weights_only=True)["shape"])
    trainer = Trainer(options.work, shape, plan)
    trainer.restore()
    trainer.run()


if __name__ == "__main__":
    main()
