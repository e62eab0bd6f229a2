# SPDX-License-Identifier: Apache-2.0
"""Makes a tiny voice in Piper's format: the graph's real inputs and output, tones instead of speech.

Every phoneme is a tone of its own; padding, spaces and punctuation are silent. The same ids always
give the same samples, so a test can say what it must hear.

Usage: python make_piper_voice.py FOLDER [SPEAKERS]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

RATE = 16_000
HOP = 256
FRAMES_PER_ID = 4
SILENT = "_^$ !'(),-.:;?"
SYMBOLS = 256


def make_voice(folder: Path, speakers: int = 1, *, lead: int = 0) -> Path:
    """Write `tones.onnx` and `tones.onnx.json`; return the path of the former.

    Args:
        folder: where to.
        speakers: how many; speaker n sounds n times a fifth higher.
        lead: frames of silence before the first phoneme.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.helper.make_model(
        _graph(speakers, lead), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.checker.check_model(model)
    path = folder / "tones.onnx"
    path.write_bytes(model.SerializeToString())
    config = {
        "audio": {"sample_rate": RATE},
        "espeak": {"voice": "en-us"},
        "phoneme_type": "espeak",
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "num_symbols": SYMBOLS,
        "num_speakers": speakers,
        "speaker_id_map": {f"tone{n}": n for n in range(speakers)} if speakers > 1 else {},
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
        "hop_length": HOP,
    }
    path.with_name("tones.onnx.json").write_text(json.dumps(config), encoding="utf-8")
    return path


def _graph(speakers: int, lead: int) -> onnx.GraphProto:
    hertz = np.linspace(150, 1200, SYMBOLS, dtype=np.float32)
    loud = np.full(SYMBOLS, 0.25, np.float32)
    silent = [i for symbol in SILENT for i in DEFAULT_PHONEME_ID_MAP[symbol]]
    loud[silent] = 0
    constants: dict[str, np.ndarray[Any, Any]] = {
        "step": (2 * np.pi * hertz / RATE).astype(np.float32),
        "loud": loud,
        "shift": np.array([1.5**n for n in range(speakers)], np.float32),
        "one": np.array(1, np.int64),
        "tempo_at": np.array([1], np.int64),
        "frames": np.array([FRAMES_PER_ID * HOP], np.float32),
        "last": np.array([-1], np.int64),
        "zero": np.array([0], np.int64),
        "axis": np.array(1, np.int64),
        "axes": np.array([1], np.int64),
        "outer": np.array([1, 2], np.int64),
        "flat": np.array([1, -1], np.int64),
        "ones": np.array([1, 1], np.int64),
        "pads": np.array([0, lead * HOP, 0, 0], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Slice", ["input", "zero", "input_lengths", "axes"], ["ids"]),
        node("Gather", ["scales", "tempo_at"], ["tempo"]),
        node("Mul", ["tempo", "frames"], ["exact"]),
        node("Cast", ["exact"], ["samples"], to=TensorProto.INT64),
        node("Concat", ["ones", "samples"], ["spread"], axis=0),
        node("Gather", ["step", "ids"], ["base"]),
        node("Gather", ["loud", "ids"], ["level"]),
    ]
    if speakers > 1:
        nodes += [
            node("Gather", ["shift", "sid"], ["factor"]),
            node("Mul", ["base", "factor"], ["steps"]),
        ]
    else:
        nodes.append(node("Identity", ["base"], ["steps"]))
    for name in ("steps", "level"):
        nodes += [
            node("Unsqueeze", [name, "last"], [f"{name}3"]),
            node("Expand", [f"{name}3", "spread"], [f"{name}_wide"]),
            node("Reshape", [f"{name}_wide", "flat"], [f"{name}_line"]),
        ]
    nodes += [
        node("CumSum", ["steps_line", "axis"], ["phase"]),
        node("Sin", ["phase"], ["wave"]),
        node("Mul", ["wave", "level_line"], ["tones"]),
        node("Pad", ["tones", "pads"], ["late"]),
        node("Unsqueeze", ["late", "outer"], ["output"]),
    ]
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, ["batch", "phonemes"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    if speakers > 1:
        inputs.append(helper.make_tensor_value_info("sid", TensorProto.INT64, ["batch"]))
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 1, 1, "time"])
    used = {name for made in nodes for name in made.input}
    initializers = [
        numpy_helper.from_array(value, name) for name, value in constants.items() if name in used
    ]
    return helper.make_graph(nodes, "tones", inputs, [output], initializers)


if __name__ == "__main__":
    sys.stdout.write(f"{make_voice(Path(sys.argv[1]), int((sys.argv[2:] or ['1'])[0]))}\n")
