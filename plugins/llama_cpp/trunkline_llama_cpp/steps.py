# SPDX-License-Identifier: Apache-2.0
"""The step loop: one thread that advances every running reply by one token at a time.

A step is one `llama_decode` of a batch:

    one token of each reply that is being written        its logits give the next one
    a bounded piece of the prompts that are being read   the most urgent first

`schedule.py` chooses who is in it. A new call begins at the next step, and a cancelled one is gone by then.
When nobody can run, the thread sleeps until a job arrives, is cancelled, or becomes more urgent. Everything
of llama.cpp but tokenizing happens in this thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import Future

from appliance.plugin import InvalidRequestError, ProviderError, UnavailableError
from trunkline_llama_cpp.jobs import Job, News, Running, Waiting
from trunkline_llama_cpp.load import LlmLoad, Meter
from trunkline_llama_cpp.memory import Memory
from trunkline_llama_cpp.native import Context, Entry, Model, NoRoomError
from trunkline_llama_cpp.schedule import Urgency, choose


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
        self._meter = Meter(time.monotonic)
        self._changed = threading.Condition()
        self._arrived: list[Job] = []
        self._poked = False
        self._closed = False
        self._busy = False
        self._waiting: list[Waiting] = []
        self._running: list[Running] = []
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

    def pace_changed(self, job: Job) -> None:
        """Look at a job's pace again; for any thread."""
        urgency = job.urgency()
        if urgency is not job.announced:
            job.announced = urgency
            self._poke()

    def cancel(self, job: Job) -> None:
        """End a job at the next step; for any thread. Idempotent, also when it has ended."""
        job.cancelled = True
        self._poke()

    def _poke(self) -> None:
        with self._changed:
            self._poked = True
            self._changed.notify()

    def load(self) -> LlmLoad:
        """Return how busy the loop is; for any thread."""
        running = [one.job for one in tuple(self._running)]
        waiting = [one.job for one in tuple(self._waiting)]
        silent = [
            job.arrived_at
            for job in running + waiting
            if not job.written and job.urgency() is Urgency.FIRST_CLAUSE
        ]
        return self._meter.load(
            Counter(job.urgency().name.lower() for job in running),
            Counter(job.urgency().name.lower() for job in waiting),
            max(time.monotonic() - min(silent), 0.0) if silent else 0.0,
        )

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
            self._busy = self._step()
            self._publish()
        closed = UnavailableError("the language model was closed")
        for job in [*self._arrived, *(waiting.job for waiting in self._waiting)]:
            self._news.append((job, closed))
        for waiting in self._waiting:
            _close_sampler(waiting)
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
                lambda: self._closed or self._arrived or self._poked or self._busy
            )
            self._poked = False
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
            length = len(prompt.tokens)
            if length >= self.longest:
                raise InvalidRequestError(
                    f"the prompt has {length} tokens; the model takes {self.longest - 1}"
                )
        except ProviderError as error:
            self._news.append((job, error))
            return
        bound = min(job.max_tokens, self.longest - length)
        opening = self._memory.shareable(prompt.tokens, min(prompt.opening, length - 1))
        self._waiting.append(Waiting(job, list(prompt.tokens), length, bound, opening))

    def _drop_cancelled(self) -> None:
        for waiting in [one for one in self._waiting if one.job.cancelled]:
            self._waiting.remove(waiting)
            _close_sampler(waiting)
        for running in [one for one in self._running if one.job.cancelled]:
            self._finish(running, None)

    def _admit(self) -> None:
        """Give sequences to waiting jobs, the most urgent first.

        A job whose opening is just being read for another call waits until it can share it, and lends that
        call its urgency.
        """
        for one in self._running:
            one.lent = Urgency.PAUSED
        reading = {one.opening: one for one in self._running if one.opening and not one.offered}
        self._waiting.sort(key=lambda one: (one.job.urgency(), one.job.arrival))
        for waiting in list(self._waiting):
            urgency, opening = waiting.job.urgency(), waiting.opening
            if urgency is Urgency.PAUSED:
                continue
            if opening in reading and not self._memory.knows(opening):
                reading[opening].lent = min(reading[opening].lent, urgency)
                continue
            running = self._begin(waiting)
            if running is None:
                break  # nobody less urgent takes the room that it needs
            self._waiting.remove(waiting)
            self._running.append(running)
            if running.opening and not running.offered:
                reading.setdefault(running.opening, running)

    def _begin(self, waiting: Waiting) -> Running | None:
        """Give a job a sequence; a committed reply takes one from a reply that can wait."""
        job = waiting.job
        left = waiting.bound - job.written
        while True:
            dialogue = self._memory.claim(job.call_id, waiting.tokens, waiting.opening, left)
            if dialogue is not None:
                break
            if job.urgency() >= Urgency.SPECULATION or not self._suspend():
                return None
        if waiting.sampler is None:
            waiting.sampler, waiting.cached = job.sampler(), len(dialogue.tokens)
            self._meter.began(prompt=waiting.prompt, cached=waiting.cached)
        return waiting.started(dialogue, waiting.sampler)

    def _suspend(self) -> bool:
        """Take the sequence of the newest speculation, else of the newest reply that pauses."""
        able = [one for one in self._running if one.urgency() >= Urgency.SPECULATION]
        if not able:
            return False
        last = min(able, key=lambda one: (one.urgency(), -one.job.arrival))
        self._running.remove(last)
        self._memory.release(last.dialogue)
        self._waiting.append(last.suspended())
        return True

    def _step(self) -> bool:
        """Compute a step; return False when nobody can run."""
        shares = choose(
            [running.candidate() for running in self._running],
            batch=self._context.batch_size,
            chunk=self._prefill_chunk,
            others_wait=any(one.job.urgency() < Urgency.SPECULATION for one in self._waiting),
        )
        entries: list[Entry] = []
        drawing: list[tuple[Running, int]] = []
        read = 0
        for running, share in zip(self._running, shares, strict=True):
            able = running.urgency() is not Urgency.PAUSED
            running.passed_over = 0 if share or not able else running.passed_over + 1
            if not share:
                continue
            start = len(running.dialogue.tokens)
            end = start + share
            complete = end == len(running.tokens)
            for position in range(start, end):
                last = complete and position == end - 1
                token = running.tokens[position]
                entries.append(Entry(token, position, running.dialogue.sequence, logits=last))
            if complete:
                drawing.append((running, len(entries) - 1))
            read += share - (complete and running.job.written > 0)
        if not entries:
            return False
        begun = time.monotonic()
        if self._compute(entries):
            self._remember(entries)
            for running, index in drawing:
                self._draw(running, index)
            self._meter.stepped(time.monotonic() - begun, read=read, written=len(drawing))
        return True

    def _compute(self, entries: list[Entry]) -> bool:
        try:
            self._context.step(entries)
        except NoRoomError:
            if not self._memory.evict():
                last = max(self._running, key=lambda one: (one.urgency(), one.job.arrival))
                self._finish(last, UnavailableError("the context has no room left"))
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
            if opening and not running.offered and len(running.dialogue.tokens) >= len(opening):
                self._memory.share(running.dialogue, opening)
                running.offered = True

    def _draw(self, running: Running, index: int) -> None:
        token = running.sampler.sample(self._context, index)
        running.tokens.append(token)
        running.job.written += 1
        piece = self._model.piece(token)
        if piece:
            self._news.append((running.job, piece))
        if piece is None or running.job.written >= running.bound:
            self._finish(running, running.usage())

    def _finish(self, running: Running, news: News | None) -> None:
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


def _close_sampler(waiting: Waiting) -> None:
    if waiting.sampler is not None:
        waiting.sampler.close()
