# SPDX-License-Identifier: Apache-2.0
"""The step loop: one thread that advances every running reply by one token at a time.

A step is one `llama_decode` of a batch:

    one token of each reply that is being written        its logits give the next one
    a bounded piece of the prompts that are being read   the oldest first

So a long prompt delays the others by one bounded piece, a new call begins at the next step, and a
cancelled one is gone by then. Everything of llama.cpp but tokenizing happens in this thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

from appliance.plugin import (
    InvalidRequestError,
    ProviderError,
    TokenUsage,
    UnavailableError,
)
from trunkline_llama_cpp.memory import Dialogue, Memory
from trunkline_llama_cpp.native import Context, Entry, Model, NoRoomError, Sampler

News: TypeAlias = bytes | TokenUsage | ProviderError
"""What a job is told: the bytes of its next token; at the end its usage, or why it failed."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered dialogue; the first `opening` tokens are the same in every call of the agent."""

    tokens: list[int]
    opening: int = 0


@dataclass(slots=True, eq=False)
class Job:
    """One reply wanted.

    Attributes:
        prepare: renders the prompt; called in the loop's thread; raises `InvalidRequestError`.
        max_tokens: bound of the reply.
        sampler: makes the sampler.
        listener: the event loop on which `tell` is called.
        tell: takes the news.
        cancelled: set by anyone to end the reply at the next step.
    """

    prepare: Callable[[], Prompt]
    max_tokens: int
    sampler: Callable[[], Sampler]
    listener: asyncio.AbstractEventLoop
    tell: Callable[[News], None]
    call_id: str = ""
    cancelled: bool = False


@dataclass(slots=True, eq=False)
class _Running:
    """A job that has a sequence."""

    job: Job
    prompt: list[int]
    bound: int
    opening: tuple[int, ...] | None
    dialogue: Dialogue
    cached: int
    sampler: Sampler
    pending: int | None = None  # drawn, told, and not yet in the memory
    written: int = 0

    def unread(self) -> int:
        return len(self.prompt) - len(self.dialogue.tokens) if self.pending is None else 0


@dataclass(slots=True)
class _Waiting:
    """A job whose prompt is known and for which there was no room so far."""

    job: Job
    prompt: list[int]
    bound: int
    opening: tuple[int, ...] | None = field(default=None)


