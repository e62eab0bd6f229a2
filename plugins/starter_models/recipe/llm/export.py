# SPDX-License-Identifier: Apache-2.0
"""Write the trained model as GGUF (arch llama, Q8_0) with its tokenizer and chat template."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from recipe.llm import tokenizer as bpe
from recipe.llm.chat import SPECIALS, TEMPLATE
from recipe.llm.model import Llama, Shape

NAME = "starter.gguf"


def load(work: Path) -> tuple[Llama, Tokenizer, int]:
    """The model of a work folder's checkpoint, its tokenizer, and the step it stands at."""
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    model = Llama(Shape(**state["shape"]))
    model.load_state_dict(state["model"])
    return model.eval(), Tokenizer.from_file(str(work / "tokenizer.json")), state["step"]


def _describe(writer: gguf.GGUFWriter, shape: Shape, tokenizer: Tokenizer) -> None:
    writer.add_name("Trunkline starter")
    writer.add_license("apache-2.0")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_key_length(shape.size)
    writer.add_value_length(shape.size)
    writer.add_rope_dimension_count(shape.size)
    writer.add_rope_freq_base(shape.theta)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    tokens = [tokenizer.id_to_token(i) for i in range(shape.vocabulary)]
    control, normal = int(gguf.TokenType.CONTROL), int(gguf.TokenType.NORMAL)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in SPECIALS else normal for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(bpe.END)
    writer.add_eos_token_id(bpe.STOP)
    writer.add_pad_token_id(bpe.END)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def write(model: Llama, tokenizer: Tokenizer, path: Path) -> None:
    """Write the GGUF: matrices Q8_0, norms F32. The embedding also serves as output."""
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, model.shape, tokenizer)

    def matrix(name: str, weight: torch.Tensor) -> None:
        kind = gguf.GGMLQuantizationType.Q8_0
        packed = gguf.quants.quantize(weight.detach().float().numpy(), kind)
        writer.add_tensor(name, packed, raw_dtype=kind)

    def norm(name: str, weight: torch.Tensor) -> None:
        writer.add_tensor(name, weight.detach().numpy().astype(np.float32))

    matrix("token_embd.weight", model.embed.weight)
    norm("output_norm.weight", model.norm.weight)
    for i, block in enumerate(model.blocks):
        q, k, v = block.qkv.weight.chunk(3)
        for name, weight in (
            ("attn_q", q), ("attn_k", k), ("attn_v", v), ("attn_output", block.out.weight),
            ("ffn_gate", block.gate.weight), ("ffn_up", block.up.weight), ("ffn_down", block.down.weight),
        ):  # fmt: skip
            matrix(f"blk.{i}.{name}.weight", weight)
        norm(f"blk.{i}.attn_norm.weight", block.attn_norm.weight)
        norm(f"blk.{i}.ffn_norm.weight", block.ffn_norm.weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(arguments: list[str] | None = None) -> None:
    """Export a work folder's checkpoint into a model folder, with its checksum."""
    parser = argparse.ArgumentParser(prog="recipe.llm.export", description=main.__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    model, tokenizer, step = load(options.work)
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / NAME
    write(model, tokenizer, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (options.folder / f"{NAME}.sha256").write_text(f"{digest}  {NAME}\n", encoding="ascii")
    print(json.dumps({"step": step, "bytes": path.stat().st_size, "sha256": digest}))


if __name__ == "__main__":
    main()
