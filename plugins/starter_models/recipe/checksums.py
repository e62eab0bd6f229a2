# SPDX-License-Identifier: Apache-2.0
"""Writes `trunkline_starter_models/checksums.py` from the model files: the last step of an export.

Run it in this package's folder: `python -m recipe.checksums`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "trunkline_starter_models"

REPORTS = {"MODEL_CARD.md", "eval.json"}
"""What is said about a model is not the model: it may change without it."""

HEADER = '''# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of the model files. Written by `python -m recipe.checksums`; do not edit."""
'''


def render(package: Path = PACKAGE) -> str:
    """Return the text of `checksums.py` for the model files that are there now."""
    parts = [HEADER]
    for name in ("asr", "llm"):
        folder = package / "models" / name
        files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name not in REPORTS)
        lines = [
            f'    "{file.relative_to(folder).as_posix()}": "{_sha256(file)}",' for file in files
        ]
        body = "{\n" + "\n".join(lines) + "\n}" if lines else "{}"
        parts.append(f"{name.upper()}: dict[str, str] = {body}\n")
    return "\n".join(parts)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    """Write the file."""
    (PACKAGE / "checksums.py").write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