class StepLoop:
    """Runs jobs until it is closed; then it frees context and model.

    Args:
        model: the model.
        context: its context.
        sequences: sequences of the context.
        prefill_chunk: most prompt tokens of a step while replies are being written.
        keep_idle_s: how long an idle call's dialogue is kept.
    """

    def __init__(
        self,
        model: Model,
        context: Context,
        *,
        sequences: int,
        prefill_chunk: int,
        keep_idle_s: float,
    ) -> None:
        self._model = model
        self._context = context
        self._prefill_chunk = prefill_chunk
        self._memory = Memory(
            context,
            sequences=sequences,
            splits=model.splits_memory,
            keep_s=keep_idle_s,
            now=time.monotonic,
        )
        self.longest = min(context.tokens, model.trained_context or context.tokens)
        self._changed = threading.Condition()
        self._arrived: list[Job] = []
        self._closed = False
        self._waiting: list[_Waiting] = []
        self._running: list[_Running] = []
        self._news: list[tuple[Job, News]] = []
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="llama-steps", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Let a job begin at the next step.

        Raises:
            UnavailableError: the loop is closed.
        """
        with self._changed:
            if self._closed:
                raise UnavailableError("the language model is closed")
            self._arrived.append(job)
            self._changed.notify()

    def close(self) -> Future[None]:
        """Ask the loop to end after its current step; the result is done when all is freed."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        return self._ended

    def join(self) -> None:
        """Wait for the thread; it has ended when `close` is done."""
        self._thread.join()

    def _run(self) -> None:
        while self._take_arrivals():
            self._drop_cancelled()
            self._admit()
            if self._running:
                self._step()
            self._publish()
        closed = UnavailableError("the language model was closed")
        for job in [*self._arrived, *(waiting.job for waiting in self._waiting)]:
            self._news.append((job, closed))
        for running in list(self._running):
            self._finish(running, closed)
        self._publish()
        self._context.close()
        self._model.close()
        self._ended.set_result(None)

    def _take_arrivals(self) -> bool:
        """Wait until there is something to do; return False when the loop is closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._arrived or self._waiting or self._running
            )
            if self._closed:
                return False
            arrived, self._arrived = self._arrived, []
        for job in arrived:
            if not job.cancelled:
                self._prepare(job)
        return True

    def _prepare(self, job: Job) -> None:
        try:
            prompt = job.prepare()
            if len(prompt.tokens) >= self.longest:
                raise InvalidRequestError(
                    f"the prompt has {len(prompt.tokens)} tokens; the model takes {self.longest - 1}"
                )
        except ProviderError as error:
            self._news.append((job, error))
            return
        bound = min(job.max_tokens, self.longest - len(prompt.tokens))
        opening = self._memory.shareable(prompt.tokens, min(prompt.opening, len(prompt.tokens) - 1))
        self._waiting.append(_Waiting(job, prompt.tokens, bound, opening))

    def _drop_cancelled(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting.job.cancelled]
        for running in [one for one in self._running if one.job.cancelled]:
            self._finish(running, None)

    def _admit(self) -> None:
        """Give sequences to waiting jobs, in order.

        A job whose opening is just being read for another call waits until it can share it.
        """
        reading = {one.opening for one in self._running if one.unread()}
        still: list[_Waiting] = []
        for waiting in self._waiting:
            opening = waiting.opening
            if opening and opening in reading and not self._memory.knows(opening):
                still.append(waiting)
                continue
            dialogue = self._memory.claim(
                waiting.job.call_id, waiting.prompt, opening, waiting.bound
            )
            if dialogue is None:
                still.append(waiting)
                continue
            reading.add(opening)
            self._running.append(
                _Running(
                    waiting.job,
                    waiting.prompt,
                    waiting.bound,
                    opening,
                    dialogue,
                    cached=len(dialogue.tokens),
                    sampler=waiting.job.sampler(),
                )
            )
        self._waiting = still

    def _step(self) -> None:
        entries: list[Entry] = []
        drawing: list[tuple[_Running, int]] = []
        for running in self._running:
            if running.pending is not None:
                drawing.append((running, len(entries)))
                position = len(running.dialogue.tokens)
                entries.append(
                    Entry(running.pending, position, running.dialogue.sequence, logits=True)
                )
        room = self._context.batch_size - len(entries)
        if entries:
            room = min(room, self._prefill_chunk)
        for running in self._running:
            piece = min(room, running.unread())
            start = len(running.dialogue.tokens)
            complete = start + piece == len(running.prompt)
            for position in range(start, start + piece):
                last = complete and position == start + piece - 1
                token = running.prompt[position]
                entries.append(Entry(token, position, running.dialogue.sequence, logits=last))
            if piece and complete:
                drawing.append((running, len(entries) - 1))
            room -= piece
        if self._compute(entries):
            self._remember(entries)
            for running, index in drawing:
                self._draw(running, index)

    def _compute(self, entries: list[Entry]) -> bool:
        try:
            self._context.step(entries)
        except NoRoomError:
            if not self._memory.evict():
                self._finish(self._running[-1], UnavailableError("the context has no room left"))
        except UnavailableError as error:
            for running in list(self._running):
                self._finish(running, error)
            self._memory.clear()
        else:
            return True
        return False

    def _remember(self, entries: list[Entry]) -> None:
        by_sequence = {running.dialogue.sequence: running for running in self._running}
        for entry in entries:
            by_sequence[entry.sequence].dialogue.tokens.append(entry.token)
        for running in self._running:
            opening = running.opening
            if opening and len(running.dialogue.tokens) >= len(opening):
                self._memory.share(running.dialogue, opening)
                running.opening = None

    def _draw(self, running: _Running, index: int) -> None:
        token = running.sampler.sample(self._context, index)
        running.pending = token
        running.written += 1
        piece = self._model.piece(token)
        if piece:
            self._news.append((running.job, piece))
        if piece is None or running.written >= running.bound:
            usage = TokenUsage(len(running.prompt), running.written, running.cached)
            self._finish(running, usage)

    def _finish(self, running: _Running, news: News | None) -> None:
        self._running.remove(running)
        running.sampler.close()
        self._memory.release(running.dialogue)
        if news is not None:
            self._news.append((running.job, news))

    def _publish(self) -> None:
        """Hand over the news of a step, at once for all calls of an event loop.

        Waking the loop for each token would make it compete with the rest of the step for the
        interpreter; woken at the end, it works while llama.cpp computes the next step.
        """
        by_listener: dict[asyncio.AbstractEventLoop, list[tuple[Job, News]]] = {}
        for job, news in self._news:
            by_listener.setdefault(job.listener, []).append((job, news))
        self._news = []
        for listener, told in by_listener.items():
            try:
                listener.call_soon_threadsafe(_tell, told)
            except RuntimeError:  # the event loop is closed: nobody listens any more
                for job, _ in told:
                    job.cancelled = True


def _tell(news: list[tuple[Job, News]]) -> None:
    for job, what in news:
        job.tell(what)
