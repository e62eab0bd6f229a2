# SPDX-License-Identifier: Apache-2.0
"""The state machine of a new release: proven by its first calls, or given up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.sync.trial import (
    CALLS,
    FAILURES,
    Release,
    State,
    call_ended,
    is_new,
    owned,
    refused,
    rolled_back,
    switched,
)

ONE, TWO, THREE = (Release(version=n, sha256=f"{n:064x}") for n in (1, 2, 3))


def proven(state: State, release: Release) -> State:
    state = switched(state, release)
    for _ in range(CALLS):
        state = call_ended(state, release, failed=False)
    return state


def test_a_release_is_proven_by_its_first_calls() -> None:
    state = proven(State(), ONE)
    assert (state.running, state.good, state.trial, state.status) == (ONE, ONE, None, "applied")


def test_a_release_whose_first_calls_fail_gives_way_to_the_proven_one() -> None:
    state = switched(proven(State(), ONE), TWO)
    for _ in range(FAILURES):
        state = call_ended(state, TWO, failed=True)
    assert (state.running, state.good, state.status) == (ONE, ONE, "rolled_back")
    assert state.errors
    assert not is_new(state, 2)
    assert is_new(state, 3)


def test_one_failed_call_is_no_reason_to_go_back() -> None:
    state = call_ended(switched(State(), ONE), ONE, failed=True)
    assert state.running == ONE


def test_failures_after_the_trial_do_not_bring_the_old_one_back() -> None:
    state = proven(proven(State(), ONE), TWO)
    for _ in range(10):
        state = call_ended(state, TWO, failed=True)
    assert state.running == TWO


def test_calls_that_began_before_the_switch_say_nothing_about_the_new_release() -> None:
    state = switched(proven(State(), ONE), TWO)
    for _ in range(10):
        state = call_ended(state, ONE, failed=True)
    assert state.running == TWO


def test_a_release_that_was_never_proven_is_not_gone_back_to() -> None:
    state = switched(switched(proven(State(), ONE), TWO), THREE)
    assert rolled_back(state, "why").running == ONE


def test_the_first_release_of_all_gives_way_to_the_boxs_own_agents() -> None:
    state = rolled_back(switched(State(), ONE), "why")
    assert (state.running, state.good) == (None, None)


def test_a_proven_release_that_cannot_be_read_any_more_is_not_gone_back_to() -> None:
    assert rolled_back(proven(State(), ONE), "damaged").running is None


def test_a_refused_version_changes_nothing_of_what_runs() -> None:
    state = refused(proven(State(), ONE), 2, ("bad",))
    assert (state.running, state.good, state.seen, state.status) == (ONE, ONE, 2, "refused")


def test_another_hub_counts_anew_while_what_runs_goes_on() -> None:
    state = owned(proven(owned(State(), "a"), THREE), "b")
    assert (state.running, state.seen) == (THREE, 0)
    assert owned(state, "b") == state


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("osrfx"), st.booleans()), max_size=40))
def test_whatever_happens_what_runs_was_switched_to_and_no_version_comes_twice(
    steps: list[tuple[str, bool]],
) -> None:
    state, version = State(), 0
    known: set[Release | None] = {None}
    for step, failed in steps:
        before = state
        match step:
            case "s":
                version += 1
                assert is_new(state, version)
                release = Release(version=version, sha256=f"{version:064x}")
                state = switched(state, release)
                known.add(release)
            case "r":
                version += 1
                state = refused(state, version, ("no",))
                assert state.running == before.running
            case "f" if state.running is not None:
                state = call_ended(state, state.running, failed=failed)
            case "x":
                state = rolled_back(state, "damaged")
                assert state.trial is None
            case _:
                pass
        assert state.seen >= before.seen
        assert not is_new(state, version)
        assert {state.running, state.good} <= known
        assert State.model_validate_json(state.model_dump_json()) == state
