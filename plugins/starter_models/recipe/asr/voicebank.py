# SPDX-License-Identifier: Apache-2.0
"""Made-up espeak speakers: random voice variants beside the ones that espeak ships.

A variant is a small text file that scales the formants' frequency, height and width and sets
pitch, tone, breath and roughness. Drawing them at random gives as many speakers as wanted, which
is what a recognizer needs to understand a speaker it never heard.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

_KEPT = ("phondata", "phonindex", "phontab", "intonations", "en_dict")


def _variant(name: str, rng: random.Random) -> str:
    lines = ["language variant", f"name {name}"]
    if rng.random() < 0.3:
        lines.append(f"klatt {rng.choice((1, 2, 3, 4, 5))}")
    return "\n".join(lines + _tract(rng) + _manner(rng)) + "\n"


def _tract(rng: random.Random) -> list[str]:
    """Pitch, formants and spectral balance."""
    lines: list[str] = []
    low = rng.uniform(65, 210)
    lines.append(f"pitch {low:.0f} {low * rng.uniform(1.15, 1.9):.0f}")
    scale = rng.uniform(0.85, 1.3)
    width = rng.uniform(60, 150)
    slope = rng.uniform(-7, 2)
    for n in range(9):
        frequency = 100 * scale * rng.uniform(0.93, 1.07)
        height = min(140, max(25, rng.gauss(100, 12) + slope * n))
        lines.append(
            f"formant {n} {frequency:.0f} {height:.0f} {width * rng.uniform(0.8, 1.3):.0f}"
        )
    if rng.random() < 0.5:
        tone = " ".join(
            f"{f} {rng.randint(60, 255)}"
            for f in (300, 600, 1200, 2000, 3600)
            if rng.random() < 0.7
        )
        if tone:
            lines.append(f"tone {tone}")
    return lines


def _manner(rng: random.Random) -> list[str]:
    """Breath, roughness, echo and intonation."""
    lines: list[str] = []
    if rng.random() < 0.6:
        lines.append(f"voicing {rng.randint(60, 160)}")
        lines.append(f"consonants {rng.randint(50, 120)} {rng.randint(50, 120)}")
    if rng.random() < 0.3:
        lines.append("breath " + " ".join(str(rng.randint(0, 5)) for _ in range(8)))
    if rng.random() < 0.4:
        lines.append(f"roughness {rng.randint(0, 5)}")
    if rng.random() < 0.4:
        lines.append(f"flutter {rng.randint(0, 8)}")
    if rng.random() < 0.25:
        lines.append(f"echo {rng.randint(20, 150)} {rng.randint(5, 25)}")
    if rng.random() < 0.4:
        lines.append(f"intonation {rng.randint(1, 4)}")
    return lines


def build(folder: Path, source: Path, count: int, seed: int) -> list[str]:
    """Copy the English part of espeak's data into `folder` and add `count` random variants.

    Returns the variants' names. `folder` can then be given to `Espeak` as its data directory.
    """
    if not folder.exists():
        (folder / "lang").mkdir(parents=True)
        for name in _KEPT:
            shutil.copy(source / name, folder / name)
        shutil.copytree(source / "lang" / "gmw", folder / "lang" / "gmw")
        shutil.copytree(source / "voices", folder / "voices")
    rng = random.Random(seed)
    names = [f"made{n:03d}" for n in range(count)]
    for name in names:
        (folder / "voices" / "!v" / name).write_text(_variant(name, rng))
    return names
