# SPDX-License-Identifier: Apache-2.0
"""The whole box behind a real Asterisk: a phone of the PBX calls the agent and talks with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.caller import Caller, CallResult, Script, prepare
from appliance.plugin import BuildContext, Kind
from appliance.plugin.manager import PluginManager
from appliance.store import STORE_FILE, Reader
from tests.lab.process import DEMO_CONFIG, BoxProcess, espeak
from tests.telephony.asterisk_lab import Asterisk
from tests.telephony.peers import free_port

pytestmark = pytest.mark.slow

CONVERSATION = [
    {"say": "Hello, are you open on Saturday?"},
    {"dtmf": "42#", "expect_reply": False},
    {"hold": 2.0},
    {"say": "How much is a cleaning?"},
    {"say": "That's all, thank you. Goodbye."},
]
TRUNK = """
[transport.line.trunks.extension]
registrars = ["sip:127.0.0.1:{port}"]
username = "200"
password = "change-me-200"
"""


@pytest.fixture
async def pbx() -> AsyncIterator[Asterisk]:
    made = Asterisk()
    yield made
    await made.stop()


async def call_through(pbx: Asterisk, codec: str, record: Path) -> CallResult:
    """Register as phone 100 of the PBX, dial 200, and hold the conversation."""
    voice = espeak()
    turns = await prepare(
        Script.model_validate({"voice": "en-us+f3", "turns": CONVERSATION}), voice
    )
    await voice.aclose()
    settings = {
        "bind": "127.0.0.1",
        "udp_port": free_port(),
        "tcp_port": None,
        "codecs": [codec],
        "trunks": {
            "pbx": {
                "registrars": [f"sip:127.0.0.1:{pbx.port}"],
                "username": "100",
                "password": "change-me-100",
            }
        },
    }
    offer = PluginManager.discover(["sip"]).offer(Kind.TRANSPORT, "sip")
    context = BuildContext(Path, record.parent)
    async with Caller(offer.build(offer.settings.model_validate(settings), context)) as caller:
        await pbx.shows("pjsip show contacts", "100/sip:")
        return await caller.call("200", turns, trunk="pbx", record=record)


@pytest.mark.parametrize("codec", ["PCMU", "G722"])
async def test_a_phone_of_the_pbx_talks_with_the_agent_presses_keys_and_holds(
    pbx: Asterisk, tmp_path: Path, codec: str
) -> None:
    await pbx.start()
    config = tmp_path / "appliance.toml"
    text = DEMO_CONFIG.read_text() + f'codecs = ["{codec}"]\n' + TRUNK.format(port=pbx.port)
    config.write_text(text.replace('"../', f'"{DEMO_CONFIG.parent}/../'))
    with BoxProcess(tmp_path / "box", config) as box:
        await pbx.shows("pjsip show contacts", "200/sip:")
        result = await call_through(pbx, codec, tmp_path / "call.wav")
    assert result.answered
    assert result.codec == codec
    assert not [turn.text for turn in result.turns if turn.reply_missing]
    assert result.cause == "remote_hangup", "the agent ends the call"
    with Reader(box.data / STORE_FILE) as store:
        [call] = store.calls()
        events = store.events(call.id)
        said = {line.text for line in store.transcript(call.id) if line.who == "agent"}
    kinds = [event.kind for event in events]
    assert "".join(e.data["digit"] for e in events if e.kind == "dtmf") == "42#"
    assert [e.data["held"] for e in events if e.kind == "hold"] == [True, False]
    assert kinds.count("turn.committed") == 3
    assert any("Saturday" in text and "ten to one" in text for text in said), said
    assert any("sixty dollars" in text for text in said), said
    assert (call.trunk, call.cause) == ("extension", "local_hangup")
