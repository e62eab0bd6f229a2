# SPDX-License-Identifier: Apache-2.0
"""`./run bench-llm`: the step loop against the plain way of using the same library, in one run.

Arms, interleaved for each load:

    trunkline   the `llama_cpp` plugin: all calls in one batch, their prompts kept and shared
    plain       `llama_cpp.Llama.create_chat_completion`, one request at a time, first come first served

Both get the same model file, threads, dialogues and times of arrival, and write greedily. Whether they write
the same is reported, and where they do not, how far apart the two choices were: rounding decides between
equals, and it depends on the size of a batch. Each call asks at times fixed beforehand, whether or not
anybody keeps up, and is answered after its own earlier turns. A reply's first clause counts as written after
`CLAUSE` tokens; its time runs from when it should have been asked. Models: the starter model, and noise in
the shape of Qwen2 0.5B Q4_0.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import llama_cpp
import numpy as np
from trunkline_llama_cpp import build
from trunkline_llama_cpp.settings import LlamaCppSettings
from trunkline_llama_cpp.template import ChatTemplate

from appliance.plugin import BuildContext, LlmRequest, Message, Role, TextDelta
from tests.benchmarks.models import language_model
from tests.benchmarks.report import Report

STARTER = (
    Path(__file__).parents[2]
    / "plugins/starter_models/trunkline_starter_models/models/llm/starter.gguf"
)
CLAUSE = 8
REPLY = 24
SYSTEM_TOKENS = 400
QUESTION_TOKENS = 18
CONTEXT = 2048
"""Most tokens of one dialogue."""

CALLS = (1, 2, 4, 8, 16)
FACTS = (
    "You are the receptionist of Larkspur Dental. ",
    "We are open Monday to Friday from nine to five. ",
    "On Saturday we are open from ten to one. ",
    "We are at twelve Mill Lane, next to the station. ",
    "There is free parking behind the building. ",
    "A check-up costs forty dollars, a cleaning sixty. ",
)
WORDS = (
    "when",
    "where",
    "Friday",
    "cleaning",
    "parking",
    "price",
    "open",
    "Monday",
    "name",
    "time",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One question: whose, which of its call's, when, in seconds from the beginning."""

    call: int
    number: int
    at: float
    question: str


@dataclass(slots=True)
class Reply:
    """What came of a turn; times in seconds from when it should have been asked."""

    pieces: list[str] = field(default_factory=list)
    first_clause: float = 0.0
    total: float = 0.0

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)


@dataclass(slots=True)
class Block:
    """One arm under one load, once."""

    replies: dict[tuple[int, int], Reply] = field(default_factory=dict)
    seconds: float = 0.0


class Arm(Protocol):
    """A way to run the model."""

    name: str

    def reply(self, call: str, messages: Sequence[Message]) -> AsyncIterator[str]:
        """Stream a reply token by token."""
        ...

    async def aclose(self) -> None:
        """Free the model."""


class Trunkline:
    """The plugin, as a box builds it."""

    name = "trunkline"

    def __init__(self, path: Path, threads: int, gpu_layers: int, folder: Path) -> None:
        settings = LlamaCppSettings(
            model=str(path), context_tokens=12288, gpu_layers=gpu_layers, keep_idle_s=600
        )
        context = BuildContext(model_path=Path, data_dir=folder, threads=threads)
        self._model = build(settings, context)

    async def reply(self, call: str, messages: Sequence[Message]) -> AsyncIterator[str]:
        """Stream a reply token by token."""
        request = LlmRequest(messages, max_tokens=REPLY, call_id=call)
        async for delta in self._model.reply(request):
            if isinstance(delta, TextDelta):
                yield delta.text

    async def aclose(self) -> None:
        """Free the model."""
        await self._model.aclose()


