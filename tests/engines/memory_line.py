# SPDX-License-Identifier: Apache-2.0
"""A phone line in memory that runs in real time, and callers on it who ask numbered questions."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from appliance.box import Box
from appliance.config import load
from appliance.plugin import (
    FRAME_SAMPLES,
    DialRequest,
    InvalidRequestError,
    Kind,
    Leg,
    Offer,
    Pcm,
    Settings,
    TransportCapabilities,
    TransportHost,
    TransportStatus,
)
from appliance.plugin.manager import PluginManager
from tests.call import fakes
from tests.engines import worker_calls
from tests.telephony.peers import until

FRAME_S = 0.02
ASKS_S = 0.9
LISTENS_S = 1.7
"""A caller takes the agent to have finished after this much silence: longer than any that may occur."""

SILENT = np.zeros(FRAME_SAMPLES, np.int16)

AGENT = """
version: 1
name: lab
prompt: You are a test.
greeting: Hello there.
turn_taking: {end_of_turn_ms: 300, silence_prompt_ms: 60000}
engines:
  speech_to_text: [one, two]
  language_model: [one, two]
  text_to_speech: [one, two]
"""


class Caller(fakes.FakeLeg):
    """Asks, listens to the end of the answer, asks again, until told to stop.

    Attributes:
        asked: how many questions.
        silences: seconds of silence that the agent ended: before and within its answers.
        finished: it has heard its last answer and hung up.
    """

    def __init__(self, host: TransportHost, number: int) -> None:
        super().__init__(host, f"leg{number}")
        self.asked = 0
        self.silences: list[float] = []
        self.stopping = False
        self.finished = False
        self._speech: deque[Pcm] = deque()
        self._quiet = 0
        self._answered = False

    def speaks(self) -> Pcm:
        """Return what it says in this tick."""
        if self._speech:
            self._quiet = 0
            return self._speech.popleft()
        if self._answered and self._quiet * FRAME_S > LISTENS_S:
            if self.stopping:
                self.finished = True
                self.end()
            else:
                self.asked += 1
                self._answered = False
                self._speech.extend(worker_calls.utterance(self.asked, ASKS_S))
        return SILENT

    def hears(self, sent: Pcm) -> None:
        """Take what the agent says in this tick."""
        if np.any(sent):
            if self._quiet:
                self.silences.append(self._quiet * FRAME_S)
            self._quiet, self._answered = 0, True
        else:
            self._quiet += 1


@dataclass
class MemoryLine:
    """A transport whose every leg is a `Caller`.

    Attributes:
        late_s: by how much each tick came late.
    """

    calls: int
    capabilities: TransportCapabilities = field(default_factory=TransportCapabilities)
    late_s: list[float] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    _ticking: asyncio.Task[None] | None = None

    async def start(self, host: TransportHost) -> None:
        self._ticking = asyncio.ensure_future(self._tick(host))

    def ring(self, host: TransportHost) -> None:
        """All callers call."""
        self.callers = [Caller(host, number) for number in range(self.calls)]
        for caller in self.callers:
            host.incoming(caller)

    async def runs(self, seconds: float) -> None:
        """Wait until it has run for so long."""
        wanted = len(self.late_s) + int(seconds / FRAME_S)
        await until(lambda: len(self.late_s) >= wanted, seconds + 30)

    async def _tick(self, host: TransportHost) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.late_s.append(loop.time() - due)
            frames = []
            for caller in self.callers:
                if caller.up:
                    said = caller.speaks()
                if caller.up:
                    frame = caller.frame(said)
                    caller.hears(frame.sent)
                    frames.append(frame)
            host.media(frames)

    async def dial(self, request: DialRequest) -> Leg:
        raise InvalidRequestError("nobody is called on this line")

    def status(self) -> TransportStatus:
        up = sum(caller.up for caller in self.callers)
        return TransportStatus(self.calls, up, "memory")

    async def aclose(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)


class Offers:
    """The lab's engines, line and detector; everything else is what is installed."""

    def __init__(self, line: MemoryLine | None, plugins: PluginManager) -> None:
        self._line = line
        self._plugins = plugins

    def offer(self, kind: Kind, id: str) -> Offer:  # noqa: A002
        if (kind, id) == (Kind.TRANSPORT, "memory"):
            return Offer(id, kind, Settings, lambda *_: self._line, None, "")
        if (kind, id) == (Kind.VOICE_ACTIVITY, "level"):
            return Offer(id, kind, Settings, lambda *_: fakes.LevelVad(), None, "")
        if id == "lab":
            return worker_calls.OFFERS[kind]
        return self._plugins.offer(kind, id)


async def start_box(
    folder: Path,
    line: MemoryLine | None,
    *,
    harm: str = "none",
    placements: tuple[str, str] = ("worker", "worker"),
    transport: str = 'use = "memory"',
    plugins: PluginManager | None = None,
) -> Box:
    """Start a box with two engines of each kind; the first ones do `harm`.

    Args:
        folder: for configuration and data.
        line: its phone line, if that is in memory.
        harm: see `worker_calls.LabSettings`.
        placements: of the first and the second engines.
        transport: keys of the section of its line.
        plugins: for a line that is not in memory.
    """
    (folder / "agents").mkdir(exist_ok=True)
    (folder / "agents" / "lab.yaml").write_text(AGENT)
    sections = ['[agents]\ndir = "agents"\ndefault = "lab"\n[recording]\nenabled = false\n']
    for kind in worker_calls.OFFERS:
        for name, does, placement in zip(("one", "two"), (harm, "none"), placements, strict=True):
            keys = f'use = "lab"\nharm = "{does}"\nplacement = "{placement}"\n'
            sections.append(f"[{kind.value}.{name}]\n{keys}")
    sections.append(f'[voice_activity]\nuse = "level"\n[transport.line]\n{transport}\n')
    path = folder / "appliance.toml"
    path.write_text("".join(sections))
    installed = plugins or PluginManager({})
    return await Box.start(load(path, Offers(line, installed)), installed)
