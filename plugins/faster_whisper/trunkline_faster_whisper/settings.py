# SPDX-License-Identifier: Apache-2.0
"""Settings of the `faster_whisper` recognizer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from appliance.plugin import Settings


class FasterWhisperSettings(Settings):
    """Settings of the `faster_whisper` recognizer."""

    model: str = Field(
        default="starter/asr",
        description="Folder with a Whisper model in CTranslate2 format (a path, or a part of a model pack).",
    )
    device: Literal["cpu", "cuda", "auto"] = Field(
        default="cpu", description="Where the model computes."
    )
    compute_type: str = Field(
        default="default",
        description="Number format of the computation (`int8`, `float16`, ...); `default` keeps the one "
        "that the model was saved in, where the device can.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Utterances computed at the same time on a CPU, one thread each; 0: what the box grants.",
    )
    batch_size: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Utterances computed together; 0: 1 on a CPU, where more than 2 gain nothing, 16 on "
        "a GPU. Above 1 windows are multiples of half a second, and equal ones are computed together.",
    )
    queue_limit: int = Field(
        default=64,
        ge=1,
        description="Utterances of all calls that may wait. Above it interim results are left out first; "
        "then a call is told at once that the recognizer is full.",
    )
    language: str | None = Field(
        default=None,
        description="Language when the agent names none (BCP 47); empty: the model detects it.",
    )
    use_hints: bool | None = Field(
        default=None,
        description="Give the agent's hints to the model as its prompt. Empty: only to published Whisper "
        "models, because small models trained without prompts are confused by them.",
    )
    interim_every_s: float = Field(
        default=0.5,
        ge=0,
        description="Seconds of new audio between interim results; 0: none. They are computed while no "
        "final waits.",
    )
    min_window_s: float | None = Field(
        default=None,
        ge=0.1,
        le=30,
        description="Shortest window given to the model; shorter speech is followed by silence. Empty: 5 s "
        "for published Whisper models, which were trained on 30 s windows, 1 s for others.",
    )
    padding_s: float = Field(
        default=0.4, ge=0, le=5, description="Silence that follows the speech in its window."
    )
    max_window_s: float = Field(
        default=28.0,
        ge=5,
        le=30,
        description="Longer audio is cut at its quietest point, and the texts are joined.",
    )
    silence_dbfs: float = Field(
        default=-60.0,
        ge=-120,
        le=0,
        description="Audio whose loudest 30 ms are below this level holds no words.",
    )
    no_speech_threshold: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="From this probability of `no speech` on, text below `no_speech_log_prob` is dropped.",
    )
    no_speech_log_prob: float = Field(
        default=-0.3,
        le=0,
        description="Mean log probability of a token; see `no_speech_threshold`.",
    )
    log_prob_threshold: float = Field(
        default=-1.0,
        le=0,
        description="Text whose tokens have a lower mean log probability than this is dropped as invented.",
    )
    compression_ratio_threshold: float = Field(
        default=2.4,
        ge=1,
        description="Text that compresses better than this repeats itself, and is dropped as invented.",
    )
