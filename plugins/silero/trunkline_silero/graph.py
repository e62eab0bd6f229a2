# SPDX-License-Identifier: Apache-2.0
"""Turns the Silero VAD v6 graph from "one call, many windows" into "many calls, one window each".

The published graph takes `input[n, 576]` as n consecutive windows of one call: a Transpose hands the
encoder's output to the LSTM with axis 0 as time.

    encoder output (n, 128, 1) --perm [0, 2, 1]--> (time=n, batch=1, 128)     as published
                               --perm [2, 0, 1]--> (time=1, batch=n, 128)     as used here

The weights stay as they are, so each call gets bit for bit the score it would get alone.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from appliance.plugin import ConfigurationError, ModelNotFoundError

STATE = 128
"""Width of the LSTM state."""

_TIME_FIRST = [0, 2, 1]
_CALLS_SECOND = [2, 0, 1]
_STATES = {"h", "c", "hn", "cn"}


def batched_graph(path: Path) -> bytes:
    """Return the serialized graph of `path`, with calls along axis 0.

    Raises:
        ModelNotFoundError: the file is missing or is no ONNX file.
        ConfigurationError: the graph is not the one this edit was made for.
    """
    try:
        model = onnx.load(str(path))
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(f"cannot read the VAD model {path}: {error}") from error
    except Exception as error:  # protobuf's own DecodeError has no stable home to import it from
        raise ModelNotFoundError(f"{path} is not an ONNX file: {error}") from error
    graph = model.graph
    if [value.name for value in graph.input] != ["input", "h", "c"]:
        raise ConfigurationError(f"{path} is not a Silero VAD v6 graph: its inputs differ")
    lstm = next((node for node in graph.node if node.op_type == "LSTM"), None)
    feeder = next(
        (n for n in graph.node if lstm is not None and n.output[0] == lstm.input[0]), None
    )
    if feeder is None or feeder.op_type != "Transpose":
        raise ConfigurationError(
            f"{path} is not a Silero VAD v6 graph: no Transpose feeds its LSTM"
        )
    perm = next(attribute for attribute in feeder.attribute if attribute.name == "perm")
    if list(perm.ints) != _TIME_FIRST:
        raise ConfigurationError(f"{path} is not a Silero VAD v6 graph: perm {list(perm.ints)}")
    perm.ints[:] = _CALLS_SECOND
    for value in [*graph.input, *graph.output]:
        if value.name in _STATES:
            value.type.tensor_type.shape.dim[1].dim_param = "calls"
    serialized: bytes = model.SerializeToString()
    return serialized
