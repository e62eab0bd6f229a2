# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts a Piper graph, so that it can run piece by piece while the first piece plays already.

    phoneme ids -> text encoder, durations, noise -> latent frames      the head: once a sentence
    ------------------------------------ first cut: behind the noise ------------------------------
                -> flow -> z -> first convolution, first upsampling     in wide pieces
    --------------------------------- second cut: behind the upsampling ---------------------------
                -> further upsampling, residual blocks -> samples       in pieces, a small one first

A sample depends on few columns around its own: in published voices on 11 frames of z a side, and those on 32
latent frames a side. A piece that is computed with so many more columns at its edges has the samples of the
whole. All randomness stays in the head.

The second cut is behind the first upsampling, not at z itself, because of rounding: matrix products narrower
than 65 columns add up in another order, so that a short piece of z would differ in the last bit.

Places are found by the shape of the graph alone, since exporters name things as they like. No inference here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

_POINTWISE = frozenset({
    "Add", "Cast", "Clip", "Concat", "ConstantOfShape", "Div", "Elu", "Exp", "Identity", "LeakyRelu", "Mul",
    "Neg", "Relu", "Shape", "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Tanh", "Unsqueeze",
})  # fmt: skip
"""What leaves the axis of time as it is: output n depends on input n alone. Some could do other things; in
these graphs they work on channels, and whoever loads a voice compares its pieces with the whole."""


class NotSplittableError(Exception):
    """The graph has another shape than the cut was made for; the message says where."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part that can run piece by piece.

    Its first input has shape (1, channels, n); further ones come from the head, and have the same last
    axis or none. Its output has `samples` columns (or samples) for each of the n.

    Attributes:
        graph: serialized.
        samples: what it gives for a column.
        left: columns before a column that what it gives depends on.
        right: columns after it.
    """

    graph: bytes
    samples: int
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class Split:
    """A graph in parts.

    Attributes:
        head: from the graph's own inputs to the inputs of the next part. Serialized.
        flow: from latent frames to columns; None where it is not found, and belongs to the head.
        vocoder: from columns to samples.
    """

    head: bytes
    flow: Stage | None
    vocoder: Stage


