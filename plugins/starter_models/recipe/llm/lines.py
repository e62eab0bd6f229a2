# SPDX-License-Identifier: Apache-2.0
"""The prompt's sentences, numbered, so that an answer can name the one that it repeats.

A small model can copy what follows a mark, and can compare a question with the mark that ends a
sentence; it can hardly tell from a sentence's first word what the sentence will be about. So the chat
template puts each sentence between two control tokens, and the model begins an answer with the first of
them. Control tokens have no text: nobody hears them.
"""

from __future__ import annotations

from recipe.grammar import listed

COUNT = 32  # sentences that are numbered; any more stand there without a mark
NOWHERE = "<|0|>"
"""Begins the answer to a question about the business which its prompt does not answer."""
ABBREVIATIONS = listed(".m. Dr. Mr. Mrs. Ms. St. No. approx.")
"""What may end in a full stop within a sentence."""
_ENDS = (". ", "? ", "! ")


def opening(number: int) -> str:
    """The mark before a sentence, counted from 1."""
    return f"<|{number}|>"


def closing(number: int) -> str:
    """The mark behind it."""
    return f"<|/{number}|>"


MARKS = (NOWHERE, *map(opening, range(1, COUNT + 1)), *map(closing, range(1, COUNT + 1)))


def split(text: str) -> list[str]:
    """The sentences, or lines that are none, in order."""
    for short in ABBREVIATIONS:
        text = text.replace(short + " ", short + "\r")
    for end in _ENDS:
        text = text.replace(end, end[0] + "\n")
    lines = (line.replace("\r", " ").strip() for line in text.split("\n"))
    return [line for line in lines if line]


def marked(text: str) -> str:
    """The sentences a line each, between their marks."""
    return "\n".join(
        opening(n) + line + closing(n) if n <= COUNT else line
        for n, line in enumerate(split(text), 1)
    )


def pointed(answer: str, prompt: str, source: str = "") -> str:
    """The answer with the mark of each sentence that it repeats before it.

    Args:
        answer: what the agent says.
        prompt: the system prompt, unmarked.
        source: a sentence that the answer is drawn from, if it repeats none.
    """
    lines = split(prompt)[:COUNT]
    marked_answer = answer
    for number, line in enumerate(lines, 1):
        at = marked_answer.find(line)
        if at >= 0 and len(line.split()) > 1:
            marked_answer = marked_answer[:at] + opening(number) + marked_answer[at:]
    if marked_answer == answer and source in lines:
        return opening(lines.index(source) + 1) + answer
    return marked_answer
