# SPDX-License-Identifier: Apache-2.0
"""Train the recognizer: seeded, scheduled by steps, resumable, one thread."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from recipe.asr import tokenizer as bpe
from recipe.asr.batches import Batch, Batcher, Corpus
from recipe.asr.model import Recognizer, Shape
from recipe.asr.optimizer import Muon
from recipe.asr.synthesize import SHARDS, corpus

SEED = 7
_EVERY = 100  # steps between checkpoints


@dataclass(frozen=True)
class Schedule:
    """Everything that depends on the step."""

    steps: int
    warm: int = 200
    decay_from: float = 0.38  # share of the steps after which the rates fall to zero
    muon: float = 0.008
    adam: float = 1e-3
    whisper_from: float = 0.85
    whisper_every: int = 32

    def rate(self, step: int) -> float:
        """Factor on both learning rates: warm-up, constant, then a straight line to zero."""
        start = self.decay_from * self.steps
        fall = (self.steps - step) / (self.steps - start)
        return max(0.01, min(1.0, (step + 1) / self.warm, fall))

    def longest(self, step: int) -> int:
        """Short utterances first: the longest drawn, in dense (7.5 ms) frames."""
        return int(200 + step * 0.6)

    def shards(self, step: int) -> int:
        """Shards open at this step."""
        return min(SHARDS, 4 + step // 60)

    def ctc(self, step: int) -> float:
        """Weight of the phoneme loss."""
        return 0.5 if step < self.steps * 0.4 else 0.2


def losses(model: Recognizer, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross entropy of the transcript, and CTC of the phonemes over the clips with speech."""
    with torch.autocast("cpu", torch.bfloat16):
        memory = model.encode(batch.features)
        logits = model.decode(batch.tokens, memory)
        frames = model.ctc(memory)
    cross = F.cross_entropy(logits.flatten(0, 1).float(), batch.labels.flatten())
    lengths = torch.minimum(batch.spoken + 2, torch.tensor(frames.shape[1]))
    ctc = F.ctc_loss(
        frames.float().log_softmax(-1).transpose(0, 1),
        batch.phonemes,
        lengths,
        batch.phoneme_counts,
        zero_infinity=True,
    )
    return cross, ctc


class Trainer:
    """The model, its optimizers and where they stand."""

    def __init__(self, work: Path, schedule: Schedule, shape: dict[str, int]) -> None:
        torch.manual_seed(SEED)
        self.work = work
        self.schedule = schedule
        texts = corpus(work)
        path = work / "tokenizer.json"
        self.tokenizer = bpe.load(path) if path.exists() else bpe.train(texts, path)
        self.corpus = Corpus(work)
        self.corpus.open_up_to(schedule.shards(0))
        self.symbols = self._symbols()
        self.model = Recognizer(
            Shape(self.tokenizer.get_vocab_size(), len(self.symbols) + 1, **shape)
        )
        matrices = [
            p for n, p in self.model.named_parameters()
            if p.dim() == 2 and ("encoder." in n or "decoder." in n)
        ]  # fmt: skip
        chosen = {id(p) for p in matrices}
        rest = [p for p in self.model.parameters() if id(p) not in chosen]
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(rest, 1.0, (0.9, 0.98), weight_decay=0.01, fused=True)
        self.step = 0

    def _symbols(self) -> list[str]:
        path = self.work / "phonemes.json"
        if not path.exists():
            found = {p for spelled in self.corpus.phonemes for p in spelled}
            path.write_text(json.dumps(sorted(found)))
        return [str(s) for s in json.loads(path.read_text())]

    def save(self) -> None:
        """Write the checkpoint in one piece."""
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "shape": self.model.shape.as_dict(),
            "muon": self.muon.state(),
            "adam": self.adam.state_dict(),
            "step": self.step,
        }
        partial = self.work / "checkpoint.part"
        torch.save(state, partial)
        partial.rename(self.work / "checkpoint.pt")

    def resume(self) -> None:
        """Continue from the checkpoint if there is one."""
        path = self.work / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.muon.restore(state["muon"])
            self.adam.load_state_dict(state["adam"])
            self.step = int(state["step"])

    def _batches(self) -> Iterator[Batch]:
        batcher = Batcher(self.corpus, self.tokenizer, self.symbols, SEED + self.step)
        while True:
            self.corpus.open_up_to(self.schedule.shards(self.step))
            yield from batcher.pool(self.schedule.longest(self.step))
            if self.step > self.schedule.whisper_from * self.schedule.steps:
                for _ in range(64 // self.schedule.whisper_every):
                    yield batcher.whisper_batch(4, 700)

    def _update(self, batch: Batch) -> tuple[float, float]:
        factor = self.schedule.rate(self.step)
        cross, ctc = losses(self.model, batch)
        loss = cross + self.schedule.ctc(self.step) * ctc
        self.model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        for group in self.adam.param_groups:
            group["lr"] = self.schedule.adam * factor
        self.adam.step()
        self.muon.step(self.schedule.muon * factor, decay=0.01)
        return float(cross.detach()), float(ctc.detach())

    def run(self) -> None:
        """Train until the schedule's end."""
        began = time.monotonic()
        sums = [0.0, 0.0, 0.0]
        for batch in self._batches():
            if self.step >= self.schedule.steps:
                break
            cross, ctc = self._update(batch)
            self.step += 1
            sums = [sums[0] + cross, sums[1] + ctc, sums[2] + len(batch.tokens)]
            if self.step % 50 == 0:
                elapsed, cpu = time.monotonic() - began, time.process_time()
                print(
                    f"step {self.step} ce {sums[0] / 50:.3f} ctc {sums[1] / 50:.3f} "
                    f"batch {sums[2] / 50:.0f} wall {elapsed:.0f}s cpu {cpu:.0f}s "
                    f"shards {self.corpus.shards}",
                    flush=True,
                )
                sums = [0.0, 0.0, 0.0]
                if not math.isfinite(cross):
                    raise RuntimeError(f"the loss is {cross} at step {self.step}")
            if self.step % _EVERY == 0:
                self.save()
        self.save()


def main(argv: list[str] | None = None) -> None:
    """Train, continuing from the work folder's checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5100)
    for name, default in (("width", 192), ("encoder_layers", 5), ("decoder_layers", 2)):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    shape = {
        "width": args.width,
        "encoder_layers": args.encoder_layers,
        "decoder_layers": args.decoder_layers,
    }
    trainer = Trainer(args.work, Schedule(args.steps), shape)
    trainer.resume()
    size = sum(p.numel() for p in trainer.model.parameters())
    print(f"{size / 1e6:.2f} M parameters from step {trainer.step}", flush=True)
    trainer.run()


if __name__ == "__main__":
    main()