def split(model: ModelProto) -> Split:
    """Cut a Piper graph.

    Raises:
        NotSplittableError: there is no such place, or what follows it looks further than a few columns.
    """
    graph = _Graph(model)
    first = next((node for node in graph.nodes if node.op_type == "ConvTranspose"), None)
    if first is None:
        raise NotSplittableError("it has no upsampling")
    columns = first.output[0]
    vocoder, sides = graph.stage(columns, model.graph.output[0].name)
    if sides:
        raise NotSplittableError(f"its vocoder needs {sides[0]} besides the columns")
    try:
        latent = graph.noisy(columns)
        flow, sides = graph.stage(latent, columns)
    except NotSplittableError:
        return Split(graph.head([columns]), None, vocoder)
    return Split(graph.head([latent, *sides]), flow, vocoder)


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far the elements of a tensor look, in elements: n looks at columns
    floor((n - left) / samples) to floor((n + right) / samples).
    """

    samples: int
    left: int
    right: int


class _Graph:
    """A model's nodes in order, and what does not depend on any input."""

    def __init__(self, model: ModelProto) -> None:
        if len(model.graph.output) != 1:
            raise NotSplittableError(f"it has {len(model.graph.output)} outputs")
        self.nodes = list(model.graph.node)
        self._model = model
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._fixed = {"", *self._weights}
        self._fixed_nodes: set[int] = set()
        for at, node in enumerate(self.nodes):
            if not _random(node) and all(name in self._fixed for name in node.input):
                self._fixed_nodes.add(at)
                self._fixed.update(node.output)

    def noisy(self, before: str) -> str:
        """Return the latent frames: the first sum after the last noise that `before` depends on."""
        needed = self._needed(set(range(len(self.nodes))), before, "")
        noise = max((at for at in needed if _random(self.nodes[at])), default=None)
        if noise is None:
            raise NotSplittableError("it has no noise")
        after = self._after(set(self.nodes[noise].output))
        sums = (at for at in sorted(after) if self.nodes[at].op_type == "Add" and at in needed)
        found = next(sums, None)
        if found is None:
            raise NotSplittableError("its noise is not added to anything")
        return self.nodes[found].output[0]

    def stage(self, source: str, target: str) -> tuple[Stage, list[str]]:
        """Return the part from `source` to `target`, and what else it needs.

        Raises:
            NotSplittableError: a node on the way mixes distant moments.
        """
        after = self._after({source})
        needed = self._needed(after | self._fixed_nodes, target, source)
        way = [self.nodes[at] for at in sorted(after & needed)]
        if not any(target in node.output for node in way):
            raise NotSplittableError(f"{target} does not depend on {source}")
        made = {source}.union(*(node.output for node in way))
        sides = sorted({n for node in way for n in node.input} - made - self._fixed)
        reach = {source: _Reach(1, 0, 0)}
        for node in way:
            reach.update(dict.fromkeys(node.output, self._reach(node, reach)))
        found = reach[target]
        graph = self._part([self.nodes[at] for at in sorted(needed)], [source, *sides], [target])
        left, right = (math.ceil(far / found.samples) for far in (found.left, found.right))
        return Stage(graph, found.samples, left, right), sides

    def head(self, outputs: list[str]) -> bytes:
        """Return the part from the graph's inputs to `outputs`. Branches of control flow stay whole."""
        after = self._after({outputs[0]})
        nodes = [node for at, node in enumerate(self.nodes) if at not in after]
        return self._part(nodes, list(self._model.graph.input), outputs)

    def _after(self, tensors: set[str]) -> set[int]:
        """Return the places of the nodes that depend on `tensors`."""
        known, found = set(tensors), set()
        for at, node in enumerate(self.nodes):
            if any(name in known for name in node.input):
                known.update(node.output)
                found.add(at)
        return found

    def _needed(self, allowed: set[int], target: str, source: str) -> set[int]:
        """Return the places among `allowed` of the nodes that `target` needs, back to `source`."""
        wanted, found = {target}, set()
        for at in sorted(allowed, reverse=True):
            if any(name in wanted for name in self.nodes[at].output):
                found.add(at)
                wanted.update(name for name in self.nodes[at].input if name != source)
        return found

    def _reach(self, node: NodeProto, reach: dict[str, _Reach]) -> _Reach:
        inputs = [reach[name] for name in node.input if name in reach]
        if (
            node.op_type in {"Conv", "ConvTranspose"}
            and node.input[0] in reach
            and len(inputs) == 1
        ):
            weight = self._weights.get(node.input[1])
            return _filtered(node, inputs[0], list(weight.dims) if weight is not None else [])
        if node.op_type not in _POINTWISE:
            raise NotSplittableError(f"{node.op_type} {node.name} is not known to keep the time")
        if len({one.samples for one in inputs}) != 1:
            raise NotSplittableError(f"{node.op_type} {node.name} joins different rates")
        left, right = max(one.left for one in inputs), max(one.right for one in inputs)
        return _Reach(inputs[0].samples, left, right)

    def _part(self, nodes: list[NodeProto], inputs: list[Any], outputs: list[str]) -> bytes:
        used = _used(nodes)
        graph = helper.make_graph(
            nodes,
            "part",
            [_any_shape(one) if isinstance(one, str) else one for one in inputs],
            [_any_shape(name) for name in outputs],
            [tensor for name, tensor in self._weights.items() if name in used],
        )
        model = self._model
        part = helper.make_model(
            graph, opset_imports=model.opset_import, ir_version=model.ir_version
        )
        serialized: bytes = part.SerializeToString()
        return serialized


def _random(node: NodeProto) -> bool:
    return node.op_type.startswith("Random") or node.op_type in {"Bernoulli", "Multinomial"}


def _used(nodes: list[NodeProto]) -> set[str]:
    """Return the tensors that nodes use, and those that their branches of control flow use."""
    bodies = [a.g for n in nodes for a in n.attribute if a.type == onnx.AttributeProto.GRAPH]
    inner = _used([node for body in bodies for node in body.node]) if bodies else set()
    return {name for node in nodes for name in node.input} | inner


def _filtered(node: NodeProto, source: _Reach, weight: list[int]) -> _Reach:
    """Return the reach behind a convolution along the last axis."""
    given: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    kernel = given.get("kernel_shape", weight[2:])
    before, behind, *more = given.get("pads", [0, 0])
    if len(kernel) != 1 or more or given.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise NotSplittableError(f"{node.op_type} {node.name} is not of one axis")
    stride = given.get("strides", [1])[0]
    width = (kernel[0] - 1) * given.get("dilations", [1])[0]
    if node.op_type == "Conv":
        keeps = stride == 1 and before + behind == width
        found = _Reach(source.samples, source.left + before, source.right + width - before)
    else:
        extra = given.get("output_padding", [0])[0]
        keeps = before + behind == width + 1 + extra - stride
        found = _Reach(
            source.samples * stride,
            source.left * stride + max(0, width - before),
            source.right * stride + before,
        )
    if not keeps:
        raise NotSplittableError(f"{node.op_type} {node.name} changes the length")
    return found


def _any_shape(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
