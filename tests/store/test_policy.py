# SPDX-License-Identifier: Apache-2.0
"""What a site keeps to itself is in no row of the outbox; the box's own tables have everything."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Literal

import pytest

from appliance.store import Event, Policy, Store
from tests.store.test_outbox import kinds, rows

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
CALLER, SAID = "sip:+4930123456@pbx.example", "my card is 4111 1111, mail emma@example.com"
Choice = Literal["send", "redact", "stay"]


async def call(path: Path, policy: Policy) -> Store:
    """Make a call with everything in it that a site may want to keep."""
    store = Store.open(path, outbox=True, policy=policy)
    store.begin_call("c1", agent="desk", started_at=NOON, caller=CALLER, called="100")
    said = {"turn": 3, "text": SAID, "cause": "x", "words": [{"w": "4111", "at": 900}]}
    store.append("c1", [Event("c1", 0, 900, "turn.committed", said)])
    await store.book(
        name="Emma 7", on=date(2026, 3, 6), at=time(9), call_id="c1", idempotency_key="k"
    )
    store.record_usage("c1", provider="p", kind="prompt", unit="tokens", quantity=7)
    store.end_call("c1", cause="caller", ended_at=NOON)
    await store.sync()
    return store


@pytest.mark.parametrize("choice", ["redact", "stay"])
async def test_no_trace_of_words_or_parties_is_in_the_outbox(
    tmp_path: Path, choice: Choice
) -> None:
    store = await call(tmp_path / "box.db", Policy(choice, choice))
    with closing(sqlite3.connect(store.path)) as db:
        text = str(db.execute("SELECT group_concat(data) FROM outbox").fetchone()[0])
        for secret in ("4111", "emma", "4930", "0123456"):
            assert secret not in text
        own = str(db.execute("SELECT group_concat(data) FROM events").fetchone()[0])
        assert SAID in own
    assert store.calls()[0].caller == CALLER
    await store.aclose()


async def test_what_stays_is_not_written_and_what_names_nobody_always_goes(
    tmp_path: Path,
) -> None:
    store = await call(tmp_path / "box.db", Policy("stay", "stay"))
    assert kinds(store) == ["call.began", "call.event", "booking", "usage", "call.ended"]
    data = {kind: data for _, kind, data in rows(store)}
    assert (data["call.began"]["caller"], data["call.began"]["agent"]) == ("", "desk")
    event = data["call.event"]
    assert event["kind"] == "turn.committed"
    assert event["data"] == {"turn": 3, "text": "", "cause": "x", "words": [{"w": "", "at": 900}]}
    assert data["usage"]["quantity"] == 7
    assert store.kept_back == {"metadata.stay": 1, "transcript.stay": 3}
    await store.aclose()


async def test_what_is_redacted_is_still_of_use(tmp_path: Path) -> None:
    store = await call(tmp_path / "box.db", Policy("redact", "redact"))
    data = {kind: data for _, kind, data in rows(store)}
    assert data["call.began"]["caller"] == "sip:+********56@pbx.example"
    assert data["call.turn"]["text"] == "my card is #### ####, mail [e-mail]"
    assert data["call.event"]["data"]["turn"] == 3
    assert store.kept_back == {"metadata.redact": 1, "transcript.redact": 3}
    await store.aclose()


async def test_by_default_everything_goes_and_nothing_is_counted(tmp_path: Path) -> None:
    store = await call(tmp_path / "box.db", Policy())
    data = {kind: data for _, kind, data in rows(store)}
    assert data["call.began"]["caller"] == CALLER
    assert data["call.turn"]["text"] == SAID
    assert store.kept_back == {}
    await store.aclose()
