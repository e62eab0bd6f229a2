# SPDX-License-Identifier: Apache-2.0
"""Writes the Python side of the engine workers' protocol: `python tools/protos.py`; `--check` compares.

appliance/engines/worker/engine.proto becomes engine_pb2.py and engine_pb2.pyi beside it. They are
committed, so that an installed box needs no compiler for them.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = Path("appliance/engines/worker/engine.proto")
HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Written by tools/protos.py from engine.proto; do not edit.
# mypy: ignore-errors
"""


def main() -> int:
    """Write the files, or with `--check` return 1 when they are not what the schema says."""
    stale = []
    for name, text in generated().items():
        path = ROOT / PROTO.parent / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{PROTO.parent / name}: {'stale' if '--check' in sys.argv else 'written'}")
    return int(bool(stale) and "--check" in sys.argv)


def generated() -> dict[str, str]:
    """Return the text of each generated file by its name."""
    with tempfile.TemporaryDirectory() as folder:
        outs = [f"--{kind}_out={folder}" for kind in ("python", "pyi")]
        includes = [f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]
        code = protoc.main(["protoc", *includes, *outs, str(ROOT / PROTO)])
        if code:
            raise SystemExit(code)
        made = sorted((Path(folder) / PROTO.parent).iterdir())
        return {path.name: HEADER + path.read_text(encoding="utf-8") for path in made}


if __name__ == "__main__":
    raise SystemExit(main())
