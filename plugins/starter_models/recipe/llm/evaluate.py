# SPDX-License-Identifier: Apache-2.0
"""Score the GGUF through llama-cpp-python, by its own chat template, greedily.

In grammar: new random dialogues from held-out sentence templates. Out of grammar: the
hand-written dialogues, which training never sees. History is the right one in both.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llama_cpp import Llama
from ruamel.yaml import YAML

from recipe.llm import replies
from recipe.llm.chat import message_text
from recipe.llm.conversation import random_dialogue
from recipe.llm.desk import dental_dialogue
from recipe.llm.dialogue import Dialogue
from recipe.llm.example import example_dialogue
from recipe.llm.scoring import Score, score_turn, taken_apart

_LIMIT = 200  # tokens of a reply
_FACTS = ("fact", "hours", "day", "two")
_SAFE = (replies.UNKNOWN, replies.CANNOT, replies.MISSED)
TOOLS: dict[str, dict[str, Any]] = {
    name: {"type": "function", "function": {
        "name": name, "description": says,
        "parameters": {"type": "object", "properties": {a: {"type": "string"} for a in arguments}},
    }}
    for name, says, arguments in (
        ("book_appointment", "Books an appointment.", ("name", "day", "time")),
        ("end_call", "Ends the call.", ()),
    )
}  # fmt: skip


class Runtime:
    """The model as llama-cpp-python runs it."""

    def __init__(self, path: Path) -> None:
        self.llama = Llama(str(path), n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False)
        self.seconds = 0.0
        self.tokens = 0
        self.firsts: list[float] = []

    def reply(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        """The model's answer to the messages."""
        began = time.perf_counter()
        out, first = [], 0.0
        for chunk in self.llama.create_chat_completion(
            messages, tools=tools or None, temperature=0.0, max_tokens=_LIMIT, stream=True
        ):
            piece = chunk["choices"][0]["delta"].get("content")
            if piece:
                first = first or time.perf_counter() - began
                out.append(piece)
        self.seconds += time.perf_counter() - began
        self.tokens += len(out)
        self.firsts.append(first)
        return "".join(out)

    def speed(self) -> dict[str, float]:
        """Milliseconds to the first token (p50, p95) and tokens a second, both on one thread."""
        firsts = sorted(self.firsts)
        return {
            "replies": len(firsts),
            "first_token_ms_p50": round(1000 * firsts[len(firsts) // 2], 1),
            "first_token_ms_p95": round(1000 * firsts[int(len(firsts) * 0.95)], 1),
            "tokens_per_s": round(self.tokens / self.seconds),
        }


def _calls(call: tuple[str, dict[str, Any]] | None) -> dict[str, Any]:
    if call is None:
        return {}
    function = {"name": call[0], "arguments": json.dumps(call[1], ensure_ascii=False)}
    return {"tool_calls": [{"id": "call", "type": "function", "function": function}]}


def in_grammar(
    runtime: Runtime, seed: int, count: int, make: Callable[..., Dialogue] = random_dialogue
) -> Score:
    """Score on so many dialogues that `make` makes, with sentences from held-out templates."""
    score = Score()
    rng = random.Random(seed)
    for _ in range(count):
        dialogue = make(rng, test=True)
        messages: list[dict[str, Any]] = [{"role": "system", "content": dialogue.system}]
        for message in dialogue.messages:
            if message.learn:
                _judge(score, runtime.reply(messages, dialogue.tools), message, messages)
            messages.append({"role": message.role, "content": message.text, **_calls(message.call)})
    return score


def _judge(score: Score, reply: str, gold: Any, messages: list[dict[str, Any]]) -> None:
    spoken, call = taken_apart(reply)
    note = {"user": messages[-1]["content"], "gold": message_text(gold), "reply": reply}
    exact = (spoken, call) == (gold.text, gold.call)
    score.add("turn", exact)
    score.add(f"kind:{gold.kind}", exact, note)
    score.add("tool", call == gold.call, None if not exact else note)
    if gold.call:
        score.add(f"tool:{gold.call[0]}", call == gold.call)
    if gold.kind in _FACTS:
        score.add("fact", spoken == gold.text)
    if gold.kind in (*_FACTS, "unknown", "cannot", "missed"):
        safe = spoken == gold.text or spoken.startswith(_SAFE) or spoken.endswith("?")
        score.add("nothing_false", safe)


def off_grammar(runtime: Runtime, path: Path) -> Score:
    """Score on the hand-written dialogues."""
    score = Score()
    for dialogue in YAML(typ="safe").load(path.read_text(encoding="utf-8")):
        tools = [TOOLS[name] for name in dialogue["tools"]]
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": dialogue["system"]},
            {"role": "assistant", "content": dialogue["greeting"]},
        ]
        for turn in dialogue["turns"]:
            messages.append({"role": "user", "content": turn["user"]})
            where = {"id": dialogue["id"], "user": turn["user"]}
            score_turn(score, runtime.reply(messages, tools), turn["expect"], where)
            wanted = turn["expect"].get("tool")
            call = (wanted["name"], wanted["arguments"]) if wanted else None
            text = taken_apart(turn["assistant"] or "")[0]
            messages.append({"role": "assistant", "content": text, **_calls(call)})
            if "tool_result" not in turn:
                continue
            messages.append({"role": "tool", "content": json.dumps(turn["tool_result"])})
            if turn.get("after_tool"):
                if turn.get("after_expect"):
                    expect = {**turn["after_expect"], "tool": None}
                    reply = runtime.reply(messages, tools)
                    score_turn(score, reply, expect, {**where, "after": turn["tool_result"]})
                messages.append({"role": "assistant", "content": turn["after_tool"]})
    return score


def main(arguments: list[str] | None = None) -> None:
    """Score a GGUF; write the numbers, and where asked the wrong replies of either set."""
    parser = argparse.ArgumentParser(prog="recipe.llm.evaluate", description=main.__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--off-grammar",
        type=Path,
        nargs="*",
        default=[],
        help="hand-written sets, each under its name",
    )
    parser.add_argument("--dialogues", type=int, default=150)
    parser.add_argument("--seed", type=int, default=90001)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--wrong-in", type=Path, help="write wrong replies in grammar here")
    parser.add_argument(
        "--wrong-off", type=Path, help="write wrong replies to hand-written ones here"
    )
    options = parser.parse_args(arguments)
    runtime = Runtime(options.model)
    result: dict[str, Any] = {"model_bytes": options.model.stat().st_size}
    seed, count = options.seed, options.dialogues
    scores = {
        "example_agent": (in_grammar(runtime, seed, count, example_dialogue), options.wrong_in),
        "dental": (in_grammar(runtime, seed, count, dental_dialogue), options.wrong_in),
        "in_grammar": (in_grammar(runtime, seed, count), options.wrong_in),
    }
    for path in options.off_grammar:
        scores[path.stem] = (off_grammar(runtime, path), options.wrong_off)
    for name, (score, wrong) in scores.items():
        result[name] = score.summary()
        if wrong:
            with wrong.open("a", encoding="utf-8") as file:
                for note in score.wrong:
                    file.write(json.dumps({"set": name, **note}, ensure_ascii=False) + "\n")
    result["speed"] = runtime.speed()
    text = json.dumps(result, indent=1)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
