# SPDX-License-Identifier: Apache-2.0
"""The specification tells the truth: its examples decode, its kinds and topics are those of the code."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from appliance import wire
from appliance.wire import (
    KINDS,
    Ack,
    Batch,
    Desired,
    MalformedError,
    Message,
    Row,
    UnsupportedVersionError,
    encode_batch,
    judge,
    new_id,
    now_text,
    signing_bytes_of,
    topics,
    understand,
)
from appliance.wire.message import MAX_MESSAGE_BYTES

PAGE = (Path(__file__).parents[2] / "docs/hub/protocol.md").read_text()
EXAMPLES = re.findall(r"```json (\w+)\n(.*?)```", PAGE, re.DOTALL)
BOX = new_id()


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_each_example_decodes_with_all_its_fields(name: str, text: str) -> None:
    model: type[Message] = getattr(wire, name)
    message = model.decode(text.encode())
    assert set(json.loads(text)) <= set(type(message).model_fields)
    assert model.decode(message.encode()) == message


def test_the_rows_of_the_example_are_understood() -> None:
    batch = Batch.decode(dict(EXAMPLES)["Batch"].encode())
    assert [type(understand(row)) for row in batch.rows] == [KINDS[row.kind] for row in batch.rows]


def test_every_kind_is_specified_with_every_field_it_needs() -> None:
    lines = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `")}
    for kind, model in KINDS.items():
        needed = [name for name, field in model.model_fields.items() if field.is_required()]
        for name in needed:
            assert f"`{name}`" in lines[kind], f"{kind}: {name} is not specified"


def test_every_topic_is_specified() -> None:
    for what in (*topics.STREAMS, topics.PRESENCE):
        assert f"`{topics.up('BOX', what)}`" in PAGE
    for what in (topics.ACK, topics.DESIRED, topics.COMMAND, topics.REFUSAL):
        assert f"`{topics.down('BOX', what)}`" in PAGE


def test_a_topic_tells_the_box_and_nothing_else_is_taken_for_one() -> None:
    assert topics.source(topics.up(BOX, "calls")) == (BOX, "calls")
    assert topics.source(topics.subject(topics.up(BOX, "calls"))) == (BOX, "calls")
    for other in (f"b/{BOX}/down/ack", "b/../up/calls", f"b/{BOX}/up/calls/x", f"b/{BOX}/up/*"):
        assert topics.source(other) is None


# -- versions ----------------------------------------------------------------------------------------


def changed(message: Message, **fields: Any) -> bytes:
    return json.dumps({**json.loads(message.model_dump_json()), **fields}).encode()


def test_a_newer_minor_version_with_fields_unknown_here_is_read() -> None:
    ack = Ack(epoch=new_id(), stream="calls", seq=3)
    newer = Ack.decode(changed(ack, v="1.7", colour="blue"))
    assert (newer.seq, newer.v) == (3, "1.7")


def test_another_major_version_is_refused_by_name() -> None:
    ack = Ack(epoch=new_id(), stream="calls", seq=3)
    with pytest.raises(UnsupportedVersionError, match=r"2\.0 .* known major versions: 1"):
        Ack.decode(changed(ack, v="2.0", seq="another type altogether"))


def test_a_kind_or_stream_unknown_here_is_taken_whole() -> None:
    row = Row(seq=1, kind="call.sang", at=now_text(), data={"tune": [1, 2]})
    batch = Batch(epoch=new_id(), stream="weather", first=1, rows=(row,))
    (taken,) = judge(Batch.decode(batch.encode()), 0).rows
    assert taken.data == {"tune": [1, 2]}
    assert understand(taken) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"x\x9c",
        b"\xff\xfe",
        b'{"v": 1}',
        b'{"v": "1.0"}',
        b'{"v": "one"}',
        zlib.compress(b"{}")[:-3],
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_message_is_refused_and_nothing_worse(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        Batch.decode(payload)


def test_a_small_message_cannot_fill_the_memory() -> None:
    with pytest.raises(MalformedError, match="over"):
        Batch.decode(zlib.compress(b" " * (MAX_MESSAGE_BYTES + 1)))


def test_rows_that_are_not_consecutive_are_refused() -> None:
    row = {"seq": 7, "kind": "x", "at": now_text(), "data": {}}
    batch = Batch(epoch=new_id(), stream="calls", first=6)
    with pytest.raises(MalformedError, match="row 7 stands where 6 must"):
        Batch.decode(changed(batch, rows=[row]))


# -- bytes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 200])
def test_rows_from_the_disk_are_sent_as_if_they_had_been_parsed(count: int) -> None:
    head = Batch(epoch=new_id(), stream="calls", first=5)
    data = {"text": 'Grüße, "Welt" \\ \u2028 😀', "n": 1}
    at = now_text()
    texts = [(5 + n, "call.event", at, json.dumps(data)) for n in range(count)]
    batch = Batch.decode(encode_batch(head, texts))
    assert batch.rows == tuple(Row(seq=s, kind=k, at=a, data=data) for s, k, a, _ in texts)


def test_long_messages_are_deflated() -> None:
    head = Batch(epoch=new_id(), stream="calls", first=1)
    rows = [(n, "call.event", now_text(), '{"text": "the same words"}') for n in range(1, 200)]
    payload = encode_batch(head, rows)
    assert payload[:1] == b"\x78"
    assert len(payload) < 2000


def test_a_signature_covers_fields_that_are_not_known_here() -> None:
    desired = Desired(version=2, bundle_url="/v1/box/bundle", sha256="0" * 64)
    assert signing_bytes_of(desired.encode()) == desired.signing_bytes()
    newer = changed(desired, colour="blue", signature="c2ln")
    assert b"colour" in signing_bytes_of(newer)
    assert b"c2ln" not in signing_bytes_of(newer)
