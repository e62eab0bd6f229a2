# SPDX-License-Identifier: Apache-2.0
"""`python -m recipe.asr --work FOLDER`: speak, train, export and measure the recognizer."""

from __future__ import annotations

import argparse
from pathlib import Path

from recipe.asr import evaluate, export, synthesize, train

_TARGET = Path(__file__).parents[2] / "trunkline_starter_models" / "models" / "asr"


def main(argv: list[str] | None = None) -> None:
    """Run the four steps in order; each continues what an earlier run left in the work folder."""
    parser = argparse.ArgumentParser(prog="python -m recipe.asr", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="corpus and checkpoints go here")
    parser.add_argument("--target", type=Path, default=_TARGET, help="the model is written here")
    args = parser.parse_args(argv)
    work, target = ["--work", str(args.work)], ["--target", str(args.target)]
    synthesize.main(work)
    train.main(work)
    export.main(work + target)
    evaluate.main(work + target)


if __name__ == "__main__":
    main()
