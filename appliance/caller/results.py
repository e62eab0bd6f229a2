# SPDX-License-Identifier: Apache-2.0
"""What a call brought: plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from appliance.caller.measure import Stats, stats


@dataclass(frozen=True, slots=True)
class TurnResult:
    """One thing the caller did, and what the agent did then. Times are seconds since the call was answered.

    Attributes:
        number: counts from 1; 0 is the agent's greeting.
        kind: `greeting`, `say`, `wav`, `dtmf`, `wait` or `hold`.
        text: the words said, the file's name or the digits.
        speech_start_s: first sample of the caller's speech above -40 dBFS.
        speech_end_s: its last one.
        reply_start_s: first sample of the agent's answer above -45 dBFS; None: there was none.
        reply_end_s: its last one.
        answer_latency_s: from `speech_end_s` to `reply_start_s`; for the greeting, from zero.
        early: the agent began to answer before the caller had finished.
        interrupted: the caller spoke while the agent did, as the script wanted.
        barge_in_stop_s: from `speech_start_s` to the last sample of the speech that it interrupted.
        reply_missing: an answer was expected and none came in time.
    """

    number: int
    kind: str
    text: str
    speech_start_s: float | None = None
    speech_end_s: float | None = None
    reply_start_s: float | None = None
    reply_end_s: float | None = None
    answer_latency_s: float | None = None
    early: bool = False
    interrupted: bool = False
    barge_in_stop_s: float | None = None
    reply_missing: bool = False


@dataclass(frozen=True, slots=True)
class CallResult:
    """One call.

    Attributes:
        answered: the far end took the call.
        heard: the agent was heard to say something.
        codec: RTP name of the codec, or "".
        greeting: the agent's first words.
        turns: one for each turn of the script that was reached.
        complete: the script was done to its end.
        cause: how the call ended (`remote_hangup`: the agent did it; see `EndCause`).
        code: the protocol's status, where there is one.
        reason: more words about the end, or "".
        seconds: from answer to end.
        recording: path of the stereo recording (left is the caller), or "".
    """

    target: str
    answered: bool
    heard: bool
    cause: str
    codec: str = ""
    greeting: TurnResult | None = None
    turns: tuple[TurnResult, ...] = field(default_factory=tuple)
    complete: bool = False
    code: int = 0
    reason: str = ""
    seconds: float = 0.0
    recording: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def summarize(calls: Iterable[CallResult]) -> dict[str, Stats]:
    """Return the distributions over all turns of all calls that have values.

    The names are `answer_latency` and `barge_in_stop`, in milliseconds.
    """
    turns = [turn for call in calls for turn in call.turns]
    measured = {
        "answer_latency": [t.answer_latency_s for t in turns if t.answer_latency_s is not None],
        "barge_in_stop": [t.barge_in_stop_s for t in turns if t.barge_in_stop_s is not None],
    }
    return {
        name: stats([1000 * value for value in values], "ms")
        for name, values in measured.items()
        if values
    }
