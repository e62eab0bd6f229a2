# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of the model files. Written by `python -m recipe.checksums`; do not edit."""

ASR: dict[str, str] = {}

LLM: dict[str, str] = {}
