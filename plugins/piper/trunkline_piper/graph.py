# SPDX-License-Identifier: GPL-3.0-or-later
"""A voice's graph in ONNX Runtime: ids in, samples out, in pieces where the graph can be cut.

Blocking; the provider calls it in its worker thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]
import structlog
from numpy.typing import NDArray

from appliance.plugin import UnavailableError
from trunkline_piper.split import NotSplittableError, Split, Stage, split

_log = structlog.get_logger(__name__)

Samples: TypeAlias = NDArray[np.float32]
Feed: TypeAlias = Mapping[str, NDArray[Any]]

FIRST_S = 0.08
"""Seconds of audio in the first piece: four frames of a call, computed in a fraction of that."""
GROWTH = 3
"""How much longer each piece is than the one before: the fewer, the less is computed twice at edges."""
LARGEST_S = 1.28
"""Of the largest: a new answer waits for such a piece of another at worst."""
NARROWEST = 65
"""Columns of the narrowest piece with its edges; see `trunkline_piper.split` on rounding."""
TOLERANCE = 1e-4
"""How far the pieces may be from the whole, as a part of the loudest sample, when a voice is loaded."""


class VoiceGraph(Protocol):
    """What a voice computes."""

    streams: bool
    """It gives a sentence in several pieces."""

    def run(self, feed: Feed, options: ort.RunOptions) -> Iterator[Samples]:
        """Synthesize one sentence; shape (samples,) each.

        Raises:
            UnavailableError: the run failed, or `options.terminate` ended it.
        """
        ...


class WholeGraph:
    """The graph as it is: one run, one piece."""

    streams = False

    def __init__(self, model: Path, threads: int) -> None:
        self._session = session(str(model), threads)

    def run(self, feed: Feed, options: ort.RunOptions) -> Iterator[Samples]:
        """See `VoiceGraph`."""
        (audio,) = _run(self._session, feed, options)
        yield audio.reshape(-1)


class SplitGraph:
    """The graph in parts: what is said runs once, how it sounds runs piece by piece.

    Args:
        parts: the graphs.
        threads: compute threads of each.
        rate: samples a second.
    """

    streams = True

    def __init__(self, parts: Split, threads: int, rate: int) -> None:
        self._head = session(parts.head, threads)
        self._flow = None if parts.flow is None else _Stage(parts.flow, threads)
        self._vocoder = _Stage(parts.vocoder, threads)
        wanted = round(FIRST_S * rate / parts.vocoder.samples)
        self._first = max(wanted, self._vocoder.smallest)
        self._largest = max(self._first, round(LARGEST_S * rate / parts.vocoder.samples))

    def run(self, feed: Feed, options: ort.RunOptions) -> Iterator[Samples]:
        """See `VoiceGraph`."""
        columns = _Columns(self._flow, *_run(self._head, feed, options))
        for start, end in pieces(columns.count, self._first, self._largest):
            yield self._vocoder.run(columns, start, end, options)

    def error(self, feed: Feed) -> float:
        """Return how far the pieces are from the whole, as a part of the loudest sample."""
        options = ort.RunOptions()
        source, *sides = _run(self._head, feed, options)
        columns, at_once = (_Columns(self._flow, source, *sides) for _ in range(2))
        whole = self._vocoder.run(at_once.all(options), 0, at_once.count, options)
        if whole.size != at_once.count * self._vocoder.samples:
            return np.inf
        cuts = pieces(columns.count, self._first, self._largest)
        parts = [self._vocoder.run(columns, start, end, options) for start, end in cuts]
        return float(np.abs(np.concatenate(parts) - whole).max() / (np.abs(whole).max() or 1.0))


class _Stage:
    """A part that runs piece by piece."""

    def __init__(self, part: Stage, threads: int) -> None:
        self.samples = part.samples
        self.smallest = max(1, NARROWEST - part.right)
        """Columns of a piece that is wide enough also where it has an edge on one side alone."""
        self._left, self._right = part.left, part.right
        self._session = session(part.graph, threads)
        self._names = [one.name for one in self._session.get_inputs()]

    def run(
        self, source: Columns, start: int, end: int, options: ort.RunOptions, sides: Sides = ()
    ) -> Samples:
        """Return what columns `start` to `end` of the source give."""
        left = max(0, start - self._left)
        right = min(source.count, end + self._right)
        along = [
            one[..., left:right] if one.shape[-1:] == (source.count,) else one for one in sides
        ]
        taken = (source.take(left, right, options), *along)
        feed = {
            name: np.ascontiguousarray(one) for name, one in zip(self._names, taken, strict=True)
        }
        (found,) = _run(self._session, feed, options)
        audio = found.reshape(-1) if found.shape[1] == 1 else found
        first, last = (start - left) * self.samples, (end - left) * self.samples
        return np.asarray(audio[..., first:last], np.float32)


class _Columns:
    """What the vocoder reads; computed from latent frames by the flow, as far as it is read.

    Args:
        flow: None when `source` holds the columns themselves.
        source: shape (1, channels, n).
        sides: further inputs of the flow.
    """

    def __init__(self, flow: _Stage | None, source: Samples, *sides: Samples) -> None:
        self.count = source.shape[-1] * (1 if flow is None else flow.samples)
        self._flow = flow
        self._frames = _Frames(source)
        self._sides = sides
        self._have = [source] if flow is None else []
        self._upto = source.shape[-1] if flow is None else 0  # frames
        self._next = 0 if flow is None else flow.smallest

    def take(self, start: int, end: int, options: ort.RunOptions) -> Samples:
        """Return columns `start` to `end`."""
        while self._flow is not None and self._upto * self._flow.samples < end:
            rest = self._frames.count - self._upto
            size = rest if rest < self._next + self._flow.smallest else self._next
            upto = self._upto + size
            self._have.append(self._flow.run(self._frames, self._upto, upto, options, self._sides))
            self._upto, self._next = upto, GROWTH * self._next
        if len(self._have) > 1:
            self._have = [np.concatenate(self._have, axis=-1)]
        return self._have[0][..., start:end]

    def all(self, options: ort.RunOptions) -> _Frames:
        """Return all columns, computed at once."""
        self._next = self._frames.count
        return _Frames(self.take(0, self.count, options))


class _Frames:
    """Columns that are all there."""

    def __init__(self, values: Samples) -> None:
        self.count = values.shape[-1]
        self._values = values

    def take(self, start: int, end: int, options: ort.RunOptions) -> Samples:
        """Return columns `start` to `end`."""
        del options
        return self._values[..., start:end]


Columns: TypeAlias = _Columns | _Frames
Sides: TypeAlias = tuple[Samples, ...]


def pieces(count: int, first: int, largest: int) -> list[tuple[int, int]]:
    """Cut `count` columns: a small piece first, then larger ones, none above `largest`.

    No piece is smaller than `first`, unless it is the only one.
    """
    found, start, size = [], 0, first
    while start < count:
        end = start + size if start + size + first <= count else count
        found.append((start, end))
        start, size = end, min(GROWTH * size, largest)
    return found


def load(model: Path, threads: int, rate: int, probe: Feed) -> VoiceGraph:
    """Load a voice in pieces if its graph can be cut, else whole.

    Args:
        model: the .onnx file.
        threads: compute threads.
        rate: samples a second.
        probe: a sentence, on which pieces and whole are compared.
    """
    try:
        graph = SplitGraph(split(onnx.load(str(model))), threads, rate)
        error = graph.error(probe)
        problem = f"its pieces are {error:.1e} from the whole" if not error <= TOLERANCE else ""
    except (NotSplittableError, UnavailableError) as reason:
        problem = str(reason)
    if problem:
        _log.warning("the voice gives whole sentences only", voice=model.name, reason=problem)
        return WholeGraph(model, threads)
    return graph


def session(model: str | bytes, threads: int) -> ort.InferenceSession:
    """Open a graph with threads that sleep while there is nothing to do."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(graph: ort.InferenceSession, feed: Feed, options: ort.RunOptions) -> list[Samples]:
    try:
        found = graph.run(None, dict(feed), options)
    except Exception as error:  # ONNX Runtime raises classes of its own without a common base
        raise UnavailableError(f"the Piper voice failed: {error}") from error
    return [np.asarray(one, np.float32) for one in found]
