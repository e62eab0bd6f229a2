# SPDX-License-Identifier: Apache-2.0
"""Makes a voice in Piper's format with random weights and the real sizes: weights do not change the compute.

The graph is VITS (Kim et al. 2021) as Piper uses it: a transformer over phonemes with relative positions, a
duration predictor, noise, a flow of four coupling layers, and a HiFi-GAN vocoder. Two things differ from a
trained voice: how long each phoneme lasts is set, after the predictor has computed (`FRAMES_PER_ID`), and the
predictor has convolutions of the usual sizes instead of splines (2 % of the work).

Usage: python -m tests.benchmarks.piper_model FOLDER [medium|tiny]
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

RATE = 22_050
FRAMES_PER_ID = 2.4
"""Latent frames (256 samples) an id: half of the ids are the padding between phonemes."""
_WINDOW = 4  # relative positions that the attention knows, a side


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a voice."""

    hidden: int
    filter: int
    layers: int
    vocoder: int
    upsampling: tuple[int, ...]
    flows: int = 4


SIZES = {
    "medium": Sizes(192, 768, 6, 256, (8, 8, 4)),
    "tiny": Sizes(16, 32, 1, 32, (8, 8, 4), flows=2),
}


def make_voice(folder: Path, size: str = "medium", speakers: int = 1) -> Path:
    """Write `random.onnx` and `random.onnx.json`; return the path of the former."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "random.onnx"
    graph = _Voice(SIZES[size], speakers).graph()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    config = {
        "audio": {"sample_rate": RATE},
        "espeak": {"voice": "en-us"},
        "phoneme_type": "espeak",
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "num_symbols": 256,
        "num_speakers": speakers,
        "speaker_id_map": {f"s{n}": n for n in range(speakers)} if speakers > 1 else {},
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
        "hop_length": 256,
    }
    path.with_name("random.onnx.json").write_text(json.dumps(config), encoding="utf-8")
    return path


class _Voice:
    """Builds the graph; every method adds nodes and returns the name of what they give."""

    def __init__(self, sizes: Sizes, speakers: int) -> None:
        self._sizes = sizes
        self._speakers = speakers
        self._nodes: list[NodeProto] = []
        self._weights: list[TensorProto] = []
        self._random = np.random.default_rng(5)
        self._made = 0

    def graph(self) -> onnx.GraphProto:
        x = self._encoder()
        frames, count = self._lengths(x)
        mean = self._op("MatMul", self._conv(x, self._sizes.hidden, self._sizes.hidden), frames)
        spread = self._op("MatMul", self._conv(x, self._sizes.hidden, self._sizes.hidden), frames)
        noise = self._op("RandomNormalLike", mean)
        scale = self._op("Gather", "scales", self._ints(0))
        noise = self._op("Mul", self._op("Mul", noise, self._op("Exp", spread)), scale)
        latent = self._op("Add", mean, noise)
        mask = self._op("Cast", self._op("Less", self._range(count), count), to=TensorProto.FLOAT)
        mask = self._op("Unsqueeze", mask, self._ints([0, 1]))
        z = latent
        for _ in range(self._sizes.flows):
            z = self._coupling(z, mask)
        audio = self._vocoder(self._op("Mul", z, mask))
        self._nodes.append(
            helper.make_node("Unsqueeze", [audio, self._ints([1])], ["output"], name="output")
        )
        inputs = [
            helper.make_tensor_value_info("input", TensorProto.INT64, ["batch", "phonemes"]),
            helper.make_tensor_value_info("input_lengths", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
        ]
        if self._speakers > 1:
            inputs.append(helper.make_tensor_value_info("sid", TensorProto.INT64, ["batch"]))
        output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 1, 1, "time"])
        return helper.make_graph(self._nodes, "voice", inputs, [output], self._weights)

    def _encoder(self) -> str:
        width = self._sizes.hidden
        table = self._weight((256, width), 1.0)
        ids = self._op("Slice", "input", self._ints([0]), "input_lengths", self._ints([1]))
        x = self._op("Transpose", self._op("Gather", table, ids), perm=[0, 2, 1])
        for _ in range(self._sizes.layers):
            x = self._norm(self._op("Add", x, self._attention(x)))
            inner = self._op("Relu", self._conv(x, width, self._sizes.filter, 3))
            x = self._norm(self._op("Add", x, self._conv(inner, self._sizes.filter, width, 3)))
        return x

    def _attention(self, x: str, heads: int = 2) -> str:
        width = self._sizes.hidden
        size = width // heads
        split = self._ints([1, heads, size, -1])
        query, key, value = (
            self._op("Reshape", self._conv(x, width, width), split) for _ in range(3)
        )
        query = self._op("Transpose", query, perm=[0, 1, 3, 2])
        value = self._op("Transpose", value, perm=[0, 1, 3, 2])
        scores = self._op("MatMul", query, key)
        near = self._op("MatMul", query, self._weight((1, 1, size, 2 * _WINDOW + 1), 0.1))
        scores = self._op("Add", scores, self._absolute(near))
        scores = self._op("Mul", scores, self._floats(size**-0.5))
        heard = self._op("MatMul", self._op("Softmax", scores, axis=-1), value)
        heard = self._op("Transpose", heard, perm=[0, 1, 3, 2])
        return self._conv(self._op("Reshape", heard, self._ints([1, width, -1])), width, width)

    def _absolute(self, near: str) -> str:
        """Spread scores by distance, (1, h, n, 9), over positions, (1, h, n, n)."""
        count = self._op("Gather", self._op("Shape", near), self._ints([2]))
        padded = self._op("Sub", count, self._ints([1]))
        pads = self._op(
            "Concat", self._ints([0, 0, 0]), padded, self._ints([0, 0, 0]), padded, axis=0
        )
        wide = self._op("Pad", near, pads)
        columns = self._op(
            "Add", self._op("Mul", count, self._ints([2])), self._ints([2 * _WINDOW - 1])
        )
        flat = self._op("Reshape", wide, self._ints([1, 2, -1]))
        skewed = self._op("Sub", columns, self._ints([1]))
        size = self._op("Mul", count, skewed)
        flat = self._op("Slice", flat, self._ints([0]), size, self._ints([2]))
        shape = self._op("Concat", self._ints([1, 2]), count, skewed, axis=0)
        square = self._op("Reshape", flat, shape)
        return self._op("Slice", square, self._ints([0]), count, self._ints([3]))

    def _lengths(self, x: str) -> tuple[str, str]:
        """Return the alignment, shape (1, ids, frames), and the number of frames, shape (1,)."""
        width = self._sizes.hidden
        for _ in range(4):  # the stochastic predictor has four stacks of three layers
            for dilation in (1, 3, 9):
                y = self._conv(x, width, width, 3, dilation=dilation, group=width)
                y = self._op("Relu", self._norm(y))
                x = self._op("Add", x, self._op("Relu", self._norm(self._conv(y, width, width))))
        predicted = self._op("Tanh", self._conv(x, width, 1))
        each = self._op(
            "Add", self._op("Mul", predicted, self._floats(1e-6)), self._floats(FRAMES_PER_ID)
        )
        each = self._op("Mul", each, self._op("Gather", "scales", self._ints(1)))
        ends = self._op("Ceil", self._op("CumSum", each, self._ints(2)))
        ends = self._op("Transpose", ends, perm=[0, 2, 1])
        count = self._op("Cast", self._op("ReduceMax", ends, keepdims=0), to=TensorProto.INT64)
        count = self._op("Reshape", count, self._ints([1]))
        at = self._op("Cast", self._range(count), to=TensorProto.FLOAT)
        past = self._op("Cast", self._op("Less", at, ends), to=TensorProto.FLOAT)
        shifted = self._op("Slice", past, *map(self._ints, ([0], [-1], [1])))
        nothing = self._op("Slice", past, *map(self._ints, ([0], [1], [1])))
        nothing = self._op("Mul", nothing, self._floats(0.0))
        before = self._op("Concat", nothing, shifted, axis=1)
        return self._op("Sub", past, before), count

    def _coupling(self, z: str, mask: str) -> str:
        half, width = self._sizes.hidden // 2, self._sizes.hidden
        flipped = self._op("Slice", z, *map(self._ints, ([-1], [-(2**31)], [1], [-1])))
        kept, moved = self._op2("Split", flipped, self._ints([half, half]), axis=1)
        x = self._op("Mul", self._conv(kept, half, width), mask)
        total = ""
        for layer in range(4):
            both = self._conv(x, width, 2 * width, 5)
            if self._speakers > 1:
                both = self._op("Add", both, self._speaker(2 * width))
            first, second = self._op2("Split", both, self._ints([width, width]), axis=1)
            gated = self._op("Mul", self._op("Tanh", first), self._op("Sigmoid", second))
            last = layer == 3
            given = self._conv(gated, width, width if last else 2 * width)
            if not last:
                rest, given = self._op2("Split", given, self._ints([width, width]), axis=1)
                x = self._op("Mul", self._op("Add", x, rest), mask)
            total = self._op("Add", total, given) if total else given
        shift = self._op("Mul", self._conv(self._op("Mul", total, mask), width, half), mask)
        moved = self._op("Mul", self._op("Sub", moved, shift), mask)
        return self._op("Concat", kept, moved, axis=1)

    def _vocoder(self, z: str) -> str:
        width = self._sizes.vocoder
        x = self._conv(z, self._sizes.hidden, width, 7)
        if self._speakers > 1:
            x = self._op("Add", x, self._speaker(width))
        for factor in self._sizes.upsampling:
            x = self._op("LeakyRelu", x, alpha=0.1)
            x = self._upsampled(x, width, width // 2, factor)
            width //= 2
            total = ""
            for kernel, dilations in ((3, (1, 2)), (5, (2, 6)), (7, (3, 12))):
                y = x
                for dilation in dilations:
                    inner = self._op("LeakyRelu", y, alpha=0.1)
                    y = self._op(
                        "Add", y, self._conv(inner, width, width, kernel, dilation=dilation)
                    )
                total = self._op("Add", total, y) if total else y
            x = self._op("Div", total, self._floats(3.0))
        x = self._op("LeakyRelu", x, alpha=0.01)
        quiet = self._op("Mul", x, self._floats(0.05))
        return self._op("Tanh", self._conv(quiet, width, 1, 7))

    def _speaker(self, width: int) -> str:
        table = self._weight((self._speakers, width), 0.3)
        return self._op("Unsqueeze", self._op("Gather", table, "sid"), self._ints([2]))

    def _conv(
        self, x: str, wide: int, out: int, kernel: int = 1, *, dilation: int = 1, group: int = 1
    ) -> str:
        scale = (wide // group * kernel) ** -0.5
        weight, bias = self._weight((out, wide // group, kernel), scale), self._weight((out,), 0.01)
        pad = dilation * (kernel - 1) // 2
        return self._op("Conv", x, weight, bias, kernel_shape=[kernel], pads=[pad, pad],
                        dilations=[dilation], strides=[1], group=group)  # fmt: skip

    def _upsampled(self, x: str, wide: int, out: int, factor: int) -> str:
        weight, bias = (
            self._weight((wide, out, 2 * factor), (2 * wide) ** -0.5),
            self._weight((out,), 0.01),
        )
        pads = [factor // 2, factor // 2]
        return self._op("ConvTranspose", x, weight, bias, kernel_shape=[2 * factor], pads=pads,
                        strides=[factor])  # fmt: skip

    def _norm(self, x: str) -> str:
        """Normalize over channels, as exporters write it."""
        y = self._op("Transpose", x, perm=[0, 2, 1])
        centred = self._op("Sub", y, self._op("ReduceMean", y, axes=[-1]))
        power = self._op("ReduceMean", self._op("Mul", centred, centred), axes=[-1])
        deviation = self._op("Sqrt", self._op("Add", power, self._floats(1e-5)))
        return self._op("Transpose", self._op("Div", centred, deviation), perm=[0, 2, 1])

    def _range(self, count: str) -> str:
        one = self._op("Squeeze", count)
        return self._op("Range", self._ints(0), one, self._ints(1))

    def _weight(self, shape: tuple[int, ...], scale: float) -> str:
        values = self._random.standard_normal(shape, np.float32) * np.float32(scale)
        return self._constant(values.astype(np.float32))

    def _ints(self, value: int | list[int]) -> str:
        return self._constant(np.array(value, np.int64))

    def _floats(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _constant(self, value: NDArray[np.int64] | NDArray[np.float32]) -> str:
        self._made += 1
        self._weights.append(numpy_helper.from_array(value, f"w{self._made}"))
        return f"w{self._made}"

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self._made += 1
        name = f"t{self._made}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def _op2(self, kind: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        self._made += 2
        names = [f"t{self._made - 1}", f"t{self._made}"]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names[0], names[1]


if __name__ == "__main__":
    made = make_voice(Path(sys.argv[1]), (sys.argv[2:] or ["medium"])[0])
    sys.stdout.write(f"{made}\n")
