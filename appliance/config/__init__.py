# SPDX-License-Identifier: Apache-2.0
"""`appliance.toml` as typed settings. One error message names file, line, key, value and the remedy."""

from appliance.config.load import OfferSource, box_section, load, plugins_section
from appliance.config.model import (
    AgentsSection,
    BoxConfig,
    BoxSection,
    Configured,
    LimitsSection,
    PluginsSection,
    RecordingSection,
)
from appliance.config.sources import ConfigError, Problem

__all__ = [
    "AgentsSection",
    "BoxConfig",
    "BoxSection",
    "ConfigError",
    "Configured",
    "LimitsSection",
    "OfferSource",
    "PluginsSection",
    "Problem",
    "RecordingSection",
    "box_section",
    "load",
    "plugins_section",
]
