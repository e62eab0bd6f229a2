# SPDX-License-Identifier: Apache-2.0
"""The playout queue: order, counting, words heard, dropping, gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.audio.playout import RAMP_SAMPLES, SAMPLES_PER_CHAR, Playout, Speech
from appliance.audio.types import Pcm
from appliance.plugin import WordMark


def ramp(samples: int, start: int = 0) -> Pcm:
    return np.arange(start, start + samples).astype(np.int16)


def said(playout: Playout, generation: int, text: str, samples: int, *marks: WordMark) -> Speech:
    speech = playout.open(generation, text)
    speech.add(ramp(samples), marks)
    speech.close()
    return speech


def test_audio_comes_out_as_it_went_in_in_pieces_of_any_size() -> None:
    playout = Playout()
    speech = playout.open(1)
    for start in range(0, 1000, 100):
        speech.add(ramp(100, start))
    taken = [playout.take(n) for n in (1, 99, 250, 0, 650, 10)]
    assert [part.size for part in taken] == [1, 99, 250, 0, 650, 0]
    assert np.array_equal(np.concatenate(taken), ramp(1000))


def test_a_later_speech_waits_for_an_earlier_one_whose_synthesis_is_slower() -> None:
    playout = Playout()
    first, second = playout.open(1), playout.open(1)
    second.add(ramp(100, 500))
    first.add(ramp(50))
    assert np.array_equal(playout.take(320), ramp(50))
    assert playout.take(320).size == 0
    first.add(ramp(50, 50))
    first.close()
    assert np.array_equal(playout.take(320), np.concatenate([ramp(50, 50), ramp(100, 500)]))


def test_a_generation_has_started_when_the_wire_took_its_first_sample() -> None:
    playout = Playout()
    said(playout, 1, "a", 640)
    said(playout, 1, "b", 320)
    said(playout, 2, "c", 640)
    assert playout.take(960).size == 960
    assert playout.progress(unplayed=960).started == ()
    assert playout.progress(unplayed=959).started == (1,)
    assert playout.take(640).size == 640
    assert playout.progress(unplayed=640).started == ()
    assert playout.progress(unplayed=320).started == (2,)
    assert not playout.progress(unplayed=1).idle
    assert playout.progress(unplayed=0) == playout.progress(unplayed=0)
    assert playout.progress(unplayed=0).idle


def test_it_is_not_idle_while_a_speech_may_still_give_audio() -> None:
    playout = Playout()
    assert playout.progress(0).idle
    speech = playout.open(1, "a")
    assert not playout.progress(0).idle
    speech.add(ramp(10))
    playout.take(10)
    assert not playout.progress(0).idle
    speech.close()
    assert playout.progress(0).idle


def test_a_speech_without_audio_starts_nothing_and_blocks_nothing() -> None:
    playout = Playout()
    said(playout, 1, "...", 0)
    said(playout, 2, "word", 10)
    playout.take(10)
    assert playout.progress(0).started == (2,)


def test_words_are_heard_when_half_of_them_was_played_by_exact_marks() -> None:
    text = "We are open until five."
    marks = [WordMark(0, 0), WordMark(3, 1000), WordMark(7, 3000), WordMark(12, 4000)]
    playout = Playout()
    said(playout, 4, text, 10_000, *marks, WordMark(18, 8000))
    playout.take(10_000)
    for played, words in (
        (499, ""),
        (500, "We"),
        (1999, "We"),
        (2000, "We are"),
        (3500, "We are open"),
        (6000, "We are open until"),
        (8999, "We are open until"),
        (9000, text),
        (10000, text),
    ):
        assert playout.heard(unplayed=10_000 - played) == (((4, words),) if words else ()), played


def test_marks_count_in_the_synthesizers_own_rate() -> None:
    playout = Playout()
    speech = playout.open(1, "one two", mark_rate=22050)
    speech.add(ramp(16000), [WordMark(0, 0), WordMark(4, 11025)])
    speech.close()
    playout.take(11_999)
    assert playout.heard() == ((1, "one"),)
    playout.take(1)
    assert playout.heard() == ((1, "one two"),)


def test_without_marks_words_are_placed_by_their_characters() -> None:
    playout = Playout()
    said(playout, 1, "aaa bbb ccc ddd", 1500)
    playout.take(600)
    assert playout.heard() == ((1, "aaa bbb"),)


def test_of_speech_that_is_not_synthesized_to_its_end_the_rest_is_estimated() -> None:
    playout = Playout()
    speech = playout.open(1, "aaa bbb ccc ddd")
    speech.add(ramp(4 * SAMPLES_PER_CHAR))
    playout.take(16000)
    assert playout.heard() == ((1, "aaa"),)


def test_text_can_follow_piece_by_piece_and_each_piece_begins_a_word() -> None:
    playout = Playout()
    speech = playout.open(3, "Hello.")
    speech.add_text("Good morning.")
    speech.add(ramp(2000), [WordMark(0, 0), WordMark(6, 1000), WordMark(11, 1500)])
    speech.close()
    playout.take(1250)
    assert speech.text == "Hello.Good morning."
    assert playout.heard() == ((3, "Hello.Good"),)


def test_samples_in_the_transport_are_not_heard_yet() -> None:
    playout = Playout()
    said(playout, 1, "one two", 2000, WordMark(0, 0), WordMark(4, 1000))
    playout.take(2000)
    assert playout.heard(unplayed=960) == ((1, "one"),)
    assert playout.heard() == ((1, "one two"),)


def test_an_interruption_keeps_what_was_heard_and_nothing_else() -> None:
    playout = Playout()
    said(playout, 7, "one two", 2000, WordMark(0, 0), WordMark(4, 1000))
    speaking = playout.open(7, "three four")
    speaking.add(ramp(1000), [WordMark(0, 0)])
    assert playout.take(2600).size == 2600
    playout.drop(discarded=960)
    assert speaking.dropped
    speaking.add(ramp(500))  # its synthesizer has not noticed yet
    assert playout.take(320).size == 0
    assert playout.progress(0).idle
    assert playout.queued() == 0
    assert playout.heard() == ((7, "one two"),)
    said(playout, 8, "next", 320)
    assert np.array_equal(playout.take(320), ramp(320))
    assert playout.heard() == ((7, "one two"), (8, "next"))
    assert playout.heard(since=8) == ((8, "next"),)


def test_dropping_old_generations_leaves_newer_ones() -> None:
    playout = Playout()
    said(playout, 1, "old", 500)
    said(playout, 2, "older than the newest", 500)
    newest = playout.open(3, "new")
    newest.add(ramp(100, 1000))
    playout.drop(generation=2)
    assert np.array_equal(playout.take(320), ramp(100, 1000))
    assert playout.progress(0).started == (3,)


def test_what_is_forgotten_is_not_reported_and_what_plays_is_not_forgotten() -> None:
    playout = Playout()
    said(playout, 1, "one", 100)
    playout.take(100)
    said(playout, 2, "two", 100)
    playout.progress(0)
    playout.forget(before=3)
    playout.take(100)
    assert playout.heard() == ((2, "two"),)


def test_audio_after_the_end_of_a_speech_is_an_error() -> None:
    speech = Playout().open(1)
    speech.close()
    speech.close()
    with pytest.raises(ValueError, match="closed"):
        speech.add(ramp(1))


def test_gain_moves_smoothly_to_its_target_and_back_to_the_very_samples() -> None:
    playout = Playout()
    speech = playout.open(1)
    speech.add(np.full(8000, 10_000, np.int16))
    assert np.all(playout.take(320) == 10_000)
    playout.set_gain(-20)
    down = np.concatenate([playout.take(100) for _ in range(10)]).astype(int)
    assert np.all(down[RAMP_SAMPLES:] == 1000)
    assert np.abs(np.diff(down)).max() <= 9000 / RAMP_SAMPLES + 1
    playout.set_gain(0)
    up = playout.take(RAMP_SAMPLES // 2).astype(int)
    playout.set_gain(-20)  # turned round half way: no step
    again = playout.take(RAMP_SAMPLES).astype(int)
    assert np.abs(np.diff([*up, *again])).max() <= 9000 / RAMP_SAMPLES + 1
    playout.set_gain(0)
    playout.take(RAMP_SAMPLES)
    assert np.all(playout.take(320) == 10_000)


def test_gain_cannot_wrap_around() -> None:
    playout = Playout()
    playout.set_gain(12)
    playout.open(1).add(np.array([32767, -32768] * 1000, np.int16))
    loud = playout.take(2000)
    assert (loud[-2:] == [32767, -32768]).all()
    assert np.array_equal(np.sign(loud), [1, -1] * 1000)


@given(
    text=st.text("ab  ,.é", max_size=40),
    marks=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6000)), max_size=8),
    closed=st.booleans(),
)
def test_more_samples_never_mean_fewer_words_and_words_are_never_cut(
    text: str, marks: list[tuple[int, int]], closed: bool
) -> None:
    speech = Playout().open(1, text)
    speech.add(ramp(5000), [WordMark(*mark) for mark in marks])
    if closed:
        speech.close()
    counts = [speech.chars_heard(samples) for samples in range(0, 5001, 250)]
    assert counts == sorted(counts)
    for count in counts:
        assert 0 <= count <= len(text)
        assert text[:count].split() == text.split()[: len(text[:count].split())]
    if closed:
        assert text[: counts[-1]].split() == text.split()


@dataclass
class Spoken:
    """A speech of the model: which numbers its samples are."""

    speech: Speech
    generation: int
    numbers: list[int]
    closed: bool = False


class PlayoutMachine(RuleBasedStateMachine):
    """The playout queue and a transport, against a plain list of numbered samples."""

    def __init__(self) -> None:
        super().__init__()
        self.playout = Playout()
        self.spoken: list[Spoken] = []
        self.transport: list[int] = []
        self.wire: list[int] = []
        self.next_number = 1
        self.generation = 1

    @rule(newer=st.booleans())
    def open(self, newer: bool) -> None:
        self.generation += newer
        speech = self.playout.open(self.generation, f"speech {len(self.spoken)}")
        self.spoken.append(Spoken(speech, self.generation, []))

    @precondition(lambda self: self.spoken)
    @rule(data=st.data(), samples=st.integers(0, 600))
    def add(self, data: st.DataObject, samples: int) -> None:
        spoken = data.draw(st.sampled_from(self.spoken))
        if spoken.closed and not spoken.speech.dropped:
            return
        numbers = range(self.next_number, self.next_number + samples)
        self.next_number += samples
        spoken.speech.add(np.array(numbers, np.int16))
        if not spoken.speech.dropped:
            spoken.numbers += numbers

    @precondition(lambda self: self.spoken)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        spoken = data.draw(st.sampled_from(self.spoken))
        spoken.speech.close()
        spoken.closed = True

    @rule(samples=st.integers(0, 1000))
    def take(self, samples: int) -> None:
        expected: list[int] = []
        for spoken in self.spoken:
            part = spoken.numbers[: samples - len(expected)]
            del spoken.numbers[: len(part)]
            expected += part
            if spoken.numbers or not (spoken.closed or spoken.speech.dropped):
                break
        assert self.playout.take(samples).tolist() == expected
        self.transport += expected

    @rule(samples=st.integers(0, 400))
    def play(self, samples: int) -> None:
        self.wire += self.transport[:samples]
        del self.transport[:samples]

    @rule(older_only=st.booleans())
    def drop(self, older_only: bool) -> None:
        limit = self.generation - 1 if older_only else self.generation
        self.playout.drop(limit if older_only else None, discarded=len(self.transport))
        self.transport.clear()
        for spoken in self.spoken:
            if spoken.generation <= limit and (spoken.numbers or not spoken.closed):
                assert spoken.speech.dropped
                spoken.numbers.clear()

    @invariant()
    def what_is_counted_agrees(self) -> None:
        assert self.playout.queued() == sum(len(spoken.numbers) for spoken in self.spoken)
        done = not self.transport and all(
            not spoken.numbers and (spoken.closed or spoken.speech.dropped)
            for spoken in self.spoken
        )
        assert self.playout.progress(len(self.transport)).idle == done
        assert self.playout._taken == len(self.wire) + len(self.transport)


TestPlayoutAgainstAModel = PlayoutMachine.TestCase
