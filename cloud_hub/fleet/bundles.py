# SPDX-License-Identifier: Apache-2.0
"""Signed bundles: what a box shall be, as the bytes that it fetches. Made once, never changed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML

from appliance.wire import AgentDocument, Bundle, Desired, ModelPack, PluginPin, now_text
from cloud_hub.fleet.signing import SigningKey

YAML_KEY = "yaml"
"""A version whose content holds this key alone was written as text and is sent as it is."""


class Wishes(BaseModel):
    """What one box shall be: the document of `desired_state`. Field names are those of `wire.Bundle`.

    Attributes:
        agents: agent to its version, by id.
    """

    model_config = ConfigDict(extra="forbid")

    agents: dict[UUID, UUID] = Field(default_factory=dict)
    default_agent: str | None = None
    routes: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    trunks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    model_packs: tuple[ModelPack, ...] = ()
    plugins: tuple[PluginPin, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentText:
    """A version of an agent as the database has it."""

    id: UUID
    name: str
    number: int
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle ready to be kept and served."""

    version: int
    content: bytes
    sha256: bytes
    signature: bytes


def path_of(version: int) -> str:
    """Return where a box finds its bundle."""
    return f"/v1/box/bundles/{version}"


def document(agent: AgentText) -> AgentDocument:
    """Return an agent as a box reads it.

    Raises:
        ValidationError: its name is none that a box takes.
    """
    text = agent_yaml(agent.content)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return AgentDocument(
        name=agent.name, version=str(agent.number), id=str(agent.id), yaml=text, sha256=digest
    )


def agent_yaml(content: Mapping[str, Any]) -> str:
    """Return an agent's content as the text of a box's agent file."""
    if content.keys() == {YAML_KEY}:
        return str(content[YAML_KEY])
    out = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.width = 100
    writer.dump(dict(content), out)
    return out.getvalue()


def make(
    key: SigningKey, box_id: UUID, version: int, wishes: Wishes, agents: Sequence[AgentText]
) -> Made:
    """Build and sign a bundle for one box."""
    more = wishes.model_dump(mode="json", exclude={"agents"})
    bundle = Bundle(
        version=version,
        box_id=str(box_id),
        created_at=now_text(),
        agents=tuple(document(agent) for agent in sorted(agents, key=lambda each: each.name)),
        **more,
    )
    signed = key.sign(bundle)
    content = signed.encode()
    return Made(version, content, hashlib.sha256(content).digest(), signed.signature.encode())


def announcement(key: SigningKey, box_id: UUID, version: int, sha256: bytes) -> Desired:
    """Return the signed message that tells a box of its bundle."""
    return key.sign(
        Desired(
            version=version, bundle_url=path_of(version), sha256=sha256.hex(), box_id=str(box_id)
        )
    )
