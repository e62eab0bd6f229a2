# SPDX-License-Identifier: Apache-2.0
"""The caller's turn: when it begins, what its words are, when it is over. Part of the call core."""

from __future__ import annotations

from collections.abc import Callable

from appliance.call import actions as act
from appliance.call import inputs as inp
from appliance.call.core import Core
from appliance.call.end_of_turn import EndOfTurn, TurnView, strategy
from appliance.call.parts import CallerTurn
from appliance.plugin import TurnContext

KNOWN_MS = 40
"""From the time a sound was long enough for speech until the core hears of it, at most."""


class CallerSide:
    """Follows the caller's turns.

    Args:
        core: shared ground.
        decide: called when a turn is over and its words are known.
        words: called when its words are known and its end is still being waited for.
        more: called when the caller speaks on in a turn that seemed to be over.
        failed: called when a turn's words cannot be had.
    """

    def __init__(
        self,
        core: Core,
        *,
        decide: Callable[[CallerTurn], None],
        words: Callable[[CallerTurn], None],
        more: Callable[[], None],
        failed: Callable[[], None],
    ) -> None:
        script = core.script
        self._core = core
        self._decide = decide
        self._words = words
        self._more = more
        self._failed = failed
        self._strategy: EndOfTurn = script.end_of_turn or strategy(
            core.timing, detector=script.judge_turns
        )
        self._count = 0
        self.turn: CallerTurn | None = None

    def speech_started(self, value: inp.SpeechStarted) -> None:
        """Begin a turn, or go on with one that was not yet decided."""
        core = self._core
        turn = self.turn
        if turn is not None and turn.deaf:
            self.drop()
            self._failed()
            return
        if turn is not None:
            turn.speaking, turn.final, turn.over = True, None, False
            core.clear("end_of_turn", "recognize")
            self._more()
            return
        self._count += 1
        self.turn = CallerTurn(self._count, value.onset_ms)
        start = max(0, value.onset_ms - core.timing.pre_roll_ms)
        core.do(act.OpenRecognition(self._count, start))

    def speech_stopped(self, value: inp.SpeechStopped) -> None:
        """Ask for the words, and wait whether the caller goes on."""
        turn = self.turn
        if turn is None or not turn.speaking:
            return
        turn.speaking, turn.silent_since_ms, turn.final = False, value.since_ms, None
        turn.flush, turn.probability, turn.suspected_ms = turn.flush + 1, None, 0
        self._core.do(act.FlushRecognition(turn.id, turn.flush))
        self._wait(turn)

    def speech_suspected(self, value: inp.SpeechSuspected) -> None:
        """Wait until it is known whether the caller goes on: a turn is not ended into a word's onset."""
        turn = self.turn
        if turn is not None and not turn.speaking and not turn.over:
            turn.suspected_ms = value.onset_ms
            self._set_end(turn)

    def interim(self, value: inp.InterimTranscript) -> None:
        """Keep the newest interim words, in case no final ones come."""
        if self.turn is not None and self.turn.id == value.turn:
            self.turn.interim = value.text

    def final(self, value: inp.FinalTranscript) -> None:
        """Take the words; decide when only they were missing."""
        turn = self._silent_turn(value.turn, value.flush)
        if turn is None:
            return
        turn.final = value.text.strip()
        if turn.over:
            self._decide(turn)
            return
        self._wait(turn)
        self._words(turn)
        if self._core.script.judge_turns and turn.final:
            context = TurnContext(
                text=turn.final,
                silence_s=(self._core.now - turn.silent_since_ms) / 1000,
                speech_s=turn.speech_ms / 1000,
                agent_text=self._core.dialogue.last_assistant(),
                language=self._core.script.agent.language,
            )
            self._core.do(act.JudgeTurn(turn.id, turn.flush, context))

    def judged(self, value: inp.TurnJudged) -> None:
        """Take the turn detector's opinion: an unfinished sentence gets more time."""
        turn = self._silent_turn(value.turn, value.flush)
        if turn is not None and not turn.over:
            turn.probability = value.probability
            self._wait(turn)

    def recognition_failed(self, value: inp.RecognitionFailed) -> None:
        """Give the turn up, unless all its words are known: then only more speech would be lost."""
        turn = self.turn
        if turn is None or turn.id != value.turn:
            return
        if not turn.speaking and turn.final is not None:
            turn.deaf = True
            return
        self.drop()
        self._failed()

    def end_of_turn(self) -> None:
        """The silence was long enough: decide, or wait for the words."""
        turn = self.turn
        if turn is None or turn.speaking:
            return
        turn.over, turn.due_ms = True, self._core.now
        if turn.final is not None:
            self._decide(turn)
        else:
            self._core.set("recognize", self._core.now + self._core.timing.recognize_timeout_ms)

    def recognizer_is_late(self) -> None:
        """Take the interim words instead; without any, what the caller said is lost, and not nothing."""
        turn = self.turn
        if turn is not None and turn.over:
            message = "no final transcript in time"
            self._core.record("error", stage="recognition", message=message, late=True)
            turn.final = turn.interim.strip()
            turn.lost = not turn.final
            self._decide(turn)

    def decide_if_over(self) -> None:
        """Decide a turn that had to wait for something else."""
        if self.turn is not None and self.turn.over and self.turn.final is not None:
            self._decide(self.turn)

    def drop(self) -> None:
        """Forget the turn."""
        if self.turn is not None:
            self._core.do(act.CloseRecognition(self.turn.id))
            self.turn = None
        self._core.clear("end_of_turn", "recognize", "barge_in")

    def _wait(self, turn: CallerTurn) -> None:
        view = TurnView(
            silence_ms=self._core.now - turn.silent_since_ms,
            speech_ms=turn.speech_ms,
            text=turn.final,
            interim=turn.interim,
            probability=turn.probability,
            agent_text=self._core.dialogue.last_assistant(),
        )
        turn.wait_ms = self._strategy.wait_ms(view)
        self._set_end(turn)

    def _set_end(self, turn: CallerTurn) -> None:
        end = turn.silent_since_ms + turn.wait_ms
        start = self._core.timing.start_ms
        known = turn.suspected_ms + start + KNOWN_MS
        self._core.set("end_of_turn", max(end, min(known, end + start)))

    def _silent_turn(self, turn_id: int, flush: int) -> CallerTurn | None:
        turn = self.turn
        if turn is None or turn.speaking or (turn.id, turn.flush) != (turn_id, flush):
            return None
        return turn
