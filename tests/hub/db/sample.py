# SPDX-License-Identifier: Apache-2.0
"""One row of everything, for an organization: what the isolation tests try to reach from another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import NullPool, create_engine
from sqlalchemy.orm import Session

from cloud_hub.db import models as m
from cloud_hub.db.dsn import sqlalchemy_url
from cloud_hub.db.ids import uuid7

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=30)


@dataclass(frozen=True)
class Sample:
    """The ids of what was made."""

    api_key_prefix: str
    serial: str
    organization_id: UUID = field(default_factory=uuid7)
    user_id: UUID = field(default_factory=uuid7)
    appliance_id: UUID = field(default_factory=uuid7)
    agent_id: UUID = field(default_factory=uuid7)
    agent_version_id: UUID = field(default_factory=uuid7)
    group_id: UUID = field(default_factory=uuid7)
    team_id: UUID = field(default_factory=uuid7)
    bundle_id: UUID = field(default_factory=uuid7)
    deployment_id: UUID = field(default_factory=uuid7)
    upload_id: UUID = field(default_factory=uuid7)
    call_id: UUID = field(default_factory=uuid7)


def digest(*parts: object) -> bytes:
    """A hash that no other parts give."""
    return hashlib.sha256(repr(parts).encode()).digest()


def fill(administrator_dsn: str, name: str) -> Sample:
    """Make an organization with a row in every tenant table, as the database's administrator."""
    ids = Sample(f"key{name}", digest(name).hex())
    engine = create_engine(sqlalchemy_url(administrator_dsn), poolclass=NullPool)
    with Session(engine) as session, session.begin():
        # One statement to set the tenant: the audit log's trigger works in its name.
        session.connection().exec_driver_sql(
            "SELECT set_config('app.organization_id', %s, true)", (str(ids.organization_id),)
        )
        for generation in (_people(ids, name), _things(ids), _details(ids), _calls(ids)):
            for row in generation:
                session.add(row)
                session.flush()
    return ids


def _people(ids: Sample, name: str) -> list[m.Base]:
    organization_id, user_id = ids.organization_id, ids.user_id
    return [
        m.User(id=user_id, email=f"{name}@example.com"),
        m.Credential(user_id=user_id, password_hash="x"),
        m.Session(
            user_id=user_id,
            token_hash=digest(name, "session"),
            idle_until=LATER,
            absolute_until=LATER,
        ),
        m.TotpFactor(user_id=user_id, secret=b"x"),
        m.RecoveryCode(user_id=user_id, code_hash=b"x"),
        m.UserToken(
            user_id=user_id,
            purpose="reset_password",
            token_hash=digest(name, "token"),
            expires_at=LATER,
        ),
        m.Organization(id=organization_id, name=name),
        m.Membership(organization_id=organization_id, user_id=user_id, role="owner"),
        m.Team(organization_id=organization_id, id=ids.team_id, name="support"),
        m.TeamMember(organization_id=organization_id, team_id=ids.team_id, user_id=user_id),
        m.Invitation(
            organization_id=organization_id,
            email="new@example.com",
            role="viewer",
            token_hash=digest(name, "invitation"),
            invited_by=user_id,
            expires_at=LATER,
        ),
        m.ApiKey(
            organization_id=organization_id,
            name="ci",
            prefix=ids.api_key_prefix,
            secret_hash=b"x",
            scopes=["calls:read"],
            created_by=user_id,
        ),
        m.IdempotencyKey(
            organization_id=organization_id, key="once", request_hash=b"x", expires_at=LATER
        ),
        m.AuditEntry(organization_id=organization_id, actor_kind="system", action="made"),
    ]


