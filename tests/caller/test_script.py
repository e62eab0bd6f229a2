# SPDX-License-Identifier: Apache-2.0
"""Scripts: what they may say, and how mistakes are reported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from appliance.audio import wav
from appliance.caller import Script, ScriptError, TurnSpec, load_script, prepare
from appliance.plugin import SpeechChunk, TtsCapabilities, TtsRequest
from tests.caller.lab import tone


class Hummer:
    """A synthesizer that hums 10 ms a character at 8 kHz and remembers how it was asked."""

    capabilities = TtsCapabilities(sample_rate=8000)

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, float]] = []

    async def speak(
        self, text: AsyncIterator[str], request: TtsRequest
    ) -> AsyncIterator[SpeechChunk]:
        async for clause in text:
            self.asked.append((clause, request.voice, request.speed))
            yield SpeechChunk(tone(80 * len(clause)))

    async def aclose(self) -> None:
        pass


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


async def test_a_script_is_read_and_its_audio_made_beforehand(tmp_path: Path) -> None:
    wav.write(tmp_path / "hello.wav", np.stack([tone(4000)] * 2, axis=1), 8000)
    path = write(
        tmp_path / "script.yaml",
        """
voice: en-gb
turns:
  - say: Hello there.
  - {say: Wait., voice: en-us, speed: 1.2, interrupt_after_s: 1.5}
  - wav: hello.wav
  - dtmf: '12#'
  - wait: 3
""",
    )
    hummer = Hummer()
    turns = await prepare(load_script(path), hummer)
    assert hummer.asked == [("Hello there.", "en-gb", 1.0), ("Wait.", "en-us", 1.2)]
    assert [turn.kind for turn in turns] == ["say", "say", "wav", "dtmf", "wait"]
    assert [turn.text for turn in turns] == ["Hello there.", "Wait.", "hello.wav", "12#", "3 s"]
    assert [turn.expect_reply for turn in turns] == [True, True, True, True, False]
    assert turns[0].pcm.size == pytest.approx(12 * 160, abs=2)
    assert turns[1].interrupt_after_s == 1.5
    assert turns[2].pcm.size == pytest.approx(8000, abs=2)
    assert turns[3].digits == "12#"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {say: a, wav: b.wav}", r"script.yaml: turns.0: .*has say and wav"),
        ("- {pause_s: 1}", r"turns.0: .*this one has none"),
        ("- {dtmf: 12x}", r"turns.0.dtmf"),
        ("- {says: hello}", r"turns.0.says"),
        ("turns: [\nnonsense: {", r"script.yaml:\d+: not valid YAML"),
    ],
)
def test_a_wrong_script_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ScriptError, match=message):
        load_script(write(tmp_path / "script.yaml", text))


async def test_audio_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="no synthesizer"):
        await prepare(Script(turns=(TurnSpec(say="Hello."),)), None)
    with pytest.raises(ScriptError, match=r"none.wav cannot be played"):
        await prepare(Script(turns=(TurnSpec(wav=tmp_path / "none.wav"),)), None)
    with pytest.raises(ScriptError, match="cannot be read"):
        load_script(tmp_path / "none.yaml")
