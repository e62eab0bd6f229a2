# SPDX-License-Identifier: Apache-2.0
"""All calls of the box: admits them, gives each its session, and runs the media tick over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import structlog

from appliance.audio.recorder import RecordingWriter, StereoRecorder
from appliance.call.admission import Admission, Level
from appliance.call.agent import Agent
from appliance.call.core import Script
from appliance.call.log import Event, EventLog
from appliance.call.shell import CallEngines, CallSession
from appliance.call.timing import TurnTaking
from appliance.call.toolbox import ToolBox
from appliance.logs import call_context
from appliance.plugin import (
    Leg,
    LegEvent,
    MediaFrame,
    Pcm,
    RecordingStore,
    VoiceActivityDetector,
)
from appliance.store import Store
from appliance.wire import new_id

_log = structlog.get_logger(__name__)

RETRY_AFTER_S = 30
"""What a refused caller's exchange is told: when it is worth to try again."""

LOAD_EVERY_S = 1.0
"""How often the load is looked at when no answer is measured."""

USUAL_SILENCE_MS = TurnTaking().end_of_turn_ms


class Desk(Protocol):
    """Who answers: agents, their engines and tools."""

    def agent_for(self, called: str) -> Agent | None:
        """Return the agent that takes calls to `called`, or None."""
        ...

    def engines_for(self, agent: Agent) -> CallEngines:
        """Return the agent's provider chains."""
        ...

    def toolbox(self, agent: Agent, caller: str) -> ToolBox:
        """Return the agent's tools."""
        ...

    def version_id(self, agent: Agent) -> str:
        """Return which version of the hub's this agent is; "" for one of the box's own."""
        ...


@dataclass(slots=True)
class _Call:
    session: CallSession
    vad: Any
    facts: Mapping[str, Any]
    started_at: datetime
    recording: Path | None
    turns: int = 0
    cause: str = "failed"
    usage: dict[str, int] = field(default_factory=dict)