def _things(ids: Sample) -> list[m.Base]:
    organization_id = ids.organization_id
    return [
        m.ApplianceGroup(organization_id=organization_id, id=ids.group_id, name="stores"),
        m.Appliance(
            organization_id=organization_id,
            id=ids.appliance_id,
            name="box",
            group_id=ids.group_id,
        ),
        m.Agent(organization_id=organization_id, id=ids.agent_id, name="reception"),
        m.AgentVersion(
            organization_id=organization_id,
            id=ids.agent_version_id,
            agent_id=ids.agent_id,
            number=1,
            content={},
            sha256=b"x",
        ),
        m.Deployment(
            organization_id=organization_id,
            id=ids.deployment_id,
            agent_id=ids.agent_id,
            agent_version_id=ids.agent_version_id,
            appliance_group_id=ids.group_id,
        ),
        m.DeploymentTarget(
            organization_id=organization_id,
            deployment_id=ids.deployment_id,
            appliance_id=ids.appliance_id,
        ),
    ]


def _details(ids: Sample) -> list[m.Base]:
    organization_id, appliance_id = ids.organization_id, ids.appliance_id
    return [
        m.Claim(
            organization_id=organization_id,
            appliance_id=appliance_id,
            status="issued",
            expires_at=LATER,
        ),
        m.Certificate(
            organization_id=organization_id,
            appliance_id=appliance_id,
            serial=ids.serial,
            public_key_sha256=b"x",
            pem="",
            not_before=NOW,
            not_after=LATER,
        ),
        m.Bundle(
            organization_id=organization_id,
            id=ids.bundle_id,
            appliance_id=appliance_id,
            version=1,
            sha256=b"x",
            signature=b"x",
            content=b"{}",
        ),
        m.DesiredState(
            organization_id=organization_id,
            appliance_id=appliance_id,
            version=1,
            bundle_id=ids.bundle_id,
        ),
        m.ReportedState(
            organization_id=organization_id,
            appliance_id=appliance_id,
            version=1,
            status="applied",
            reported_at=NOW,
        ),
        m.Command(
            organization_id=organization_id,
            appliance_id=appliance_id,
            kind="restart",
            expires_at=LATER,
        ),
        m.StreamPosition(
            organization_id=organization_id,
            appliance_id=appliance_id,
            stream="calls",
            epoch=uuid7(),
        ),
        m.QuarantinedRow(
            organization_id=organization_id,
            appliance_id=appliance_id,
            stream="calls",
            epoch=uuid7(),
            seq=1,
            kind="future",
            at=NOW,
            reason="unknown",
        ),
    ]


def _calls(ids: Sample) -> list[m.Base]:
    organization_id, appliance_id, call_id = ids.organization_id, ids.appliance_id, ids.call_id
    return [
        m.Call(
            organization_id=organization_id,
            id=call_id,
            appliance_id=appliance_id,
            agent_id=ids.agent_id,
            agent_version_id=ids.agent_version_id,
            direction="inbound",
            status="active",
            caller="+491234",
            started_at=NOW,
        ),
        m.Turn(
            organization_id=organization_id,
            call_id=call_id,
            seq=0,
            role="caller",
            text="secret words",
            started_ms=0,
        ),
        m.CallEvent(
            organization_id=organization_id, call_id=call_id, seq=0, t_ms=0, kind="call.began"
        ),
        m.Usage(
            organization_id=organization_id,
            appliance_id=appliance_id,
            call_id=call_id,
            provider="local",
            kind="llm",
            unit="tokens",
            quantity=12,
            occurred_at=NOW,
        ),
        m.Upload(
            organization_id=organization_id,
            id=ids.upload_id,
            appliance_id=appliance_id,
            call_id=call_id,
            length=10,
            sha256=b"x",
            expires_at=LATER,
        ),
        m.Recording(
            organization_id=organization_id,
            appliance_id=appliance_id,
            call_id=call_id,
            upload_id=ids.upload_id,
            storage_key="r/1",
            sha256=b"x",
            size=10,
            content_type="audio/wav",
        ),
        m.Booking(
            organization_id=organization_id,
            appliance_id=appliance_id,
            idempotency_key="b1",
            call_id=call_id,
            date="2026-12-01",
            time="10:00",
            name="Ada",
            created_at=NOW,
        ),
    ]
