# SPDX-License-Identifier: Apache-2.0
"""The detector: one session run scores all calls; their states lie together in three arrays.

A call holds a row of these arrays. A tick gathers the rows of its calls and scatters them back, three array
operations each way however many calls there are.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray

from appliance.plugin import (
    InvalidRequestError,
    ModelNotFoundError,
    Pcm,
    UnavailableError,
    VadCapabilities,
)
from trunkline_silero.graph import STATE, batched_graph

WINDOW = 512
CONTEXT = 64
"""Samples of the previous window that stand before each window (Silero VAD v5 and later)."""


def bundled_model() -> Path:
    """Return the ONNX file inside the installed faster-whisper package, without importing it.

    Raises:
        ModelNotFoundError: the package or the file is missing.
    """
    spec = importlib.util.find_spec("faster_whisper")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "assets" / "silero_vad_v6.onnx"
        if path.is_file():
            return path
    raise ModelNotFoundError(
        "the faster-whisper package with silero_vad_v6.onnx is not installed",
        remedy="install faster-whisper 1.2.1 or later, or name a file in the setting `model`",
    )


_ROWS = 16
"""Rows to begin with; their number doubles when they are all held."""


class _Bank:
    """What the calls carry from window to window: the last 64 samples and the LSTM state, a row each."""

    def __init__(self) -> None:
        self.context = np.zeros((0, CONTEXT), np.float32)
        self.hidden = np.zeros((0, STATE), np.float32)
        self.cell = np.zeros((0, STATE), np.float32)
        self._free: list[int] = []

    def rent(self) -> int:
        """Return a row of zeros."""
        if not self._free:
            rows = len(self.context)
            more = max(_ROWS, rows)
            self.context, self.hidden, self.cell = (
                np.concatenate([old, np.zeros((more, old.shape[1]), np.float32)])
                for old in (self.context, self.hidden, self.cell)
            )
            self._free = list(range(rows + more - 1, rows - 1, -1))
        row = self._free.pop()
        for array in (self.context, self.hidden, self.cell):
            array[row] = 0
        return row

    def give_back(self, row: int) -> None:
        """Let another call have the row."""
        self._free.append(row)


class SileroState:
    """One call's row; given back when nobody holds the state any more."""

    __slots__ = ("_bank", "row")

    def __init__(self, bank: _Bank) -> None:
        self._bank = bank
        self.row = bank.rent()

    def __del__(self) -> None:
        self._bank.give_back(self.row)


class SileroDetector:
    """Scores speech for all calls at once.

    Args:
        model: the ONNX file as published; its graph is changed in memory.
    """

    capabilities = VadCapabilities(window=WINDOW, sample_rate=16_000)

    def __init__(self, model: Path) -> None:
        self._bank = _Bank()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session: ort.InferenceSession | None = ort.InferenceSession(
            batched_graph(model), options, providers=["CPUExecutionProvider"]
        )

    def open(self) -> SileroState:
        """Return the state of a new call."""
        return SileroState(self._bank)

    def score(self, states: Sequence[SileroState], windows: Pcm) -> NDArray[np.float32]:
        """Score the next window of each call; `states` are updated in place.

        Args:
            states: n states, each at most once.
            windows: shape (n, 512), int16, 16 kHz.

        Returns:
            Speech probabilities, shape (n,).

        Raises:
            InvalidRequestError: the shape of `windows` does not fit.
            UnavailableError: the detector is closed.
        """
        count = len(states)
        if windows.shape != (count, WINDOW):
            raise InvalidRequestError(f"windows {windows.shape} for {count} states")
        if self._session is None:
            raise UnavailableError("the voice activity detector is closed")
        if count == 0:
            return np.zeros(0, np.float32)
        bank = self._bank
        rows = np.fromiter((state.row for state in states), np.intp, count)
        frames = np.empty((count, CONTEXT + WINDOW), np.float32)
        np.multiply(windows, np.float32(1 / 32768), out=frames[:, CONTEXT:], casting="unsafe")
        frames[:, :CONTEXT] = bank.context[rows]
        feed = {"input": frames, "h": bank.hidden[rows][None], "c": bank.cell[rows][None]}
        scores, hidden, cell = self._session.run(None, feed)
        bank.context[rows] = frames[:, WINDOW:]
        bank.hidden[rows] = hidden[0]
        bank.cell[rows] = cell[0]
        return np.asarray(scores, np.float32)

    async def aclose(self) -> None:
        """Release the model. Idempotent."""
        self._session = None
