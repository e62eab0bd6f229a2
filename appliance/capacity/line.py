# SPDX-License-Identifier: Apache-2.0
"""Puts another phone line into a configuration, so that a measurement never touches the customer's PBX."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from appliance.config import BoxConfig, Configured
from appliance.plugin import Kind, Offer

NAME = "capacity"


def with_line(config: BoxConfig, offer: Offer, settings: dict[str, Any]) -> BoxConfig:
    """Return `config` with one line in place of all of its own, and no bound on the number of calls.

    Args:
        config: any configuration.
        offer: of a transport.
        settings: of that transport.

    Raises:
        pydantic.ValidationError: the transport does not take these settings.
    """
    line = Configured(NAME, offer, offer.settings.model_validate(settings))
    return replace(
        config,
        configured={**config.configured, Kind.TRANSPORT: {NAME: line}},
        limits=config.limits.model_copy(update={"max_calls": 0}),
    )
