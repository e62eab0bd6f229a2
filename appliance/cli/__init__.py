# SPDX-License-Identifier: Apache-2.0
"""What a person types: `trunkline COMMAND`. One file a command or group of commands.

A command's module is imported when the command is used, so that `trunkline` starts quickly and a
fault in one command does not take the others with it.
"""

from __future__ import annotations

import sys

from appliance.cli.root import build


def main() -> None:
    """Run the command line (entry point `trunkline`)."""
    sys.exit(build()(prog_name="trunkline", standalone_mode=True))
