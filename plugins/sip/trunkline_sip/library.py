# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and load pjsua2: the project's own 256-call build where there is one, else the ready wheel.

Order: the folder in the environment variable TRUNKLINE_PJSUA2, `.cache/pjsua2-*` in the working
folder or the source tree (what `./run build-pjsua2` leaves), the installed package.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.plugin import ConfigurationError

VARIABLE = "TRUNKLINE_PJSUA2"
INSTALLED = "installed"
"""Value of the variable that asks for the installed package, whatever else is there."""


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded library.

    Attributes:
        pj: the module `pjsua2`.
        capacity: calls at once that it was compiled for.
        source: the folder it came from.
    """

    pj: Any
    capacity: int
    source: Path

    def quiet(self) -> None:
        """Keep PJSIP from printing before it has our log writer; no harm where that fails."""
        binary = sys.modules.get("_pjsua2") or sys.modules.get("pjsua2._pjsua2")
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(str(getattr(binary, "__file__", ""))).pj_log_set_level(0)


def candidates() -> Iterator[Path]:
    """Yield folders that may hold a build of our own, best first."""
    named = os.environ.get(VARIABLE)
    if named:
        yield from () if named == INSTALLED else (Path(named),)
        return
    for root in (Path.cwd(), Path(__file__).resolve().parents[3]):
        yield from sorted((root / ".cache").glob("pjsua2-*.*"), reverse=True)


def usable(folder: Path) -> bool:
    """Return whether `folder` holds a build for this Python."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return (folder / "pjsua2.py").is_file() and (folder / f"_pjsua2{suffix}").is_file()


def load() -> Library:
    """Load the library; a second call returns the same one.

    Raises:
        ConfigurationError: none is installed, the named folder holds none, or it does not load.
    """
    named = os.environ.get(VARIABLE)
    folder = next((folder for folder in candidates() if usable(folder)), None)
    if named and named != INSTALLED and folder is None:
        raise ConfigurationError(
            f"{VARIABLE} names {named}, which holds no pjsua2 for this Python",
            remedy="build it by `./run build-pjsua2`, or unset the variable",
        )
    if folder is not None and "pjsua2" not in sys.modules:
        sys.path.insert(0, str(folder))
    try:
        pj = importlib.import_module("pjsua2")
    except ImportError as error:
        raise ConfigurationError(
            f"the SIP library pjsua2 does not load: {error}",
            remedy="install the package `pjsua2-python`, or run `./run build-pjsua2`",
        ) from error
    finally:
        if folder is not None and sys.path[0] == str(folder):
            sys.path.pop(0)
    # PJSIP sets the default of this field to the number of calls compiled in (PJSUA_MAX_CALLS).
    return Library(pj, int(pj.UaConfig().maxCalls), Path(str(pj.__file__)).parent)