class Plain:
    """The library's own chat interface, behind a queue."""

    name = "plain"

    def __init__(self, path: Path, threads: int, gpu_layers: int) -> None:
        self.llama = llama_cpp.Llama(
            str(path),
            n_ctx=CONTEXT,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=gpu_layers,
            flash_attn=True,
            verbose=False,
        )
        self._queue = ThreadPoolExecutor(1)

    async def reply(self, call: str, messages: Sequence[Message]) -> AsyncIterator[str]:
        """Stream a reply token by token; `call` is of no use to it."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def tell(piece: str | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        done = loop.run_in_executor(self._queue, self._write, messages, tell)
        while (piece := await pieces.get()) is not None:
            yield piece
        await done

    def _write(self, messages: Sequence[Message], tell: Callable[[str | None], None]) -> None:
        chat: list[Any] = [{"role": one.role.value, "content": one.content} for one in messages]
        try:
            chunks: Any = self.llama.create_chat_completion(
                chat, stream=True, temperature=0, max_tokens=REPLY, repeat_penalty=1.0
            )
            for chunk in chunks:
                if piece := chunk["choices"][0]["delta"].get("content"):
                    tell(piece)
        finally:
            tell(None)

    def distance(self, messages: Sequence[Message], one: str, other: str) -> float:
        """Return how many logits lie between the tokens in which two replies begin to differ."""
        template = self.llama.metadata["tokenizer.chat_template"]
        prompt = ChatTemplate(template, "", "", ()).prompt(messages, ())
        read = [self._tokens(prompt + text) for text in (one, other)]
        length = next((n for n, (a, b) in enumerate(zip(*read, strict=False)) if a != b), None)
        if length is None:  # one of them ended earlier
            length = min(map(len, read))
            read = [[*tokens, self.llama.token_eos()] for tokens in read]
        self.llama.n_tokens = 0
        self.llama.eval(read[0][:length])
        logits = llama_cpp.llama_get_logits_ith(self.llama.ctx, -1)
        return abs(float(logits[read[0][length]] - logits[read[1][length]]))

    def _tokens(self, text: str) -> list[int]:
        return self.llama.tokenize(text.encode(), add_bos=False, special=True)

    async def aclose(self) -> None:
        """Free the model."""
        self._queue.shutdown()
        self.llama.close()


def script(calls: int, turns: int, period_s: float, tokens: Callable[[str], int]) -> list[Turn]:
    """Return who asks what and when: each call in its own rhythm, once a period with some play."""
    dice = random.Random(calls)
    planned = []
    for call in range(calls):
        phase = dice.uniform(0, period_s)
        for number in range(turns):
            at = phase + (number + dice.uniform(-0.2, 0.2)) * period_s
            question = f"{call} {number}"
            while tokens(question) < QUESTION_TOKENS:
                question += " " + dice.choice(WORDS)
            planned.append(Turn(call, number, max(at, 0.0), question))
    return sorted(planned, key=lambda turn: turn.at)


def system_prompt(tokens: Callable[[str], int]) -> Message:
    """Return a prompt of about `SYSTEM_TOKENS` tokens."""
    text = ""
    while tokens(text) < SYSTEM_TOKENS - 10:
        text += FACTS[text.count(". ") % len(FACTS)]
    return Message(Role.SYSTEM, text)


async def run_block(arm: Arm, system: Message, turns: Sequence[Turn], mark: str) -> Block:
    """Let all calls of a script ask their questions."""
    block = Block()
    begun = time.perf_counter()

    async def hold(call: int) -> None:
        messages = [system]
        for turn in (turn for turn in turns if turn.call == call):
            await asyncio.sleep(begun + turn.at - time.perf_counter())
            messages.append(Message(Role.USER, turn.question))
            reply = await _answer(arm, f"{mark}-{call}", messages, begun + turn.at)
            messages.append(Message(Role.ASSISTANT, reply.text))
            block.replies[call, turn.number] = reply

    async with asyncio.TaskGroup() as group:
        for call in {turn.call for turn in turns}:
            group.create_task(hold(call))
    block.seconds = time.perf_counter() - begun
    return block


async def _answer(arm: Arm, call: str, messages: Sequence[Message], asked: float) -> Reply:
    reply = Reply()
    async for piece in arm.reply(call, tuple(messages)):
        reply.pieces.append(piece)
        if len(reply.pieces) == CLAUSE:
            reply.first_clause = time.perf_counter() - asked
    reply.total = time.perf_counter() - asked
    reply.first_clause = reply.first_clause or reply.total
    return reply


def compare(
    plain: Plain, system: Message, turns: Sequence[Turn], ours: Block, theirs: Block
) -> tuple[list[float], list[float]]:
    """Compare the replies before which both arms had heard the same.

    Returns:
        1 or 0 for each: whether they are equal; and for those that are not, how far apart the choices were.
    """
    verdicts, distances = [], []
    for call in {turn.call for turn in turns}:
        messages = [system]
        for turn in (turn for turn in turns if turn.call == call):
            messages.append(Message(Role.USER, turn.question))
            one, other = (block.replies[call, turn.number].text for block in (ours, theirs))
            verdicts.append(float(one == other))
            if one != other:
                distances.append(plain.distance(messages, one, other))
                break  # from here on their dialogues differ
            messages.append(Message(Role.ASSISTANT, one))
    return verdicts, distances


async def measure(
    report: Report, label: str, path: Path, options: argparse.Namespace, folder: Path
) -> None:
    """Measure both arms with one model."""
    plain = Plain(path, options.threads, options.gpu_layers)
    arms: list[Arm] = [Trunkline(path, options.threads, options.gpu_layers, folder), plain]

    def tokens(text: str) -> int:
        return len(plain.llama.tokenize(text.encode(), add_bos=False))

    system = system_prompt(tokens)
    try:
        for arm in arms:  # what is read once in the life of a box is read now
            await _answer(arm, "warm", [system, Message(Role.USER, "Hello")], time.perf_counter())
        for calls in options.calls:
            turns = script(calls, options.turns, options.period, tokens)
            same: list[float] = []
            apart: list[float] = []
            blocks: dict[str, list[Block]] = {arm.name: [] for arm in arms}
            for repeat in range(options.repeat):
                for arm in arms if repeat % 2 else arms[::-1]:
                    block = await run_block(arm, system, turns, f"{calls}-{repeat}")
                    blocks[arm.name].append(block)
                    _say(label, arm, calls, block)
            _add(report, label, calls, blocks)
            for ours, theirs in zip(blocks["trunkline"], blocks["plain"], strict=True):
                verdicts, distances = compare(plain, system, turns, ours, theirs)
                same += verdicts
                apart += distances
            report.add(f"both/same_reply_{label}@{calls}", "share", same)
            report.add(f"both/apart_where_not_{label}@{calls}", "logits", apart)
    finally:
        for arm in arms:
            await arm.aclose()


def _say(label: str, arm: Arm, calls: int, block: Block) -> None:
    p95 = np.percentile([1000 * one.first_clause for one in block.replies.values()], 95)
    print(f"  {label} {arm.name}@{calls}: first clause p95 {p95:.0f} ms", flush=True)


def _add(report: Report, label: str, calls: int, blocks: dict[str, list[Block]]) -> None:
    p95 = {}
    for arm, done in blocks.items():
        replies = [reply for block in done for reply in block.replies.values()]
        clauses = [1000 * reply.first_clause for reply in replies]
        p95[arm] = float(np.percentile(clauses, 95))
        speeds = [
            sum(len(one.pieces) for one in block.replies.values()) / block.seconds for block in done
        ]
        report.add(f"{arm}/first_clause_{label}@{calls}", "ms", clauses)
        report.add(f"{arm}/reply_{label}@{calls}", "ms", [1000 * one.total for one in replies])
        report.add(f"{arm}/speed_{label}@{calls}", "tokens/s", speeds)
    report.add(f"gain/first_clause_p95_{label}@{calls}", "times", [p95["plain"] / p95["trunkline"]])


def _models(options: argparse.Namespace, cache: Path) -> dict[str, Path]:
    if options.model:
        return {options.model.stem: options.model}
    starter = {"starter": STARTER}
    return starter if options.quick else starter | {"0.5b": language_model("qwen2-0.5b", cache)}


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--model", type=Path, help="a GGUF file, instead of the two models")
    parser.add_argument("--calls", type=_counts, default=list(CALLS), help="loads, as in 1,2,4")
    parser.add_argument("--cache", type=Path, help="keep the made model in this folder")
    parser.add_argument("--threads", type=int, default=1, help="threads of each arm")
    parser.add_argument("--gpu-layers", type=int, default=0, help="-1: all layers on the GPU")
    parser.add_argument("--turns", type=int, default=5, help="turns of each call")
    parser.add_argument("--period", type=float, default=8.0, help="seconds between a call's turns")
    parser.add_argument("--repeat", type=int, default=2, help="blocks of each arm and load")
    parser.add_argument("--quick", action="store_true", help="starter model, few and fast turns")
    options = parser.parse_args(arguments)
    if options.quick:
        options.turns, options.period, options.repeat = 2, 1.0, 1
    report = Report("llm")
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        cache = options.cache or Path(folder)
        for label, path in _models(options, cache).items():
            asyncio.run(measure(report, label, path, options, Path(folder)))
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