class Switchboard:
    """The transports' host.

    Args:
        desk: who answers.
        vad: scores all calls in one batch.
        store: keeps them.
        max_calls: calls at a time; more are refused.
        admission: decides by measured latency what the box takes on; None: by the default target.
        recordings: the writer and the folder, or None for no recordings.
        archive: takes finished recordings; without one they stay where they were written.
        notify: tells the plugins' observers.
        listen: told each event of each call.
        clock: seconds, monotonic.
        now: local time, aware.
    """

    def __init__(
        self,
        desk: Desk,
        vad: VoiceActivityDetector,
        store: Store,
        *,
        max_calls: int,
        max_call_s: int = 86_400,
        admission: Admission | None = None,
        recordings: tuple[RecordingWriter, Path] | None = None,
        archive: RecordingStore | None = None,
        notify: Callable[..., None] = lambda *_, **__: None,
        listen: Callable[[str, Event], None] = lambda *_: None,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        self._desk = desk
        self._vad = vad
        self._store = store
        self._max_calls = max_calls
        self._max_call_s = max_call_s
        self._recordings = recordings
        self._archive = archive
        self._notify = notify
        self._listen = listen
        self._clock = clock
        self._now = now
        self._calls: dict[str, _Call] = {}  # by leg
        self._by_id: dict[str, _Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self.admission = admission or Admission()
        self._level = self.admission.level
        self._load_due = 0.0
        self.refused = 0
        self.refused_for_load = 0

    @property
    def active(self) -> int:
        """Calls that exist now."""
        return len(self._calls)

    def limit(self, max_calls: int, max_call_s: int) -> None:
        """Admit so many calls at a time, so long each, from the next one on."""
        self._max_calls, self._max_call_s = max_calls, max_call_s

    def drain(self) -> None:
        """Refuse new calls from now on; those that run go on."""
        self._draining = True

    async def idle(self) -> None:
        """Return when no call is left."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def aclose(self) -> None:
        """Refuse new calls and end those that run. Idempotent."""
        self.drain()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- the transports' host ----------------------------------------------------------------

    def incoming(self, leg: Leg) -> None:
        """Admit a call, or refuse it with a reason that its exchange understands."""
        agent = self._desk.agent_for(leg.info.called)
        if agent is None:
            _log.warning("call refused: no agent takes this number", leg=leg.info.id)
            self._refuse(leg, 404, "no such number")
        elif self._draining:
            self._refuse(leg, 503, "shutting down", RETRY_AFTER_S)
        elif len(self._calls) >= self._max_calls:
            _log.warning("call refused: all lines are busy", leg=leg.info.id, calls=self.active)
            self._refuse(leg, 486, "all lines are busy", RETRY_AFTER_S)
        elif self.admission.update(self._clock()) is Level.FULL:
            self.refused_for_load += 1
            p95 = self.admission.p95_ms()
            _log.warning("call refused: the box is overloaded", leg=leg.info.id, p95_ms=p95)
            self._refuse(leg, 503, "overloaded", RETRY_AFTER_S)
        else:
            self._take(leg, agent)

    def media(self, frames: Sequence[MediaFrame]) -> None:
        """Run one tick: every call hears its frame, all voices are scored at once, all act."""
        calls: list[_Call] = []
        windows: list[Pcm] = []
        for frame in frames:
            call = self._calls.get(frame.leg.info.id)
            if call is None:
                continue
            try:
                window = call.session.hear(frame)
            except Exception:
                self._failed(call)
                continue
            if window is not None:
                calls.append(call)
                windows.append(window)
        if calls:
            scores = self._score(calls, windows)
            for call, score in zip(calls, scores, strict=True):
                self._guarded(call, lambda c=call, s=score: c.session.scored(s))  # type: ignore[misc]
        for call in tuple(self._calls.values()):
            self._guarded(call, call.session.tick)
        now = self._clock()
        if now >= self._load_due:
            self._load_due = now + LOAD_EVERY_S
            self._load(self.admission.update(now))

    def _load(self, level: Level) -> None:
        """Tell all calls of a new level."""
        if level is self._level:
            return
        p95 = self.admission.p95_ms()
        _log.warning("load changed", now=level.name, was=self._level.name, p95_ms=p95)
        self._level = level
        for call in tuple(self._calls.values()):
            self._guarded(call, lambda c=call: c.session.load_changed(level))  # type: ignore[misc]

    def _measured(self, latency_ms: float) -> None:
        """Note an answer's latency. This comes out of a call at work: the calls are told in the next tick."""
        self.admission.answered(self._clock(), latency_ms)
        self._load_due = 0.0

    def _score(self, calls: Sequence[_Call], windows: Sequence[Pcm]) -> Sequence[float]:
        try:
            scores = self._vad.score([call.vad for call in calls], np.stack(windows))
            return [float(score) for score in scores]
        except Exception:  # a call that cannot hear its caller is worse than one that ends
            for call in calls:
                self._failed(call)
            return [0.0] * len(calls)

    def event(self, leg: Leg, event: LegEvent) -> None:
        """Pass an event to its call."""
        call = self._calls.get(leg.info.id)
        if call is not None:
            self._guarded(call, lambda: call.session.leg_event(event))

    # -- one call ----------------------------------------------------------------------------

    def _take(self, leg: Leg, agent: Agent) -> None:
        call_id = new_id()  # sorts by time, and is the call's name at the hub too
        info = leg.info
        recording, path = self._record(call_id)
        started_at = datetime.now(UTC)
        facts = {
            "agent": agent.name,
            "agent_version": agent.revision(),
            "direction": info.direction.value,
            "caller": info.remote,
            "called": info.called,
        }
        self._store.begin_call(
            call_id,
            started_at=started_at,
            transport=info.transport,
            trunk=info.trunk,
            protocol_id=info.protocol_id,
            recording_path=str(path or ""),
            agent_version_id=self._desk.version_id(agent),
            **facts,
        )
        log = EventLog(lambda event: self._event(call_id, event))
        toolbox = self._desk.toolbox(agent, info.remote)
        engines = self._desk.engines_for(agent)
        if agent.limits.max_call_s > self._max_call_s:
            limits = agent.limits.model_copy(update={"max_call_s": self._max_call_s})
            agent = agent.model_copy(update={"limits": limits})
        now = self._now()
        names = {"caller": info.remote, "called": info.called}
        script = Script(
            call_id,
            agent,
            agent.render(agent.prompt, now, **names),
            agent.render(agent.greeting, now, **names),
            toolbox.specs,
            engines.turn_detector is not None,
        )
        session = CallSession(
            leg,
            script,
            engines,
            toolbox,
            log,
            lambda *use: self._use(call_id, *use),
            recording=recording,
            window=self._vad.capabilities.window,
            clock=self._clock,
        )
        call = _Call(session, self._vad.open(), {"id": call_id, **facts}, started_at, path)
        self._calls[info.id] = self._by_id[call_id] = call
        if self._level is not Level.NORMAL:
            session.load_changed(self._level)
        self._start(self._hold(leg, call))

    def _record(self, call_id: str) -> tuple[StereoRecorder | None, Path | None]:
        if self._recordings is None:
            return None, None
        writer, folder = self._recordings
        path = folder / f"{datetime.now(UTC):%Y-%m-%d}" / f"{call_id}.wav"

        def failed(error: str) -> None:
            _log.error("recording stopped", call_id=call_id, error=error)

        return writer.open(path, failed), path

    async def _hold(self, leg: Leg, call: _Call) -> None:
        """Ring, answer, hold the call to its end, and store how it ended."""
        call_id = call.facts["id"]
        with call_context(call_id):
            _log.info("call ringing", agent=call.facts["agent"], trunk=leg.info.trunk)
            self._notify("call_ringing", call=call.facts)
            try:
                await leg.ring()
                await leg.answer()
                await call.session.run()
            except asyncio.CancelledError:
                call.cause = "shutdown"
                await leg.hang_up()
                raise
            except Exception:
                _log.exception("call failed")
                await leg.hang_up()
            finally:
                self._calls.pop(leg.info.id, None)
                await asyncio.shield(self._finish(call))
                self._by_id.pop(call_id, None)

    async def _finish(self, call: _Call) -> None:
        ended = datetime.now(UTC)
        await call.session.aclose()
        self._store.end_call(call.facts["id"], cause=call.cause, ended_at=ended)
        if self._archive is not None and call.recording is not None:
            self._start(self._put_away(self._archive, call, call.recording, ended))
        seconds = round((ended - call.started_at).total_seconds(), 1)
        _log.info("call ended", cause=call.cause, seconds=seconds, turns=call.turns)
        summary = {
            "cause": call.cause,
            "seconds": seconds,
            "turns": call.turns,
            "usage": dict(call.usage),
        }
        self._notify("call_ended", call={**call.facts, **summary})

    async def _put_away(
        self, archive: RecordingStore, call: _Call, recording: Path, ended: datetime
    ) -> None:
        """Give a finished recording to the store for them; when that fails the local file stays."""
        call_id = call.facts["id"]
        try:
            uri = await archive.put(call_id, recording)
        except Exception as error:
            _log.error(
                "recording not stored", call_id=call_id, error=str(error), kept=str(recording)
            )
            return
        self._store.end_call(call_id, cause=call.cause, ended_at=ended, recording_path=uri)

    def _event(self, call_id: str, event: Event) -> None:
        self._store.append(call_id, [event])
        self._listen(call_id, event)
        call = self._by_id.get(call_id)
        if call is None:
            return
        match event.kind:
            case "call.answered":
                _log.info("call answered", call_id=call_id, codec=event.data["codec"])
                self._store.answer_call(call_id, datetime.now(UTC))
                self._notify("call_answered", call={**call.facts, "codec": event.data["codec"]})
            case "turn.committed":
                call.turns += 1
                self._notify("turn_committed", call=call.facts, turn=dict(event.data))
            case "latency":
                if not event.data["tool"]:
                    self._measured(_own_latency(event.data))
            case "error" if event.data.get("late"):
                self._measured(2 * self.admission.target_p95_ms)
                _log.error("an engine was late", call_id=call_id, stage=event.data["stage"])
            case "tool.result":
                self._notify("tool_called", call=call.facts, tool=dict(event.data))
            case "call.ended":
                call.cause = event.data["cause"]
            case "error" | "error.recognition" | "error.reply" | "error.speech":
                _log.error("engine failure in a call", call_id=call_id, what=event.kind)
            case _:
                pass

    def _use(self, call_id: str, provider: str, kind: str, unit: str, quantity: int) -> None:
        self._store.record_usage(
            call_id, provider=provider, kind=kind, unit=unit, quantity=quantity
        )
        call = self._by_id.get(call_id)
        if call is not None:
            key = f"{kind}.{unit}"
            call.usage[key] = call.usage.get(key, 0) + quantity

    def _refuse(self, leg: Leg, code: int, reason: str, retry_after_s: int | None = None) -> None:
        self.refused += 1
        self._start(leg.reject(code, reason=reason, retry_after_s=retry_after_s))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _guarded(self, call: _Call, work: Callable[[], None]) -> None:
        """A fault in one call must not touch the others."""
        try:
            work()
        except Exception:
            self._failed(call)

    def _failed(self, call: _Call) -> None:
        _log.exception("a call broke", call_id=call.facts["id"])
        call.session.abort()


def _own_latency(latency: Mapping[str, Any]) -> float:
    """Return an answer's latency as an agent with the usual end-of-turn silence would have it: a longer
    one that the agent's file asks for is no load.
    """
    own: float = latency["total"] - latency["parts"]["end_of_turn"] + USUAL_SILENCE_MS
    return own
