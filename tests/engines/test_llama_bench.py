# SPDX-License-Identifier: Apache-2.0
"""The models and the measurement of `bench-llm`, with a model small enough for a test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import llama_cpp
import pytest

from tests.benchmarks import llm
from tests.benchmarks.models import SHAPES, Shape, write

SMALL = {
    "qwen2-0.5b": replace(
        SHAPES["qwen2-0.5b"], vocabulary=400, width=128, layers=2, heads=4, kv_heads=2, inner=192
    ),
    "llama3-8b": replace(
        SHAPES["llama3-8b"], vocabulary=300, width=64, layers=3, heads=2, kv_heads=1, inner=192
    ),
}


def small(name: str) -> Shape:
    return replace(SMALL[name], context=2048)


@pytest.mark.parametrize("name", SMALL)
def test_a_model_of_random_weights_loads_and_writes_the_same_letters_each_time(
    name: str, tmp_path: Path
) -> None:
    said = []
    for file in ("one.gguf", "two.gguf"):
        write(tmp_path / file, small(name))
        model = llama_cpp.Llama(
            str(tmp_path / file), n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False
        )
        said.append(model("Hello", max_tokens=12, temperature=0)["choices"][0]["text"])  # type: ignore[index]
        assert model.tokenize(said[-1].encode(), add_bos=False, special=True) == model.tokenize(
            said[-1].encode(), add_bos=False
        )
        model.close()
    assert said[0] == said[1]
    assert len(said[0]) == 12
    assert len(set(said[0])) > 2
    assert said[0].isprintable()


def test_all_matrices_are_of_four_bits_and_the_sizes_are_those_of_the_shape(tmp_path: Path) -> None:
    shape = small("qwen2-0.5b")
    write(tmp_path / "model.gguf", shape)
    tensors = {one.name: one for one in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    kinds = {one.tensor_type for one in tensors.values() if len(one.shape) == 2}
    assert kinds == {gguf.GGMLQuantizationType.Q4_0}
    assert list(tensors["blk.1.attn_k.weight"].shape) == [128, 64]
    assert list(tensors["output.weight"].shape) == [128, 400]
    weights = gguf.dequantize(tensors["blk.0.ffn_up.weight"].data, gguf.GGMLQuantizationType.Q4_0)
    assert weights.shape == (192, 128)
    assert abs(weights.mean()) < 0.01
    assert weights.std() == pytest.approx(128**-0.5, rel=0.05)


def test_the_benchmark_compares_both_arms_and_finds_the_same_replies(tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", small("qwen2-0.5b"))
    model, report = str(tmp_path / "small.gguf"), str(tmp_path / "report.json")
    llm.main(["--quick", "--calls", "1,3", "--model", model, "--json", report])
    results = json.loads((tmp_path / "report.json").read_text())["results"]
    for calls in (1, 3):
        for arm in ("trunkline", "plain"):
            assert results[f"{arm}/first_clause_small@{calls}"]["n"] == 2 * calls
            assert results[f"{arm}/speed_small@{calls}"]["p50"] > 0
        assert results[f"gain/first_clause_p95_small@{calls}"]["n"] == 1
        assert results[f"both/same_reply_small@{calls}"]["mean"] > 0.6
        assert results.get(f"both/apart_where_not_small@{calls}", {"p99": 0})["p99"] < 0.5
