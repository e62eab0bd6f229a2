# SPDX-License-Identifier: Apache-2.0
"""Every table of the hub, typed."""

from cloud_hub.db.models.agents import Agent, AgentVersion, Deployment, DeploymentTarget
from cloud_hub.db.models.base import Base
from cloud_hub.db.models.calls import Booking, Call, CallEvent, Recording, Turn, Upload, Usage
from cloud_hub.db.models.fleet import (
    Appliance,
    ApplianceGroup,
    Bundle,
    Certificate,
    Claim,
    Command,
    DesiredState,
    QuarantinedRow,
    ReportedState,
    StreamPosition,
)
from cloud_hub.db.models.organizations import (
    ROLES,
    ApiKey,
    AuditEntry,
    AuditHead,
    IdempotencyKey,
    Invitation,
    Membership,
    Organization,
    Team,
    TeamMember,
)
from cloud_hub.db.models.people import (
    Credential,
    RecoveryCode,
    Session,
    SetupLink,
    TotpFactor,
    User,
    UserToken,
)
from cloud_hub.db.models.processes import JobRun, RateLimit

__all__ = [
    "ROLES",
    "Agent",
    "AgentVersion",
    "ApiKey",
    "Appliance",
    "ApplianceGroup",
    "AuditEntry",
    "AuditHead",
    "Base",
    "Booking",
    "Bundle",
    "Call",
    "CallEvent",
    "Certificate",
    "Claim",
    "Command",
    "Credential",
    "Deployment",
    "DeploymentTarget",
    "DesiredState",
    "IdempotencyKey",
    "Invitation",
    "JobRun",
    "Membership",
    "Organization",
    "QuarantinedRow",
    "RateLimit",
    "Recording",
    "RecoveryCode",
    "ReportedState",
    "Session",
    "SetupLink",
    "StreamPosition",
    "Team",
    "TeamMember",
    "TotpFactor",
    "Turn",
    "Upload",
    "Usage",
    "User",
    "UserToken",
]
