# SPDX-License-Identifier: Apache-2.0
"""A caller for tests: it dials an agent, talks by a script, and measures what it hears.

    async with Caller(transport) as caller:
        result = await caller.call("sip:100@127.0.0.1:5060", turns)
    result.turns[0].answer_latency_s

It stands outside the box, as a person's telephone does: it shares nothing with the agent but the
wire, and its times are counted in samples sent and heard.
"""

from appliance.caller.caller import Caller
from appliance.caller.conversation import Timing
from appliance.caller.measure import Stats
from appliance.caller.results import CallResult, TurnResult, summarize
from appliance.caller.script import Script, ScriptError, TurnSpec, load_script
from appliance.caller.turns import PreparedTurn, prepare

__all__ = [
    "CallResult",
    "Caller",
    "PreparedTurn",
    "Script",
    "ScriptError",
    "Stats",
    "Timing",
    "TurnResult",
    "TurnSpec",
    "load_script",
    "prepare",
    "summarize",
]
