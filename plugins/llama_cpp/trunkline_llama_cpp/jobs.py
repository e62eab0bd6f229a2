# SPDX-License-Identifier: Apache-2.0
"""A reply as the step loop sees it: what is wanted, how urgently, and how far it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

from appliance.plugin import ProviderError, ReplyPace, TokenUsage
from trunkline_llama_cpp.memory import Dialogue
from trunkline_llama_cpp.sampling import Sampler
from trunkline_llama_cpp.schedule import Candidate, Urgency, urgency

News: TypeAlias = bytes | TokenUsage | ProviderError
"""What a job is told: the bytes of its next token; at the end its usage, or why it failed."""

_ARRIVALS = count()


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
        call_id: whose dialogue it continues; "" for nobody's.
        pace: how urgent it is; None for full speed.
        cancelled: set to end the reply at the next step; `StepLoop.cancel` also wakes the loop.
        arrived_at: in seconds of the monotonic clock.
        arrival: grows from job to job.
        spoke: speech of it has been made.
        written: its tokens so far.
        announced: the class for which the loop was last woken.
    """

    prepare: Callable[[], Prompt]
    max_tokens: int
    sampler: Callable[[], Sampler]
    listener: asyncio.AbstractEventLoop
    tell: Callable[[News], None]
    call_id: str = ""
    pace: ReplyPace | None = None
    cancelled: bool = False
    arrived_at: float = field(default_factory=time.monotonic)
    arrival: int = field(default_factory=lambda: next(_ARRIVALS))
    spoke: bool = False
    written: int = 0
    announced: Urgency | None = None

    def urgency(self) -> Urgency:
        """Return its class now."""
        pace = self.pace
        if pace is None:
            return urgency(committed=True, unplayed_s=None, spoke=False, written=self.written)
        unplayed_s = pace.unplayed_s
        self.spoke = self.spoke or unplayed_s > 0
        return urgency(
            committed=pace.committed,
            unplayed_s=unplayed_s,
            spoke=self.spoke,
            written=self.written,
        )


@dataclass(slots=True, eq=False)
class Waiting:
    """A job whose prompt is known and that has no sequence, or had to give it back.

    Attributes:
        tokens: the prompt, and what was already written.
        prompt: length of the prompt.
        bound: most tokens of the reply.
        opening: the prompt's beginning that other calls share.
        sampler: made when the job first ran.
        cached: tokens of the prompt that were known then.
    """

    job: Job
    tokens: list[int]
    prompt: int
    bound: int
    opening: tuple[int, ...] | None
    sampler: Sampler | None = None
    cached: int = 0

    def started(self, dialogue: Dialogue, sampler: Sampler) -> Running:
        """Return it as a job with a sequence."""
        return Running(
            self.job,
            self.tokens,
            self.prompt,
            self.bound,
            self.opening,
            dialogue,
            sampler,
            self.cached,
        )


@dataclass(slots=True, eq=False)
class Running:
    """A job that has a sequence.

    Attributes:
        tokens: the prompt and what was written; the memory holds a beginning of them.
        lent: the class of the most urgent job that waits for this one's opening to be read.
        passed_over: steps in a row that went without it although it could run.
        offered: its opening was read and given to the memory to be shared.
    """

    job: Job
    tokens: list[int]
    prompt: int
    bound: int
    opening: tuple[int, ...] | None
    dialogue: Dialogue
    sampler: Sampler
    cached: int
    lent: Urgency = Urgency.PAUSED
    passed_over: int = 0
    offered: bool = False

    def unread(self) -> int:
        """Tokens that the memory does not hold yet."""
        return len(self.tokens) - len(self.dialogue.tokens)

    def urgency(self) -> Urgency:
        """Return its class, or that of who waits for it."""
        return min(self.job.urgency(), self.lent)

    def candidate(self) -> Candidate:
        """Return what the choice needs to know of it."""
        unread = self.unread()
        writing = unread == 1 and self.job.written > 0
        return Candidate(self.urgency(), self.job.arrival, unread, writing, self.passed_over)

    def usage(self) -> TokenUsage:
        """Return what it read and wrote."""
        return TokenUsage(self.prompt, self.job.written, self.cached)

    def suspended(self) -> Waiting:
        """Return it as a job without a sequence that goes on later where it was."""
        return Waiting(
            self.job,
            self.tokens,
            self.prompt,
            self.bound,
            self.opening,
            self.sampler,
            self.cached,
        )
