# SPDX-License-Identifier: Apache-2.0
"""What a worker is started with to host a puppet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.engines.worker.process import WorkerSpec
from appliance.plugin import BuildContext, Kind
from tests.engines.worker_providers import OFFERS, PuppetSettings


def spec(
    kind: Kind, folder: Path, streams: int = 64, memory_mib: int = 0, **settings: Any
) -> WorkerSpec:
    """Return it; `settings` are the puppet's."""
    return WorkerSpec(
        OFFERS[kind],
        PuppetSettings(**settings),
        BuildContext(Path, folder),
        streams=streams,
        memory_mib=memory_mib,
    )
