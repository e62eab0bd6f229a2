# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the engine tests: where models lie, and a model with random weights."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from trunkline_llama_cpp import build
from trunkline_llama_cpp.provider import LlamaModel
from trunkline_llama_cpp.settings import LlamaCppSettings

from appliance.plugin import BuildContext, ModelNotFoundError
from appliance.plugin.conformance import Subject
from appliance.plugin.manifest import manifest_path, parse

STARTER = Path(__file__).parents[2] / "plugins/starter_models/trunkline_starter_models/models"

CHATML = (
    "{%- if tools %}{{ '<|im_start|>system\n' + (messages[0].content if messages[0].role == 'system' "
    "else '') + '\n' + (tools | tojson) + '<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if not (tools and loop.first and message.role == 'system') %}"
    "{{- '<|im_start|>' + message.role + '\n' + (message.content or '') }}"
    "{%- for call in message.tool_calls or [] %}"
    "{{- '<tool_call>' + (call.function | tojson) + '</tool_call>' }}"
    "{%- endfor %}{{- '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def _resolve(name: str) -> Path:
    path = STARTER / name.removeprefix("starter/") if name.startswith("starter/") else Path(name)
    if not path.exists():
        message = f"there is no model {name}"
        raise ModelNotFoundError(message)
    return path


@pytest.fixture(scope="session")
def build_context(tmp_path_factory: pytest.TempPathFactory) -> BuildContext:
    """Finds the starter models, and models by their path."""
    return BuildContext(
        model_path=_resolve, data_dir=tmp_path_factory.mktemp("provider"), threads=1
    )


def _byte_alphabet() -> list[str]:
    """The 256 characters by which byte-level BPE vocabularies write bytes (GPT-2's)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(shifted)) for byte in range(256)]


def write_random_gguf(
    path: Path, *, seed: int = 0, width: int = 64, layers: int = 2, context: int = 2048
) -> Path:
    """Write a model of the Llama architecture with random weights and a byte vocabulary."""
    random = np.random.default_rng(seed)
    tokens = [*CONTROL, *_byte_alphabet(), "he"]
    kinds = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * 257
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(width // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(value=False)
    writer.add_chat_template(CHATML)

    def matrix(name: str, rows: int, columns: int, scale: float = 1.0) -> None:
        weights = random.standard_normal((rows, columns)) * scale / np.sqrt(columns)
        writer.add_tensor(name, weights.astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(width, np.float32))

    matrix("token_embd.weight", len(tokens), width)
    # Logits far apart: rounding must not decide which token is the likeliest. It writes printable
    # characters alone, and never ends by itself.
    output = random.standard_normal((len(tokens), width)) * 16 / np.sqrt(width)
    output[[not (len(token) == 1 and " " < token <= "~") for token in tokens]] = 0
    writer.add_tensor("output.weight", output.astype(np.float32))
    norm("output_norm.weight")
    for layer in range(layers):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{part}.weight", width, width)
        matrix(f"blk.{layer}.ffn_gate.weight", 2 * width, width)
        matrix(f"blk.{layer}.ffn_up.weight", 2 * width, width)
        matrix(f"blk.{layer}.ffn_down.weight", width, 2 * width)
        norm(f"blk.{layer}.attn_norm.weight")
        norm(f"blk.{layer}.ffn_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def random_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of 0.6 MB that says nonsense, the same every time, and as much as it is let."""
    return write_random_gguf(tmp_path_factory.mktemp("gguf") / "random.gguf")


@pytest.fixture(scope="session")
def make_gguf() -> Callable[..., Any]:
    """Write another such model: `make_gguf(path, seed=, width=, layers=, context=)`."""
    return write_random_gguf


@pytest.fixture
async def make_llama(
    random_gguf: Path, build_context: BuildContext
) -> AsyncIterator[Callable[..., LlamaModel]]:
    """Build models of `random_gguf` with other settings; they are closed at the end."""
    built: list[LlamaModel] = []

    def make_one(**settings: object) -> LlamaModel:
        values = {"model": str(random_gguf)} | settings
        model = build(LlamaCppSettings.model_validate(values), build_context)
        assert isinstance(model, LlamaModel)
        built.append(model)
        return model

    yield make_one
    for model in built:
        await model.aclose()


def _subject(module: str, settings: Mapping[str, Any], context: BuildContext) -> Subject:
    imported = importlib.import_module(module)
    path = manifest_path(module)
    return Subject(
        imported.register_providers()[0],
        settings,
        context=context,
        manifest=parse(path.read_text("utf-8"), str(path)),
        explicit=True,
    )


@pytest.fixture
def subject(build_context: BuildContext) -> Callable[..., Subject]:
    """Put the one offer of a plugin under the conformance kit: `subject(module, **settings)`."""
    return lambda module, **settings: _subject(module, settings, build_context)
