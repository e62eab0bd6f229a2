# SPDX-License-Identifier: Apache-2.0
"""A box whose media plane is real and whose engines are stubs, in a process of its own.

Real: the SIP transport, the switchboard, the call core and shell, Silero, the store. Stubs: recognizer,
model and voice, which cost next to nothing. So what the process uses is what the media plane uses.

It talks JSON lines: it prints `{"ready": {...}}`; on `stats` it prints counters; on `quit` it ends.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from appliance import logs
from appliance.box import SWITCH_INTERVAL_S
from appliance.call.agent import Agent
from appliance.call.log import Event
from appliance.call.shell import CallEngines
from appliance.call.switchboard import Switchboard
from appliance.call.toolbox import ToolBox
from appliance.engines.chain import (
    Health,
    LanguageModelChain,
    Member,
    SpeechToTextChain,
    TextToSpeechChain,
)
from appliance.plugin import BuildContext, Kind
from appliance.plugin.manager import PluginManager
from appliance.store import Store
from tests.call import fakes, sim


class StubDesk:
    """One agent that talks for ever."""

    def __init__(self, greeting: str) -> None:
        clock = asyncio.get_running_loop().time
        timing = {"barge_in": False}
        self.agent = sim.agent(greeting=greeting, turn_taking=timing)
        self.engines = CallEngines(
            SpeechToTextChain(Health([Member("ears", fakes.LevelRecognizer())], clock)),
            LanguageModelChain(Health([Member("mind", fakes.always(greeting))], clock)),
            TextToSpeechChain(Health([Member("voice", fakes.ToneVoice())], clock)),
        )

    def agent_for(self, called: str) -> Agent | None:
        return self.agent

    def engines_for(self, agent: Agent) -> CallEngines:
        return self.engines

    def version_id(self, agent: Agent) -> str:
        return ""

    def toolbox(self, agent: Agent, caller: str) -> ToolBox:
        return ToolBox([])


class Counted:
    """A voice activity detector that counts what it is given."""

    def __init__(self, vad: Any) -> None:
        self.capabilities = vad.capabilities
        self.open = vad.open
        self.aclose = vad.aclose
        self._vad = vad
        self.windows = 0
        self.speech = 0

    def score(self, states: Any, windows: Any) -> Any:
        scores = self._vad.score(states, windows)
        self.windows += len(states)
        self.speech += int((scores > 0.5).sum())
        return scores


def _no_models(name: str) -> Path:
    raise FileNotFoundError(name)


def _stats(board: Switchboard) -> dict[str, Any]:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
    return {
        "calls": board.active,
        "tasks": len(asyncio.all_tasks()),
        "python_threads": threading.active_count(),
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "rss_kib": int(rss),
        "objects": len(gc.get_objects()),
    }


async def main(settings: dict[str, Any], words: int) -> None:
    """Run until `quit` or the end of standard input."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    logs.setup("error", "console")
    plugins = PluginManager.discover()
    with tempfile.TemporaryDirectory() as folder:
        context = BuildContext(_no_models, Path(folder))
        vad_offer = plugins.offer(Kind.VOICE_ACTIVITY, "silero")
        vad = Counted(vad_offer.build(vad_offer.settings(), context))
        sip_offer = plugins.offer(Kind.TRANSPORT, "sip")
        sip = sip_offer.build(sip_offer.settings.model_validate(settings), context)
        store = Store.open(Path(folder) / "box.db")
        spoken = 0

        def listen(_: str, event: Event) -> None:
            nonlocal spoken
            spoken += event.kind == "speak.started"

        board = Switchboard(
            StubDesk(" ".join(["One two three four five."] * (words // 5))),
            vad,
            store,
            max_calls=10_000,
            listen=listen,
            clock=asyncio.get_running_loop().time,
        )
        await sip.start(board)
        status = sip.status()
        _say(
            {
                "ready": {
                    "listening": status.listening,
                    "capacity": status.capacity,
                    "library": status.library,
                }
            }
        )
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while (line := (await reader.readline()).decode().strip()) and line != "quit":
            heard = {"windows": vad.windows, "speech_windows": vad.speech, "spoken": spoken}
            _say({**_stats(board), **heard, "counters": dict(sip.status().counters)})
        await board.aclose()
        await sip.aclose()
        await vad.aclose()
        await store.aclose()


def _say(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), int(sys.argv[2])))
