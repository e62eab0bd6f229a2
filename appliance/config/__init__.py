# SPDX-License-Identifier: Apache-2.0
"""`appliance.toml` as typed settings. One error message names file, line, key, value and the remedy."""

from appliance.config.load import OfferSource, box_section, load, plugins_section
from appliance.config.model import (
    INLINE,
    WORKER,
    AgentsSection,
    BoxConfig,
    BoxSection,
    Configured,
    LimitsSection,
    Placement,
    PluginsSection,
    RecordingSection,
    WorkerSection,
)
from appliance.config.sources import ConfigError, Problem

__all__ = [
    "INLINE",
    "WORKER",
    "AgentsSection",
    "BoxConfig",
    "BoxSection",
    "ConfigError",
    "Configured",
    "LimitsSection",
    "OfferSource",
    "Placement",
    "PluginsSection",
    "Problem",
    "RecordingSection",
    "WorkerSection",
    "box_section",
    "load",
    "plugins_section",
]
