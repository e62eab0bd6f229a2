# SPDX-License-Identifier: Apache-2.0
"""Which sequence of the context holds which tokens: what calls said so far, and what they share.

    opening   the system message and the tools of an agent: read once, shared by all its calls
    call      the dialogue of a call as its last reply left it; the next turn begins where both agree
    nobody    a sequence that holds nothing

Sequences that share an opening share its cells, so a call costs only what was said in it. A call without a
dialogue of its own begins with a copy of the one that agrees with it for longest: of its own speculation that
still runs, or of another call that was greeted in the same words.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from trunkline_llama_cpp.native import Context

_WORTH_SHARING = 16
"""Tokens: copying a shorter opening gains nothing over reading it."""


@dataclass(slots=True)
class Opening:
    """Tokens that many dialogues begin with, kept in a sequence of their own.

    Attributes:
        users: dialogues that share it now.
        shared: dialogues that ever did.
        used_at: when the last one began, in seconds of the loop's clock.
    """

    tokens: tuple[int, ...]
    sequence: int
    users: int = 0
    shared: int = 0
    used_at: float = 0.0


@dataclass(slots=True, eq=False)
class Dialogue:
    """The tokens of one sequence.

    Attributes:
        tokens: what the memory holds.
        opening: whose cells its first tokens are.
        reserved: cells that a running reply may come to need; 0 when none runs.
        used_at: when its last reply ended, in seconds of the loop's clock.
    """

    sequence: int
    call_id: str
    tokens: list[int] = field(default_factory=list)
    opening: Opening | None = None
    reserved: int = 0
    used_at: float = 0.0

    def cells(self) -> int:
        """Cells that it needs for itself."""
        shared = len(self.opening.tokens) if self.opening else 0
        return max(len(self.tokens), self.reserved) - shared


class Memory:
    """Gives sequences to replies, and takes them back from calls that fell silent.

    Args:
        context: the context whose memory it is.
        sequences: how many there are.
        splits: whether the tail of a sequence can be removed and its head copied.
        keep_s: how long an idle call's dialogue is kept.
        now: clock, in seconds.
    """

    def __init__(
        self,
        context: Context,
        *,
        sequences: int,
        splits: bool,
        keep_s: float,
        now: Callable[[], float],
    ) -> None:
        self._context = context
        self._splits = splits
        self._keep_s = keep_s
        self._now = now
        self._count = sequences
        self._free: list[int] = []
        self._idle: OrderedDict[str, Dialogue] = OrderedDict()
        self._running: set[Dialogue] = set()
        self._openings: OrderedDict[tuple[int, ...], Opening] = OrderedDict()
        self._reset()

    def _reset(self) -> None:
        self._free = list(range(self._count - 1, -1, -1))
        self._idle.clear()
        self._running.clear()
        self._openings.clear()

    def shareable(self, tokens: list[int], count: int) -> tuple[int, ...] | None:
        """Return the first `count` of `tokens` as the key of an opening, when one would help."""
        return tuple(tokens[:count]) if self._splits and count >= _WORTH_SHARING else None

    def knows(self, opening: tuple[int, ...]) -> bool:
        """Whether this opening has been read."""
        return opening in self._openings

    def claim(
        self, call_id: str, tokens: list[int], opening: tuple[int, ...] | None, reply: int
    ) -> Dialogue | None:
        """Return a sequence that holds as much of `tokens` as is known, but never all of them.

        Args:
            call_id: whose dialogue it is; "" for nobody's.
            tokens: the prompt.
            opening: its beginning that other calls share.
            reply: bound of the reply, in tokens.

        Returns:
            None while running replies hold what it needs.
        """
        self._expire()
        dialogue = self._idle.pop(call_id, None) if call_id else None
        known = self._openings.get(opening) if opening else None
        kept = self._agreement(dialogue, tokens) if dialogue else 0
        if dialogue and kept <= (len(known.tokens) if known else 0):
            self._drop(dialogue)
            dialogue, kept = None, 0
        if dialogue is None:
            dialogue = self._begin(call_id, known, tokens)
            if dialogue is None:
                return None
            kept = min(len(dialogue.tokens), len(tokens) - 1)
        if kept < len(dialogue.tokens):
            self._cut(dialogue, kept)
        dialogue.reserved = len(tokens) + reply
        self._running.add(dialogue)
        if not self._make_room():
            self.release(dialogue)
            return None
        return dialogue

    def _agreement(self, dialogue: Dialogue, tokens: list[int], start: int = 0) -> int:
        """Return how many tokens of the prompt can be kept; the first `start` are known to agree."""
        kept = start
        for known, wanted in zip(dialogue.tokens[start:], tokens[start:-1], strict=False):
            if known != wanted:
                break
            kept += 1
        return kept if self._splits or kept == len(dialogue.tokens) else 0

    def _cut(self, dialogue: Dialogue, kept: int) -> None:
        if not self._context.cut(dialogue.sequence, kept):
            self._context.forget(dialogue.sequence)
            kept = 0
        del dialogue.tokens[kept:]
        if dialogue.opening and kept < len(dialogue.opening.tokens):
            self._leave_opening(dialogue)

    def _begin(self, call_id: str, opening: Opening | None, tokens: list[int]) -> Dialogue | None:
        if not self._free and not self.evict(keep=opening):
            return None
        dialogue = Dialogue(self._free.pop(), call_id)
        source, kept = self._most_alike(tokens, opening) if self._splits else (None, 0)
        if source:
            self._context.copy(source.sequence, dialogue.sequence, kept)
            dialogue.tokens.extend(tokens[:kept])
            opening = source.opening
        elif opening:
            self._context.copy(opening.sequence, dialogue.sequence, len(opening.tokens))
            dialogue.tokens.extend(opening.tokens)
        if opening:
            self._join_opening(dialogue, opening)
        return dialogue

    def _most_alike(
        self, tokens: list[int], opening: Opening | None
    ) -> tuple[Dialogue | None, int]:
        """Return the dialogue that agrees with a prompt by more than its opening, and for how long."""
        shared = len(opening.tokens) if opening else 0
        best, longest = None, shared + _WORTH_SHARING // 2
        for dialogue in [*self._running, *self._idle.values()]:
            if dialogue.opening is opening and len(dialogue.tokens) > longest:
                kept = self._agreement(dialogue, tokens, shared)
                if kept > longest:
                    best, longest = dialogue, kept
        return (best, longest) if best else (None, 0)

    def share(self, dialogue: Dialogue, opening: tuple[int, ...]) -> None:
        """Keep the beginning of `dialogue`, which has just been read, for others."""
        if opening in self._openings or not (self._free or self.evict()):
            return
        shared = Opening(opening, self._free.pop())
        self._context.copy(dialogue.sequence, shared.sequence, len(opening))
        self._openings[opening] = shared
        self._leave_opening(dialogue)
        self._join_opening(dialogue, shared)

    def _join_opening(self, dialogue: Dialogue, opening: Opening) -> None:
        dialogue.opening = opening
        opening.users += 1
        opening.shared += 1
        opening.used_at = self._now()
        self._openings.move_to_end(opening.tokens)

    @staticmethod
    def _leave_opening(dialogue: Dialogue) -> None:
        if dialogue.opening:
            dialogue.opening.users -= 1
            dialogue.opening = None

    def release(self, dialogue: Dialogue) -> None:
        """A reply ended: keep what its call will need in the next turn."""
        self._running.discard(dialogue)
        dialogue.reserved = 0
        older = self._idle.pop(dialogue.call_id, None)
        if older:
            self._drop(older)
        if dialogue.call_id:
            dialogue.used_at = self._now()
            self._idle[dialogue.call_id] = dialogue
        else:
            self._drop(dialogue)

    def _drop(self, dialogue: Dialogue) -> None:
        self._leave_opening(dialogue)
        self._context.forget(dialogue.sequence)
        self._free.append(dialogue.sequence)

    def _expire(self) -> None:
        oldest = self._now() - self._keep_s
        while self._idle and next(iter(self._idle.values())).used_at < oldest:
            self._drop(self._idle.popitem(last=False)[1])
        # An opening that names the caller or the time is of no use to other calls.
        for opening in list(self._openings.values()):
            if not opening.users and opening.shared == 1 and opening.used_at < oldest:
                self._forget_opening(opening)

    def _make_room(self) -> bool:
        while self._cells() > self._context.tokens:
            if not self.evict():
                return False
        return True

    def _cells(self) -> int:
        """Cells in use or reserved."""
        dialogues = [*self._running, *self._idle.values()]
        openings = sum(len(opening.tokens) for opening in self._openings.values())
        return openings + sum(dialogue.cells() for dialogue in dialogues)

    def evict(self, keep: Opening | None = None) -> bool:
        """Free the sequence that was idle for longest: a call's, else an opening that nobody uses.

        Args:
            keep: an opening that is about to be used.

        Returns:
            False when only running replies hold any.
        """
        if self._idle:
            self._drop(self._idle.popitem(last=False)[1])
            return True
        openings = self._openings.values()
        unused = next((one for one in openings if not one.users and one is not keep), None)
        if unused is None:
            return False
        self._forget_opening(unused)
        return True

    def _forget_opening(self, opening: Opening) -> None:
        del self._openings[opening.tokens]
        self._context.forget(opening.sequence)
        self._free.append(opening.sequence)

    def clear(self) -> None:
        """Forget everything, after a failure."""
        self._context.clear()
        self._reset()
