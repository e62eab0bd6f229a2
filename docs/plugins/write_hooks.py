# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: INP001, T201  (a script)
"""Writes hooks.md from the docstrings of `appliance/plugin/hookspecs.py`.

`python docs/plugins/write_hooks.py` writes it; with `--check` it only says whether it is current (exit
code 1 when it is not).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pluggy

from appliance.plugin import hookspecs

PAGE = Path(__file__).with_name("hooks.md")
HEAD = """# Hooks

<!-- Written by write_hooks.py from appliance/plugin/hookspecs.py: change the docstrings there. -->
"""


def hooks() -> list[Callable[..., Any]]:
    """Return the hook specifications in the order of their file."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    marked = [
        function
        for name, function in inspect.getmembers(hookspecs, inspect.isfunction)
        if manager.parse_hookspec_opts(hookspecs, name) is not None
    ]
    return sorted(marked, key=lambda function: function.__code__.co_firstlineno)


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [HEAD, inspect.cleandoc(hookspecs.__doc__ or "")]
    for hook in hooks():
        arguments = str(inspect.signature(hook)).replace("'", "")  # they are kept as text
        parts.append(f"## {hook.__name__}\n\n```python\ndef {hook.__name__}{arguments}\n```")
        parts.append(inspect.cleandoc(hook.__doc__ or ""))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main() -> int:
    """Write the page, or check it."""
    wanted = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{PAGE.name} is not current: run python docs/plugins/{Path(__file__).name}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
