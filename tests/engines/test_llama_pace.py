# SPDX-License-Identifier: Apache-2.0
"""Urgency in the running loop: who writes while others wait, and that changes of pace are heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from trunkline_llama_cpp.provider import LlamaModel

from appliance.plugin import (
    LlmRequest,
    Message,
    ReplyPace,
    Role,
    TextDelta,
    TokenUsage,
)
from tests.lab.waiting import until

SYSTEM = Message(Role.SYSTEM, "You are the receptionist of Larkspur Dental. We are open. " * 4)


class Reply:
    """A reply being read by a task of its own."""

    def __init__(
        self,
        model: LlamaModel,
        said: str,
        pace: ReplyPace | None = None,
        *,
        call_id: str = "",
        max_tokens: int = 24,
    ) -> None:
        self.text = ""
        self.usage: TokenUsage | None = None
        request = LlmRequest(
            [SYSTEM, Message(Role.USER, said)], max_tokens=max_tokens, call_id=call_id, pace=pace
        )
        self.task = asyncio.create_task(self._read(model, request))

    async def _read(self, model: LlamaModel, request: LlmRequest) -> None:
        async for delta in model.reply(request):
            if isinstance(delta, TextDelta):
                self.text += delta.text
            elif isinstance(delta, TokenUsage):
                self.usage = delta

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def asleep(model: LlamaModel) -> None:
    """Wait until the loop has nothing that it could do."""
    await until(lambda: not (model._steps._busy or model._steps._poked or model._steps._arrived))


@pytest.fixture(scope="module")
def right(random_gguf: Path) -> Iterator[Callable[[str, str], bool]]:
    """Whether a reply is what greedy decoding gives one caller alone: `right(said, written)`.

    Rounding may choose between two tokens that are as likely; it depends on who else is in a batch.
    """
    model = llama_cpp.Llama(
        str(random_gguf),
        n_ctx=2048,
        n_threads=1,
        n_threads_batch=1,
        flash_attn=True,
        logits_all=True,
        verbose=False,
    )

    def is_right(said: str, written: str) -> bool:
        prompt = (
            f"<|im_start|>system\n{SYSTEM.content}<|im_end|>\n<|im_start|>user\n{said}<|im_end|>\n"
            "<|im_start|>assistant\n"
        )
        tokens = model.tokenize(prompt.encode(), add_bos=False, special=True)
        reply = model.tokenize(written.encode(), add_bos=False)
        model.n_tokens = 0
        model.eval(tokens + reply)
        scores = model.scores[len(tokens) - 1 : len(tokens) + len(reply) - 1]
        return bool(np.all(scores.max(axis=1) - scores[range(len(reply)), reply] < 0.2))

    yield is_right
    model.close()


async def test_a_reply_far_ahead_of_its_caller_pauses_and_goes_on_when_that_was_heard(
    make_llama: Callable[..., LlamaModel], right: Callable[[str, str], bool]
) -> None:
    model = make_llama()
    pace = ReplyPace()
    reply = Reply(model, "A story.", pace, max_tokens=600)
    await until(lambda: len(reply.text) > 20)
    pace.played(1.6)
    await asleep(model)
    assert model.load().running == {"paused": 1}
    so_far = model._steps._running[0].job.written
    pace.played(1.55)
    await asleep(model)
    assert model._steps._running[0].job.written == so_far < 600
    pace.played(1.4)
    await reply.task
    assert reply.usage
    assert reply.usage.completion == 600
    assert right("A story.", reply.text)


async def test_a_paused_reply_can_be_cancelled_and_another_call_goes_on_beside_it(
    make_llama: Callable[..., LlamaModel],
) -> None:
    model = make_llama()
    pace = ReplyPace()
    paused = Reply(model, "A story.", pace, max_tokens=600)
    await until(lambda: paused.text)
    pace.played(3.0)
    other = Reply(model, "Hello.", ReplyPace())
    await other.task
    assert not paused.task.done()
    await paused.cancel()
    await until(lambda: not model._steps._running)
    assert not pace._watchers


async def test_speculation_is_written_while_nobody_waits_and_commits_without_a_new_start(
    make_llama: Callable[..., LlamaModel], right: Callable[[str, str], bool]
) -> None:
    model = make_llama()
    pace = ReplyPace(committed=False)
    reply = Reply(model, "Are you open?", pace, max_tokens=300)
    await until(lambda: len(reply.text) > 8)
    assert model.load().running in ({"speculation": 1}, {})
    pace.commit()
    await reply.task
    assert right("Are you open?", reply.text)


async def test_a_cancelled_speculation_leaves_its_prefix_to_the_changed_question(
    make_llama: Callable[..., LlamaModel], right: Callable[[str, str], bool]
) -> None:
    model = make_llama()
    guess = Reply(model, "I would like to come on", ReplyPace(committed=False), call_id="a")
    await until(lambda: len(guess.text) > 4)
    await guess.cancel()
    again = Reply(model, "I would like to come on Friday", ReplyPace(), call_id="a")
    await again.task
    assert again.usage
    # All but the last word, and the marks that the template writes after it.
    assert again.usage.prompt - again.usage.cached < len(" Friday") + 25
    assert right("I would like to come on Friday", again.text)


async def test_a_speculation_that_still_runs_lends_its_prefix_to_its_successor(
    make_llama: Callable[..., LlamaModel], right: Callable[[str, str], bool]
) -> None:
    model = make_llama()
    guess = Reply(model, "I would like to come on", ReplyPace(), call_id="a", max_tokens=900)
    await until(lambda: len(guess.text) > 4)
    again = Reply(model, "I would like to come on Friday", ReplyPace(), call_id="a")
    await again.task
    assert not guess.task.done()
    assert again.usage
    assert again.usage.prompt - again.usage.cached < len(" Friday") + 25
    assert right("I would like to come on Friday", again.text)
    await guess.cancel()


async def test_speculation_gives_its_memory_to_a_committed_reply_and_still_ends_right(
    make_llama: Callable[..., LlamaModel], right: Callable[[str, str], bool]
) -> None:
    """Two replies of this length do not fit at once."""
    model = make_llama(context_tokens=768)
    guess = Reply(model, "A story.", ReplyPace(committed=False), max_tokens=300)
    await until(lambda: len(guess.text) > 8)
    urgent = Reply(model, "Hello.", ReplyPace(), max_tokens=300)
    await until(lambda: model._steps._waiting and model._steps._waiting[0].job.written)
    await urgent.task
    await guess.task
    assert right("A story.", guess.text)
    assert right("Hello.", urgent.text)


async def test_a_first_clause_is_not_slowed_by_a_speculation_that_reads_a_long_prompt(
    make_llama: Callable[..., LlamaModel],
) -> None:
    model = make_llama()
    seen: list[set[str]] = []
    compute = model._steps._compute

    def watched(entries: list[object]) -> bool:
        held = {one.dialogue.sequence: one.job.call_id for one in model._steps._running}
        seen.append({held[entry.sequence] for entry in entries})  # type: ignore[attr-defined]
        return compute(entries)  # type: ignore[arg-type]

    model._steps._compute = watched  # type: ignore[method-assign,assignment]
    guess = Reply(model, "word " * 200, ReplyPace(committed=False), call_id="guess")
    await until(lambda: seen)
    urgent = Reply(model, "Hello.", ReplyPace(), call_id="urgent", max_tokens=20)
    await asyncio.gather(urgent.task, guess.task)
    begun = next(n for n, step in enumerate(seen) if "urgent" in step)
    ended = max(n for n, step in enumerate(seen) if "urgent" in step)
    assert all(step == {"urgent"} for step in seen[begun : ended + 1])
    assert {"guess"} in seen[ended + 1 :]


async def test_whoever_reads_the_shared_opening_hurries_when_an_urgent_call_waits_for_it(
    make_llama: Callable[..., LlamaModel], right: Callable[[str, str], bool]
) -> None:
    model = make_llama(prefill_chunk=8)
    guess = Reply(model, "One", ReplyPace(committed=False), call_id="guess")
    await until(lambda: model._steps._running)
    urgent = Reply(model, "Two", ReplyPace(), call_id="urgent")
    await urgent.task
    await guess.task
    assert urgent.usage
    assert urgent.usage.cached > 200
    assert right("Two", urgent.text)


async def test_the_load_tells_speed_occupancy_hits_and_queues(
    make_llama: Callable[..., LlamaModel],
) -> None:
    model = make_llama(max_sequences=4)
    idle = model.load()
    assert (idle.busy, idle.written_per_s, idle.running, idle.oldest_wait_s) == (0, 0, {}, 0)
    await asyncio.gather(*(Reply(model, f"{n}", ReplyPace()).task for n in range(6)))
    load = model.load()
    assert 0 < load.busy <= 1
    assert load.written_per_s > 0
    assert load.read_per_s > 0
    assert 1 < load.occupancy <= 4
    assert 0.5 < load.prefix_hits < 1
    assert load.step_ms > 0
    pace = ReplyPace()
    story = Reply(model, "A story.", pace, max_tokens=900)
    await until(lambda: story.text)
    pace.played(9.0)
    await asleep(model)
    assert model.load().running == {"paused": 1}
    await story.cancel()
