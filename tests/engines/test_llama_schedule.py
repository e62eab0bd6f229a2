# SPDX-License-Identifier: Apache-2.0
"""What runs in a step: random replies against the pure choice, and whole loads driven without a clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from trunkline_llama_cpp.schedule import PATIENCE, Candidate, Urgency, choose, urgency

BATCH, CHUNK = 40, 8
FIRST, DRY, MORE, GUESS, PAUSED = Urgency


def writer(of: Urgency, arrival: int = 0, passed_over: int = 0) -> Candidate:
    return Candidate(of, arrival, 1, writing=True, passed_over=passed_over)


def prompt(of: Urgency, unread: int, arrival: int = 0, passed_over: int = 0) -> Candidate:
    return Candidate(of, arrival, unread, writing=False, passed_over=passed_over)


@st.composite
def replies(draw: st.DrawFn) -> list[Candidate]:
    """Up to 16 replies; so all that write fit into a step."""
    writes = draw(st.lists(st.booleans(), max_size=16))
    return [
        Candidate(
            draw(st.sampled_from(list(Urgency))),
            arrival,
            1 if writing else draw(st.integers(1, 60)),
            writing,
            draw(st.integers(0, PATIENCE + 2)),
        )
        for arrival, writing in enumerate(writes)
    ]


# What a reply's class is


@pytest.mark.parametrize(
    ("committed", "unplayed_s", "spoke", "written", "expected"),
    [
        (True, 0.0, False, 0, FIRST),
        (True, 0.0, False, 23, FIRST),
        (True, 0.0, False, 24, DRY),  # its clause is written: the synthesizer is what it waits for
        (True, 0.0, True, 8, DRY),
        (True, 0.5, True, 8, DRY),
        (True, 0.6, True, 8, MORE),
        (True, 1.5, True, 8, MORE),
        (True, 1.6, True, 8, PAUSED),
        (False, 0.0, False, 0, GUESS),
        (False, 1.2, True, 8, GUESS),
        (False, 1.6, True, 8, PAUSED),
        (True, None, False, 0, FIRST),  # nobody tells its pace: full speed
        (True, None, False, 200, DRY),
    ],
)
def test_a_reply_is_as_urgent_as_what_its_caller_hears(
    committed: bool, unplayed_s: float | None, spoke: bool, written: int, expected: Urgency
) -> None:
    found = urgency(committed=committed, unplayed_s=unplayed_s, spoke=spoke, written=written)
    assert found is expected


# What is true of every step


@given(replies(), st.booleans())
@example([prompt(DRY, 9), writer(GUESS, 1)], False)
def test_a_step_is_never_larger_than_it_may_be(all_: list[Candidate], others_wait: bool) -> None:
    shares = choose(all_, batch=BATCH, chunk=CHUNK, others_wait=others_wait)
    assert sum(shares) <= BATCH
    assert all(0 <= share <= one.unread for share, one in zip(shares, all_, strict=True))
    if any(share for share, one in zip(shares, all_, strict=True) if one.writing):
        assert sum(s for s, one in zip(shares, all_, strict=True) if not one.writing) <= CHUNK


@given(replies(), st.booleans())
def test_paused_replies_get_nothing_and_urgent_ones_that_write_always_a_token(
    all_: list[Candidate], others_wait: bool
) -> None:
    shares = choose(all_, batch=BATCH, chunk=CHUNK, others_wait=others_wait)
    for share, one in zip(shares, all_, strict=True):
        if one.urgency is PAUSED:
            assert share == 0
        elif one.urgency in {FIRST, DRY} and one.writing:
            assert share == 1


@given(replies(), st.booleans())
def test_speculation_gets_nothing_while_committed_work_waits(
    all_: list[Candidate], others_wait: bool
) -> None:
    shares = choose(all_, batch=BATCH, chunk=CHUNK, others_wait=others_wait)
    left = [
        one
        for share, one in zip(shares, all_, strict=True)
        if one.urgency <= MORE and share < one.unread
    ]
    if left or others_wait or any(one.urgency is FIRST for one in all_):
        assert not any(s for s, one in zip(shares, all_, strict=True) if one.urgency is GUESS)


@given(replies())
def test_somebody_runs_whenever_somebody_can(all_: list[Candidate]) -> None:
    shares = choose(all_, batch=BATCH, chunk=CHUNK)
    assert bool(sum(shares)) == any(one.urgency is not PAUSED for one in all_)


@given(replies())
def test_a_more_urgent_prompt_is_never_short_while_a_lesser_one_is_read(
    all_: list[Candidate],
) -> None:
    shares = choose(all_, batch=BATCH, chunk=CHUNK)
    prompts = [(one, share) for one, share in zip(all_, shares, strict=True) if not one.writing]
    for one, share in prompts:
        short = one.urgency is not PAUSED and share < one.unread
        lesser = [s for other, s in prompts if other.rank() > one.rank()]
        assert not (short and any(lesser))


@given(replies(), st.randoms())
def test_the_order_in_which_replies_are_listed_does_not_matter(
    all_: list[Candidate], random: object
) -> None:
    mixed = list(all_)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    one = dict(zip(all_, choose(all_, batch=BATCH, chunk=CHUNK), strict=True))
    assert one == dict(zip(mixed, choose(mixed, batch=BATCH, chunk=CHUNK), strict=True))


# Cases


def test_every_reply_being_written_takes_a_token_and_prompts_share_the_chunk_in_order() -> None:
    all_ = [writer(DRY, 0), prompt(FIRST, 5, 3), prompt(FIRST, 5, 2), writer(FIRST, 1)]
    assert choose(all_, batch=BATCH, chunk=CHUNK) == [1, 3, 5, 1]


def test_while_nobody_is_being_written_prompts_take_the_whole_step() -> None:
    assert choose([prompt(FIRST, 30), prompt(FIRST, 30, 1)], batch=BATCH, chunk=CHUNK) == [30, 10]


def test_a_continuation_with_speech_ahead_leaves_the_step_to_a_first_clause() -> None:
    all_ = [writer(MORE), writer(FIRST, 1), writer(DRY, 2)]
    assert choose(all_, batch=BATCH, chunk=CHUNK) == [0, 1, 1]
    assert choose(all_[::2], batch=BATCH, chunk=CHUNK) == [1, 1]


def test_a_committed_reply_that_was_passed_over_for_long_is_served() -> None:
    all_ = [writer(MORE, 0, PATIENCE), writer(FIRST, 1), prompt(FIRST, 90, 2)]
    assert choose(all_, batch=BATCH, chunk=CHUNK) == [1, 1, 8]
    late = [prompt(FIRST, 90, 2), prompt(DRY, 4, 1, PATIENCE)]
    assert choose(late, batch=BATCH, chunk=CHUNK) == [36, 4]


def test_speculation_runs_beside_continuations_and_no_wider_than_a_chunk() -> None:
    all_ = [writer(DRY), writer(GUESS, 1), prompt(GUESS, 30, 2)]
    assert choose(all_, batch=BATCH, chunk=CHUNK) == [1, 1, 8]
    # Alone too: who commits in the meantime waits for one piece, not for a whole batch.
    assert choose([prompt(GUESS, 30)], batch=BATCH, chunk=CHUNK) == [8]


# Loads


def run(all_: list[Candidate], tokens: list[int], limit: int) -> list[int]:
    """Step until all replies have written their tokens; return the step in which each ended, 0: never."""
    ended = [0] * len(all_)
    state = list(zip(all_, tokens, strict=True))
    for step in range(1, limit + 1):
        live = [index for index, end in enumerate(ended) if not end]
        if not live:
            break
        shares = choose([state[index][0] for index in live], batch=BATCH, chunk=CHUNK)
        for index, share in zip(live, shares, strict=True):
            one, left = state[index]
            unread = one.unread - share
            if not share:
                state[index] = (replace(one, passed_over=one.passed_over + 1), left)
            elif unread:
                state[index] = (replace(one, unread=unread, passed_over=0), left)
            else:
                state[index] = (replace(one, unread=1, writing=True, passed_over=0), left - 1)
                ended[index] = step if left == 1 else 0
    return ended


@given(
    st.lists(
        st.tuples(
            st.sampled_from([FIRST, DRY, MORE, GUESS]), st.integers(1, 60), st.integers(1, 9)
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whoever_can_run_ends_and_speculation_last(
    drawn: list[tuple[Urgency, int, int]],
) -> None:
    all_ = [prompt(of, unread, n) for n, (of, unread, _) in enumerate(drawn)]
    ended = run(all_, [tokens for _, _, tokens in drawn], 2000)
    assert all(ended)
    by_class = {
        of: [end for one, end in zip(all_, ended, strict=True) if one.urgency is of]
        for of in Urgency
    }
    if by_class[GUESS] and by_class[FIRST]:
        assert max(by_class[FIRST]) < min(by_class[GUESS])


@pytest.mark.parametrize("of", [DRY, MORE])
def test_no_stream_of_new_callers_starves_a_committed_reply(of: Urgency) -> None:
    """Each step one more caller comes with a prompt as long as a step can read."""
    old = prompt(of, 20, 0)
    queue: list[Candidate] = []
    for step in range(1, 10_000):
        queue.append(prompt(FIRST, BATCH, step))
        shares = choose([old, *queue], batch=BATCH, chunk=CHUNK)
        unread = old.unread - shares[0]
        if not unread:
            break
        old = replace(old, unread=unread, passed_over=0 if shares[0] else old.passed_over + 1)
        left = [
            replace(one, unread=one.unread - s)
            for one, s in zip(queue, shares[1:], strict=True)
            if s < one.unread
        ]
        queue = left
    assert step <= PATIENCE + 1
