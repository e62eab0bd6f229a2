# SPDX-License-Identifier: Apache-2.0
"""What the agent says, on its way to the wire: one queue a call, counted sample by sample.

A `Playout` holds synthesized speech before it goes to the transport, which takes it in small pieces
(at most 60 ms ahead of the wire). So an interruption finds nearly everything still here, and since
every sample is counted, the words that reached the wire are known, not guessed.

    playout = Playout()
    speech = playout.open(generation=7, text="We are open until five.", mark_rate=22050)
    speech.add(pcm, marks)                  # as the synthesizer yields them (pcm at 16 kHz)
    speech.close()                          # no more audio will come
    every tick:
        leg.play(playout.take(960 - leg.queued()))
        progress = playout.progress(leg.queued())       # which generations became audible; idle?
    interrupted:
        playout.drop(discarded=leg.drop())
        playout.heard()                     # ((7, "We are open"),)

Sans-I/O: a plain object without threads, tasks or clocks.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from appliance.audio.types import SAMPLE_RATE, Pcm

RAMP_SAMPLES = SAMPLE_RATE * 20 // 1000
"""A change of gain is spread over 20 ms: a step would click."""

SAMPLES_PER_CHAR = SAMPLE_RATE // 15
"""Usual pace of speech, 15 characters a second: for what is not synthesized to its end yet."""

_WORD = re.compile(r"\S+")


class Mark(Protocol):
    """A word begins: at `char` of the speech's text, at `sample` of its audio (`WordMark`)."""

    @property
    def char(self) -> int: ...  # noqa: D102
    @property
    def sample(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Progress:
    """What changed on the wire since it was last asked.

    Attributes:
        started: generations whose first sample reached the wire, in order.
        idle: nothing is left: every speech is closed (or dropped) and on the wire.
    """

    started: tuple[int, ...]
    idle: bool


class Speech:
    """One stream of synthesized audio and the text it speaks; made by `Playout.open`.

    Whoever synthesizes uses `add_text`, `add`, `close` and `dropped`; the rest is for `Playout`.
    """

    def __init__(self, generation: int, text: str, mark_rate: int) -> None:
        self.generation = generation
        self.dropped = False
        """Its audio is no longer wanted: whoever synthesizes it can stop."""
        self.start = 0
        """Place of its first sample among all samples ever taken, once one was."""
        self.taken = 0
        self.queued = 0
        self._pieces = [text] if text else []
        self._mark_rate = mark_rate
        self._marks: list[tuple[int, int]] = []
        self._chunks: deque[Pcm] = deque()
        self._received = 0
        self._closed = False

    @property
    def text(self) -> str:
        """All text given so far, exactly as the synthesizer got it."""
        return "".join(self._pieces)

    def add_text(self, text: str) -> None:
        """More text was given to the synthesizer. A new piece always begins a new word."""
        if text:
            self._pieces.append(text)

    def add(self, pcm: Pcm, marks: Iterable[Mark] = ()) -> None:
        """Append audio (16 kHz; kept, not copied) and the marks that came with it.

        `Mark.sample` counts at the `mark_rate` given to `open`. Ignored after a drop.

        Raises:
            ValueError: the speech is closed.
        """
        if self.dropped:
            return
        if self._closed:
            raise ValueError("speech is closed: no audio can be added")
        self._marks += [
            (mark.char, round(mark.sample * SAMPLE_RATE / self._mark_rate)) for mark in marks
        ]
        if pcm.size:
            self._chunks.append(pcm)
            self._received += pcm.size
            self.queued += pcm.size

    def close(self) -> None:
        """No more audio will come. Idempotent."""
        self._closed = True

    def drop(self) -> None:
        """Forget what was not taken, and refuse what still comes."""
        self._chunks.clear()
        self.queued = 0
        self.dropped = True

    def spent(self) -> bool:
        """Return whether it will never give another sample."""
        return not self._chunks and (self._closed or self.dropped)

    def take(self, wanted: int) -> list[Pcm]:
        """Remove and return up to `wanted` samples."""
        parts = []
        while wanted and self._chunks:
            chunk = self._chunks.popleft()
            if chunk.size > wanted:
                self._chunks.appendleft(chunk[wanted:])
                chunk = chunk[:wanted]
            wanted -= chunk.size
            self.taken += chunk.size
            self.queued -= chunk.size
            parts.append(chunk)
        return parts

    def text_heard(self, samples: int) -> str:
        """Return the part of `text` that is heard once its first `samples` are on the wire."""
        return self.text[: self.chars_heard(samples)].strip()

    def chars_heard(self, samples: int) -> int:
        """Return how many characters of `text` are heard once its first `samples` are on the wire.

        The part ends with a word. A word counts when half of it was played. Where the synthesizer
        gave no mark, a word's place is interpolated between its neighbours by characters.
        """
        words = self._words()
        if not words or samples <= 0:
            return 0
        if self._closed and samples >= self._received:
            return words[-1][1]
        chars, at = self._anchors()
        starts = np.interp([begin for begin, _ in words], chars, at)
        ends = np.append(starts[1:], at[-1])
        count = int(np.count_nonzero((starts + ends) / 2 <= samples))
        return words[count - 1][1] if count else 0

    def _words(self) -> list[tuple[int, int]]:
        words, offset = [], 0
        for piece in self._pieces:
            words += [(offset + m.start(), offset + m.end()) for m in _WORD.finditer(piece)]
            offset += len(piece)
        return words

    def _anchors(self) -> tuple[list[int], list[int]]:
        """Return known points of (character, sample), both rising, from the first to the last."""
        length = sum(map(len, self._pieces))
        points = [(0, 0)]
        for char, sample in sorted(self._marks):
            if points[-1][0] < char < length and sample >= points[-1][1]:
                points.append((char, sample))
        char, sample = points[-1]
        end = max(self._received, sample)
        if not self._closed:
            end = max(end, sample + (length - char) * SAMPLES_PER_CHAR)
        points.append((length, end))
        chars, at = zip(*points, strict=True)
        return list(chars), list(at)


class Playout:
    """The speech queue of one call.

    Speeches play one after another in the order they were opened, whichever synthesizer is faster.
    Every count of samples is at 16 kHz. `unplayed` stands for samples that `take` returned and the
    wire has not taken yet: `Leg.queued()`.
    """

    def __init__(self) -> None:
        self._speeches: list[Speech] = []  # all that are remembered, oldest first
        self._waiting: deque[Speech] = deque()  # may still give audio
        self._silent: deque[Speech] = deque()  # not on the wire yet
        self._taken = 0
        self._started = 0  # newest generation reported as started
        self._gain = 1.0
        self._ramp = np.zeros(0)  # gains of the next samples, on the way to `_gain`

    def open(self, generation: int, text: str = "", *, mark_rate: int = SAMPLE_RATE) -> Speech:
        """Begin a speech after all others.

        Args:
            generation: which answer it belongs to, from 1, never decreasing.
            text: what it says; more can be added as it is given to the synthesizer.
            mark_rate: Hz in which its marks count samples: the synthesizer's own rate.
        """
        speech = Speech(generation, text, mark_rate)
        for queue in (self._speeches, self._waiting, self._silent):
            queue.append(speech)
        return speech

    def take(self, samples: int) -> Pcm:
        """Return the next `samples`, or fewer: none when nothing is ready. Gain is applied."""
        parts: list[Pcm] = []
        left = samples
        while left > 0 and self._waiting:
            speech = self._waiting[0]
            if not speech.taken:
                speech.start = self._taken
            new = speech.take(left)
            size = sum(part.size for part in new)
            parts += new
            left -= size
            self._taken += size
            if not speech.spent():
                break
            self._waiting.popleft()
        if not parts:
            return np.zeros(0, np.int16)
        return self._amplify(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def queued(self) -> int:
        """Return how many samples lie here, not yet taken."""
        return sum(speech.queued for speech in self._waiting)

    def drop(self, generation: int | None = None, *, discarded: int = 0) -> None:
        """Forget audio that was not taken, of all speeches up to `generation` (None: of all).

        Audio that still arrives for them is ignored.

        Args:
            generation: newest generation that is no longer wanted.
            discarded: what `Leg.drop()` returned: the last samples taken never reached the wire.
        """
        for speech in self._waiting:
            if generation is None or speech.generation <= generation:
                speech.drop()
        self._waiting = deque(speech for speech in self._waiting if not speech.spent())
        self._taken -= discarded
        for speech in self._speeches:
            speech.taken = min(speech.taken, max(0, self._taken - speech.start))

    def progress(self, unplayed: int) -> Progress:
        """Return what reached the wire since the last call, and whether all of it did."""
        played = self._taken - unplayed
        started = []
        while self._silent:
            speech = self._silent[0]
            if speech.taken and speech.start < played:
                if speech.generation > self._started:
                    self._started = speech.generation
                    started.append(speech.generation)
            elif speech.taken or not speech.spent():
                break
            self._silent.popleft()
        while self._waiting and self._waiting[0].spent():
            self._waiting.popleft()
        return Progress(tuple(started), idle=not self._waiting and unplayed == 0)

    def heard(self, unplayed: int = 0, *, since: int = 0) -> tuple[tuple[int, str], ...]:
        """Return (generation, words that reached the wire) for each generation from `since` on, in
        the order they were spoken. A generation of which nothing was heard is left out.
        """
        played = self._taken - unplayed
        texts: dict[int, list[str]] = {}
        for speech in self._speeches:
            text = speech.text_heard(min(speech.taken, played - speech.start))
            if speech.generation >= since and text:
                texts.setdefault(speech.generation, []).append(text)
        return tuple((generation, " ".join(parts)) for generation, parts in texts.items())

    def forget(self, before: int) -> None:
        """Release the record of generations older than `before`, but for what still plays."""
        playing = {id(speech) for speech in (*self._waiting, *self._silent)}
        self._speeches = [s for s in self._speeches if s.generation >= before or id(s) in playing]

    def set_gain(self, db: float) -> None:
        """Change the gain of what is taken from now on, over 20 ms. 0 dB is as synthesized.

        What the transport holds already is not changed: ducking is heard at most 60 ms later.
        """
        now = float(self._ramp[0]) if self._ramp.size else self._gain
        self._gain = float(10 ** (db / 20))
        self._ramp = np.linspace(now, self._gain, RAMP_SAMPLES + 1)[1:]

    def _amplify(self, pcm: Pcm) -> Pcm:
        if self._gain == 1.0 and not self._ramp.size:
            return pcm
        gain = np.full(pcm.size, self._gain)
        ramp = self._ramp[: pcm.size]
        gain[: ramp.size] = ramp
        self._ramp = self._ramp[ramp.size :]
        scaled: Pcm = np.rint(pcm * gain).clip(-32768, 32767).astype(np.int16)
        return scaled
