# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from appliance.call.inputs import SpeechStarted, SpeechStopped, SpeechSuspected
from appliance.call.segmenter import Segmenter
from appliance.call.timing import TurnTaking


def run(scores: list[float]) -> list[tuple[int, object]]:
    segmenter = Segmenter(TurnTaking(), 32)
    found: list[tuple[int, object]] = []
    for index, score in enumerate(scores, start=1):
        event = segmenter.push(score, index * 32)
        if event is not None:
            found.append((index * 32, event))
    return found


def test_speech_starts_after_two_windows_and_knows_its_onset() -> None:
    assert run([0.1, 0.9, 0.9]) == [(96, SpeechStarted(32))]


def test_one_loud_window_is_a_click() -> None:
    assert run([0.1, 0.9, 0.1, 0.9, 0.1]) == []


def test_speech_stops_after_three_silent_windows_and_knows_since_when() -> None:
    found = run([0.9] * 4 + [0.1] * 3)
    assert found[1] == (7 * 32, SpeechStopped(4 * 32))


def test_a_score_between_the_thresholds_changes_nothing() -> None:
    assert run([0.45] * 10) == []
    assert len(run([0.9] * 3 + [0.4] * 10)) == 1


def test_a_sound_in_a_pause_is_suspected_before_it_is_known_to_be_speech() -> None:
    found = run([0.9] * 4 + [0.1] * 5 + [0.9] * 2)
    assert [event for _, event in found[2:]] == [SpeechSuspected(9 * 32), SpeechStarted(9 * 32)]


def test_a_sound_long_after_the_caller_fell_silent_is_no_news() -> None:
    found = run([0.9] * 4 + [0.1] * 60 + [0.9, 0.1])
    assert len(found) == 2
