# SPDX-License-Identifier: Apache-2.0
"""Who may do what: every operation of the API, by role, in one table.

An operation that is not in the table is refused to everybody, and the application does not start
with a route that is missing here. An API key may do what its scopes name, as long as the operation
has a scope; a person may do what the role in the organization allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from cloud_hub.db.models import ROLES


class Access(Enum):
    """Who is let in at all."""

    PUBLIC = "public"
    """Anybody: the door itself."""
    PERSON = "person"
    """Whoever is signed in, for their own affairs; never an API key."""
    MEMBER = "member"
    """A member with one of the roles, or an API key with the scope."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may do an operation.

    Attributes:
        scope: that an API key needs; "" keeps the operation from all keys.
        roles: of members.
    """

    access: Access
    scope: str = ""
    roles: frozenset[str] = frozenset()


_LETTERS: Final = dict(zip("oadpnvbu", ROLES, strict=True))
"""owner, admin, developer, operator, analyst, viewer, billing, auditor (u, as its second letter)."""


def _member(roles: str, scope: str = "") -> Rule:
    return Rule(Access.MEMBER, scope, frozenset(_LETTERS[each] for each in roles if each != "."))


_PUBLIC: Final = Rule(Access.PUBLIC)
_PERSON: Final = Rule(Access.PERSON)

# Columns: owner admin developer operator(p) analyst(n) viewer billing auditor(u)
RULES: Final[dict[str, Rule]] = {
    # The door
    "get_health": _PUBLIC,
    "show_set_up_page": _PUBLIC,
    "show_invitation_page": _PUBLIC,
    "show_password_page": _PUBLIC,
    "show_email_page": _PUBLIC,
    "set_up": _PUBLIC,
    "sign_up": _PUBLIC,
    "sign_in": _PUBLIC,
    "get_invitation_offer": _PUBLIC,
    "accept_invitation": _PUBLIC,
    "forgot_password": _PUBLIC,
    "reset_password": _PUBLIC,
    "verify_email": _PUBLIC,
    # One's own affairs
    "get_session": _PERSON,
    "sign_out": _PERSON,
    "list_sessions": _PERSON,
    "revoke_session": _PERSON,
    "change_password": _PERSON,
    "begin_second_factor": _PERSON,
    "confirm_second_factor": _PERSON,
    "remove_second_factor": _PERSON,
    "join_organization": _PERSON,
    "list_organizations": _PERSON,
    "create_organization": _PERSON,
    # Organization and people
    "get_organization": _member("oadpnvbu", "organization:read"),
    "update_organization": _member("oa......"),
    "list_members": _member("oadpnvbu", "members:read"),
    "get_member": _member("oadpnvbu", "members:read"),
    "update_member": _member("oa......"),
    "remove_member": _member("oa......"),
    "list_invitations": _member("oa.....u", "members:read"),
    "create_invitation": _member("oa......"),
    "revoke_invitation": _member("oa......"),
    "list_teams": _member("oadpnvbu", "members:read"),
    "create_team": _member("oa......", "members:write"),
    "get_team": _member("oadpnvbu", "members:read"),
    "update_team": _member("oa......", "members:write"),
    "delete_team": _member("oa......", "members:write"),
    "add_team_member": _member("oa......", "members:write"),
    "remove_team_member": _member("oa......", "members:write"),
    # Keys: a key cannot make keys, or a stolen one could outlive its revocation
    "list_keys": _member("oad....u"),
    "create_key": _member("oad....."),
    "get_key": _member("oad....u"),
    "update_key": _member("oad....."),
    "revoke_key": _member("oad....."),
    # Agents
    "list_agents": _member("oadpnv.u", "agents:read"),
    "create_agent": _member("oad.....", "agents:write"),
    "get_agent": _member("oadpnv.u", "agents:read"),
    "update_agent": _member("oad.....", "agents:write"),
    "delete_agent": _member("oad.....", "agents:write"),
    "list_agent_versions": _member("oadpnv.u", "agents:read"),
    "create_agent_version": _member("oad.....", "agents:write"),
    "get_agent_version": _member("oadpnv.u", "agents:read"),
    "list_deployments": _member("oadpnv.u", "deployments:read"),
    "create_deployment": _member("oad.....", "deployments:write"),
    "get_deployment": _member("oadpnv.u", "deployments:read"),
    "halt_deployment": _member("oadp....", "deployments:write"),
    # Boxes
    "list_appliances": _member("oadpnv.u", "fleet:read"),
    "claim_appliance": _member("oa.p....", "fleet:write"),
    "create_claim_token": _member("oa.p....", "fleet:write"),
    "get_appliance": _member("oadpnv.u", "fleet:read"),
    "update_appliance": _member("oa.p....", "fleet:write"),
    "retire_appliance": _member("oa......", "fleet:write"),
    "list_appliance_groups": _member("oadpnv.u", "fleet:read"),
    "create_appliance_group": _member("oa.p....", "fleet:write"),
    "get_appliance_group": _member("oadpnv.u", "fleet:read"),
    "update_appliance_group": _member("oa.p....", "fleet:write"),
    "delete_appliance_group": _member("oa.p....", "fleet:write"),
    "list_commands": _member("oadp...u", "fleet:read"),
    "create_command": _member("oa.p....", "fleet:command"),
    "get_command": _member("oadp...u", "fleet:read"),
    # Calls
    "list_calls": _member("oadpnv..", "calls:read"),
    "get_call": _member("oadpnv..", "calls:read"),
    "get_transcript": _member("oadpn...", "transcripts:read"),
    "list_call_events": _member("oadp....", "transcripts:read"),
    "list_recordings": _member("oa.pn...", "recordings:read"),
    "get_recording": _member("oa.pn...", "recordings:read"),
    "get_recording_content": _member("oa.pn...", "recordings:read"),
    # Money and accountability
    "list_usage": _member("oa..n.bu", "usage:read"),
    "get_usage_totals": _member("oa..n.bu", "usage:read"),
    "list_audit_entries": _member("oa.....u", "audit:read"),
    "verify_audit_log": _member("oa.....u", "audit:read"),
}

SCOPES: Final = tuple(sorted({rule.scope for rule in RULES.values() if rule.scope}))
"""All that an API key can be given."""

GRANTABLE: Final[dict[str, frozenset[str]]] = {
    "owner": frozenset(ROLES),
    "admin": frozenset(ROLES) - {"owner"},
}
"""Which roles a member of a role may give to others or take from them."""


def scopes_of(role: str) -> frozenset[str]:
    """Return the scopes whose every operation a role may do: the most that its keys can have."""
    granted = {rule.scope for rule in RULES.values() if rule.scope}
    denied = {rule.scope for rule in RULES.values() if rule.scope and role not in rule.roles}
    return frozenset(granted - denied)
