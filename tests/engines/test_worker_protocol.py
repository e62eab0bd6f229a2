# SPDX-License-Identifier: Apache-2.0
"""What crosses to a worker comes out as it went in; the generated code is what the schema says."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.worker import codec
from appliance.engines.worker import engine_pb2 as pb
from appliance.plugin import (
    EmbedderCapabilities,
    Kind,
    LlmCapabilities,
    LlmRequest,
    Message,
    ReplyPace,
    Role,
    SpeechChunk,
    SttCapabilities,
    SttRequest,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolSpec,
    Transcript,
    TtsCapabilities,
    TtsRequest,
    WordMark,
)
from tests.lab.process import ROOT

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
calls = st.builds(ToolCall, text, text, text)
messages = st.builds(
    Message, st.sampled_from(Role), text, st.lists(calls, max_size=2).map(tuple), text, text
)
tools = st.builds(
    ToolSpec, text, text, st.dictionaries(text, st.integers() | text | st.booleans(), max_size=3)
)
maybe_text = st.none() | text
fractions = st.floats(0, 1)


def test_the_generated_code_is_what_the_schema_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "protos.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@given(
    st.builds(
        LlmRequest,
        st.lists(messages, max_size=3).map(tuple),
        st.lists(tools, max_size=2).map(tuple),
        st.integers(0, 2**31),
        fractions,
        st.none() | st.integers(-(2**62), 2**62),
        text,
    )
)
def test_a_request_for_a_reply_survives(request: LlmRequest) -> None:
    sent = codec.llm_request(request).SerializeToString()
    assert codec.llm_request_of(pb.ReplyInput.FromString(sent)) == request


def test_a_pace_survives_and_its_absence_too() -> None:
    pace = ReplyPace(committed=False)
    pace.played(1.5)
    found = codec.llm_request_of(codec.llm_request(LlmRequest((), pace=pace))).pace
    assert found is not None
    assert (found.committed, found.unplayed_s) == (False, 1.5)
    assert codec.llm_request_of(codec.llm_request(LlmRequest(()))).pace is None


@given(st.builds(TextDelta, text) | calls | st.builds(TokenUsage, *[st.integers(0, 2**31)] * 3))
def test_a_delta_survives(delta: Any) -> None:
    assert codec.delta_of(pb.ReplyDelta.FromString(codec.delta(delta).SerializeToString())) == delta


def test_an_empty_delta_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        codec.delta_of(pb.ReplyDelta())


@given(
    st.builds(Transcript, text, st.booleans(), fractions, st.none() | fractions, maybe_text),
    st.builds(SttRequest, text, maybe_text, st.lists(text, max_size=3).map(tuple)),
    st.builds(TtsRequest, text, maybe_text, maybe_text, st.floats(0.5, 2)),
)
def test_transcripts_and_speech_requests_survive(
    transcript: Transcript, listen: SttRequest, speak: TtsRequest
) -> None:
    assert codec.transcript_of(codec.transcript(transcript)) == transcript
    assert codec.stt_request_of(codec.stt_request(listen)) == listen
    assert codec.tts_request_of(codec.tts_request(speak)) == speak


def test_long_audio_crosses_in_pieces_with_its_marks_on_the_first() -> None:
    pcm = np.arange(1_500_000, dtype=np.int64).astype(np.int16)
    sent = codec.speech(SpeechChunk(pcm, (WordMark(3, 7),)))
    assert len(sent) == 3
    chunks = [codec.speech_of(message) for message in sent]
    assert np.array_equal(np.concatenate([chunk.pcm for chunk in chunks]), pcm)
    assert [chunk.marks for chunk in chunks] == [(WordMark(3, 7),), (), ()]
    chunks[0].pcm[0] = 1  # whoever gets it may write to it


@pytest.mark.parametrize(
    ("kind", "capabilities"),
    [
        (Kind.SPEECH_TO_TEXT, SttCapabilities((8000, 16000), True, frozenset({"nl"}), True, False)),
        (Kind.SPEECH_TO_TEXT, SttCapabilities()),
        (Kind.LANGUAGE_MODEL, LlmCapabilities(False, False, 4096, False)),
        (Kind.TEXT_TO_SPEECH, TtsCapabilities(22050, True, True, frozenset(), ("b", "a"))),
        (Kind.EMBEDDER, EmbedderCapabilities(384)),
    ],
)
def test_capabilities_survive(kind: Kind, capabilities: Any) -> None:
    found = codec.description(kind, "x", capabilities)
    assert codec.capabilities(found) == capabilities
