# SPDX-License-Identifier: Apache-2.0
"""What a recognizer and a hesitant tongue do to a caller's words, without touching their sense."""

from __future__ import annotations

import random

from recipe.grammar import listed

_SMALL = frozenset(
    listed(
        "a an the is are do does you i i'd i'm can could would like to for of please just it "
        "that's me my your there have be with and so"
    )
)
_SWAPS = {
    "the": "a", "a": "the", "is": "it's", "are": "our", "you": "your", "your": "you", "can": "could",
    "could": "can", "i'd": "I", "to": "the", "for": "of", "do": "you", "it's": "is", "would": "could",
    "have": "had", "i'm": "I", "that's": "that", "there": "their", "please": "police", "and": "in",
}  # fmt: skip
_FILLERS = ("um", "uh", "er", "like", "you know", "I mean", "well", "hmm", "let's see")
_SALAD = listed(
    "the of and a so it that this was with then but her his they from up out them some very "
    "blue table green river under window yesterday mountain paper seven bird song glass wheel "
    "kitchen running slowly purple engine ladder between cloud spoon basket"
)


def roughen(text: str, rng: random.Random) -> str:
    """The text with small words dropped, doubled or misheard, or with fillers put in."""
    draw = rng.random()
    if draw < 0.14:
        return without_marks(text)
    if draw < 0.76:
        return text
    out: list[str] = []
    for i, said in enumerate(text.split()):
        word = said
        bare = word.lower().strip(",.?!")
        draw = rng.random()
        if bare in _SMALL and bare == word.lower():
            if draw < 0.1 and i:
                continue
            if draw < 0.16:
                out.append(word)
            elif draw < 0.22 and bare in _SWAPS:
                word = _SWAPS[bare]
        if i and rng.random() < 0.05 and out:
            out.append(rng.choice(_FILLERS) + rng.choice(("", ",")))
        out.append(word)
    text = " ".join(out) or text
    return without_marks(text) if rng.random() < 0.2 else text


def without_marks(text: str) -> str:
    """Lower case, no punctuation, as some recognizers write."""
    kept = text.replace("a.m.", "a m").replace("p.m.", "p m")
    return "".join(c for c in kept.lower() if c not in ",.?!")


def nonsense(rng: random.Random) -> str:
    """Words that mean nothing here: an empty recognition, a noise, a salad."""
    draw = rng.random()
    if draw < 0.15:
        return ""
    if draw < 0.3:
        return rng.choice((".", "...", "?", "[noise]", "(coughs)", "Shh.", "Brrr.", "Psst.", "-"))
    words = [rng.choice(_SALAD) for _ in range(rng.randint(2, 7))]
    if draw < 0.6:
        start = rng.randrange(len(words))
        words[start] = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))
    return " ".join(words).capitalize() + rng.choice((".", "", "?"))
