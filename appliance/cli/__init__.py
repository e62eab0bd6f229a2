# SPDX-License-Identifier: Apache-2.0
"""What a person types: `trunkline COMMAND`. One file a command or group of commands.

A command's module is imported when the command is used, so that `trunkline` starts quickly and a
fault in one command does not take the others with it.
"""

from __future__ import annotations

import os
import sys

from appliance.cli.root import build

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Read by numerical libraries when they load. Engines count their own threads; a pool in each library
beside them makes a small box many times slower."""


def main() -> None:
    """Run the command line (entry point `trunkline`)."""
    for name in ONE_THREAD:
        os.environ.setdefault(name, "1")
    sys.exit(build()(prog_name="trunkline", standalone_mode=True))
