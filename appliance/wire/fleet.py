# SPDX-License-Identifier: Apache-2.0
"""What the hub tells a box: the desired state, commands; and the bundle that desired state points at."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from appliance.wire.message import Part, Sha256, Signed, Time, Uuid


class Desired(Signed):
    """A doorbell: the desired state moved. The box fetches the bundle by HTTPS when `version` is newer.

    Attributes:
        version: only rises.
        bundle_url: where the bundle is, absolute or a path at the hub.
        sha256: of the bundle's bytes as served.
        box_id: whom it is for; "" is whom it was sent to.
    """

    version: int = Field(ge=1)
    bundle_url: str
    sha256: Sha256
    box_id: str = ""


class AgentDocument(Part):
    """An agent as its YAML text. `sha256` is of the text in UTF-8.

    Attributes:
        version: its number, for people.
        id: of this version at the hub; comes back with each call that it answers.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    version: str = ""
    id: str = ""
    yaml: str
    sha256: Sha256


class PluginPin(Part):
    """A plugin that shall be there, by name, version and hash of its wheel ("" is any)."""

    name: str
    version: str
    sha256: str = ""


class ModelPack(Part):
    """A model pack that shall be there."""

    name: str
    version: str = ""


class Bundle(Signed):
    """The whole desired state of a box; applied whole or not at all.

    Attributes:
        version: the one that `Desired` names.
        agents: all that the hub deploys here; the box's own agents are left alone.
        default_agent: takes calls without a route; None leaves it to the box.
        routes: called number or pattern to agent.
        settings: sections of the box's configuration that the hub decides, by `section.key`.
        trunks: trunks by name, each with the settings of its transport.
    """

    version: int = Field(ge=1)
    box_id: Uuid
    created_at: Time
    agents: tuple[AgentDocument, ...] = ()
    default_agent: str | None = None
    routes: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    trunks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    model_packs: tuple[ModelPack, ...] = ()
    plugins: tuple[PluginPin, ...] = ()


class Command(Signed):
    """Do something once. Idempotent by `id`; refused when it came late, twice or with a wrong signature.

    Attributes:
        kind: `restart`, `test_call`, `collect_logs`, `drain`, `rotate`, `capacity_test`; a box answers
            `failed` to one that it does not know.
        box_id: whom it is for.
    """

    id: Uuid
    box_id: Uuid
    kind: str = Field(min_length=1, max_length=64)
    parameters: dict[str, Any] = Field(default_factory=dict)
    issued_at: Time
    expires_at: Time
