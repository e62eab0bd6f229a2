# SPDX-License-Identifier: Apache-2.0
"""A process that records until it is killed, in real time. Used by the tests of the recorder.

The caller's side counts ticks; each number that is printed was given to the recorder.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from appliance.audio.recorder import RecordingWriter


def record(path: Path) -> None:
    recorder = RecordingWriter().open(path)
    began = time.monotonic()
    for tick in range(1, 30_000):
        recorder.write(np.full(320, tick, np.int16), np.full(320, -tick, np.int16))
        sys.stdout.write(f"{tick}\n")
        sys.stdout.flush()
        time.sleep(max(0.0, began + tick * 0.02 - time.monotonic()))


if __name__ == "__main__":
    record(Path(sys.argv[1]))
