# SPDX-License-Identifier: Apache-2.0
"""Everything in one command: train, export, write the checksums, score.

`python -m recipe.llm --work WORK_FOLDER`; a stopped run continues where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recipe import checksums
from recipe.llm import evaluate, export, train

FOLDER = checksums.PACKAGE / "models" / "llm"


def main() -> None:
    """Make the language model from nothing and put it into the package."""
    parser = argparse.ArgumentParser(prog="recipe.llm", description=main.__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument(
        "--off-grammar",
        type=Path,
        nargs="*",
        default=[],
        help="hand-written dialogues to score as well",
    )
    options = parser.parse_args()
    train.main([str(options.work)])
    export.main([str(options.work), str(FOLDER)])
    scored = [str(FOLDER / export.NAME), "--json", str(FOLDER / "eval.json")]
    if options.off_grammar:
        scored += ["--off-grammar", *map(str, options.off_grammar)]
    evaluate.main(scored)
    checksums.main()


if __name__ == "__main__":
    main()
