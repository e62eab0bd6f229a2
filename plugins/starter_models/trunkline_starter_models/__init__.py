# SPDX-License-Identifier: Apache-2.0
"""The starter models: they ship with the box, understand one narrow domain, and need no download."""

from __future__ import annotations

from pathlib import Path

from appliance.plugin import ModelPack, ModelPart, hookimpl
from trunkline_starter_models.checksums import ASR, LLM

_MODELS = Path(__file__).parent / "models"


def pack_dir() -> Path:
    """Return the folder of the pack: `asr` (CTranslate2 Whisper) and `llm` (GGUF) lie in it."""
    return _MODELS


@hookimpl
def register_model_packs() -> list[ModelPack]:
    """Offer the pack `starter`: `starter/asr` (CTranslate2 Whisper) and `starter/llm` (GGUF)."""
    parts = {
        "asr": ModelPart(files=ASR, licence="Apache-2.0", path=_MODELS / "asr"),
        "llm": ModelPart(files=LLM, licence="Apache-2.0", path=_MODELS / "llm"),
    }
    summary = "Ships with the box: a reception desk's words, in synthetic voices, in English."
    return [ModelPack("starter", summary, parts)]
