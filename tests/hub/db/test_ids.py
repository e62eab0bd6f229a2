# SPDX-License-Identifier: Apache-2.0
"""UUIDv7 identifiers."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_hub.db.ids import derived, first_of, moment_of, uuid7


def test_an_id_has_version_and_variant_of_the_rfc_and_tells_its_time() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made = uuid7()

    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert before <= moment_of(made) <= datetime.now(UTC) + timedelta(milliseconds=1)


def test_the_example_of_the_rfc_is_read_as_the_rfc_says() -> None:
    example = UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")  # RFC 9562, A.6

    assert moment_of(example) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def test_ids_of_one_thread_rise_and_those_of_many_never_repeat() -> None:
    made: list[list[UUID]] = [[] for _ in range(4)]

    def make(ids: list[UUID]) -> None:
        ids.extend(uuid7() for _ in range(2000))

    threads = [threading.Thread(target=make, args=(ids,)) for ids in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for ids in made:
        assert ids == sorted(ids)
    assert len({id_ for ids in made for id_ in ids}) == 8000


def test_the_time_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="not a UUIDv7"):
        moment_of(uuid4())


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_a_derived_id_is_the_same_for_the_same_parts_only(one: list[str], other: list[str]) -> None:
    parent = UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")

    assert (derived(parent, *one) == derived(parent, *other)) == (one == other)
    assert derived(parent, *one).version == 7
    assert moment_of(derived(parent, *one)) == moment_of(parent)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_boundary_of_a_moment_lies_below_all_its_ids(moment: datetime) -> None:
    boundary = first_of(moment)
    same_millisecond = derived(UUID(int=boundary.int | 7 << 76 | 0b10 << 62), "x")

    assert boundary < same_millisecond < first_of(moment + timedelta(milliseconds=1))
