# SPDX-License-Identifier: Apache-2.0
"""Reads the catalogue of a database and says where tenants could leak into each other.

Each rule is a query that returns what breaks it. A migration that forgets a policy fails the tests,
and `check` can be run against a database in use, as its owner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from cloud_hub.db.dsn import libpq_url

TENANT_RULE: Final = "(organization_id = ( SELECT app.organization_id() AS organization_id))"
"""How PostgreSQL prints the one policy of every tenant table."""

OTHER_POLICIES: Final[Mapping[str, str]] = {
    "organizations.tenant_isolation": "an organization's id is its own",
    "claims.box_asks": "a box that asks has no tenant yet; the row cannot be read back",
    "audit_heads.chain": "the trigger of the audit log writes the head as the owner",
}
"""Policies for other rules than the tenant's, and why that is right."""

GLOBAL_KEYS: Final[Mapping[str, str]] = {
    "memberships_user_id_idx": "a person's organizations, asked by app.my_organizations()",
    "invitations_token_hash_key": "hash of a random token, known before the tenant is",
    "api_keys_prefix_key": "random, made by the hub, known before the tenant is",
    "appliances_id_key": "random, made by the hub: a box names no tenant",
    "certificates_serial_key": "random, made by the hub: a certificate names no tenant",
    "certificates_revoked_idx": "what was revoked lately, in all tenants, asked by the broker",
    "claims_pkey": "a claim begins without a tenant",
    "claims_code_key": "random, made by the hub, entered before the tenant is known",
    "claims_poll_hash_key": "hash of a random secret, known before the tenant is",
    "claims_token_hash_key": "hash of a random token, known before the tenant is",
}
"""Indexes over all tenants. None holds a value that a tenant chooses, so none answers a guess."""

SOFT_REFERENCES: Final[Mapping[str, str]] = {
    "usage.call_id": "usage outlives the calls that retention removes",
    "uploads.call_id": "arrives by HTTPS, its call by MQTT, in either order",
    "recordings.call_id": "as its upload",
    "bookings.call_id": "outlives its call, like usage",
    "audit_log.actor_id": "text: names users, keys and boxes, also those that are gone",
    "audit_log.target_id": "text: names anything, also what is gone",
    "audit_log.request_id": "text: names a request",
    "calls.protocol_id": "text: the SIP Call-ID",
}
"""Columns named like references without a foreign key. They are only ever joined with the tenant."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that breaks one rule."""

    rule: str
    what: str


# Tables of the application, and of these the tenants': partitions follow their parents.
_VIEWS: Final = """
CREATE TEMP VIEW app_tables AS
    SELECT c.oid, c.relname::text AS name, c.relkind, c.relispartition, c.relrowsecurity,
        c.relforcerowsecurity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version';
CREATE TEMP VIEW tenant_tables AS
    SELECT t.* FROM app_tables t
    WHERE NOT t.relispartition AND (t.name = 'organizations' OR EXISTS (
        SELECT 1 FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'organization_id'));
CREATE TEMP VIEW services AS
    SELECT oid, rolname::text AS name FROM pg_roles
    WHERE rolname IN ('trunkline_api', 'trunkline_ingest', 'trunkline_jobs');
CREATE TEMP VIEW policies AS
    SELECT t.name AS table_name, t.oid AS table_oid, p.polname::text AS name, p.polroles, p.polcmd,
        t.name || '.' || p.polname AS full_name, p.polpermissive,
        pg_get_expr(p.polqual, p.polrelid) AS visible,
        pg_get_expr(p.polwithcheck, p.polrelid) AS writable
    FROM pg_policy p JOIN app_tables t ON t.oid = p.polrelid;
CREATE TEMP VIEW foreign_keys AS
    SELECT k.oid, k.conname::text AS name, k.conrelid, k.confrelid, k.conkey,
        ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, o)
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY o) AS columns,
        ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, o)
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY o) AS targets
    FROM pg_constraint k JOIN tenant_tables t ON t.oid = k.conrelid
    WHERE k.contype = 'f' AND k.conparentid = 0;
"""

RULES: Final[Mapping[str, str]] = {
    "row-level security is on and forced": """
        SELECT name FROM app_tables WHERE NOT (relrowsecurity AND relforcerowsecurity)
    """,
    "each role that may touch a tenant's table has the tenant's policy": """
        SELECT t.name || ' for ' || s.name FROM tenant_tables t CROSS JOIN services s
        WHERE has_any_column_privilege(s.oid, t.oid, 'SELECT, INSERT, UPDATE')
            AND NOT EXISTS (
                SELECT 1 FROM policies p WHERE p.table_oid = t.oid AND s.oid = ANY (p.polroles)
                    AND p.polcmd = '*' AND p.polpermissive
                    AND (p.visible = %(rule)s OR p.full_name = 'organizations.tenant_isolation'))
    """,
    "no other policy lets a service at a tenant's table": """
        SELECT p.full_name FROM policies p JOIN tenant_tables t ON t.oid = p.table_oid
        WHERE p.polpermissive AND NOT p.full_name = ANY (%(other_policies)s)
            AND p.polroles <> ARRAY['trunkline_lookup'::regrole::oid]
            AND (p.visible IS DISTINCT FROM %(rule)s OR p.writable IS DISTINCT FROM %(rule)s)
    """,
    "no policy is for everybody": """
        SELECT full_name FROM policies WHERE 0 = ANY (polroles)
    """,
    "no role has more power than it needs": """
        SELECT rolname FROM pg_roles
        WHERE rolname LIKE 'trunkline%%' AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb
            OR rolreplication OR (rolname = 'trunkline_lookup' AND rolcanlogin))
    """,
    "no role acts with another's rights": """
        SELECT m.member::regrole || ' in ' || m.roleid::regrole FROM pg_auth_members m
        WHERE m.member::regrole::text LIKE 'trunkline%%' AND (m.inherit_option OR m.admin_option
            OR NOT (m.member = 'trunkline_owner'::regrole AND m.roleid = 'trunkline_lookup'::regrole))
    """,
    "the owner owns every table": """
        SELECT c.relname FROM pg_class c JOIN app_tables t ON t.oid = c.oid
        WHERE c.relowner <> 'trunkline_owner'::regrole
    """,
    "partitions are reached through their parents only": """
        SELECT t.name || ' by ' || s.name FROM app_tables t CROSS JOIN services s
        WHERE t.relispartition
            AND (has_table_privilege(s.oid, t.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
                OR has_any_column_privilege(s.oid, t.oid, 'SELECT, INSERT, UPDATE'))
    """,
    "nothing is granted to everybody": """
        SELECT c.oid::regclass::text FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) g
        WHERE n.nspname = 'public' AND g.grantee = 0
        UNION SELECT p.oid::regprocedure::text FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace
        CROSS JOIN aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
        WHERE n.nspname = 'app' AND g.grantee = 0
    """,
    "no service may empty, alter or hang triggers on a table": """
        SELECT t.name || ' by ' || s.name FROM app_tables t CROSS JOIN services s
        WHERE has_table_privilege(s.oid, t.oid, 'TRUNCATE, REFERENCES, TRIGGER')
    """,
    "what must not change cannot be changed": """
        SELECT t.name || ' by ' || s.name FROM app_tables t CROSS JOIN services s
        WHERE t.name IN ('audit_log', 'audit_heads', 'agent_versions', 'bundles', 'usage')
            AND (has_any_column_privilege(s.oid, t.oid, 'UPDATE')
                OR has_table_privilege(s.oid, t.oid, 'DELETE'))
    """,
    "a foreign key to a tenant's table includes the tenant": """
        SELECT f.name FROM foreign_keys f JOIN tenant_tables target ON target.oid = f.confrelid
        WHERE target.name <> 'organizations'
            AND (f.columns[1] <> 'organization_id' OR f.targets[1] <> 'organization_id')
    """,
    "a foreign key to an organization is the tenant itself": """
        SELECT f.name FROM foreign_keys f WHERE f.confrelid = 'organizations'::regclass
            AND (f.columns, f.targets) IS DISTINCT FROM (ARRAY['organization_id'], ARRAY['id'])
    """,
    "every tenant exists": """
        SELECT t.name FROM tenant_tables t WHERE t.name <> 'organizations' AND NOT EXISTS (
            SELECT 1 FROM foreign_keys f
            WHERE f.conrelid = t.oid AND f.columns[1] = 'organization_id')
    """,
    "every reference is a foreign key": r"""
        SELECT t.name || '.' || a.attname FROM tenant_tables t
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE a.attname LIKE '%%\_id' AND NOT t.name || '.' || a.attname = ANY (%(soft)s)
            AND NOT EXISTS (SELECT 1 FROM foreign_keys f
                WHERE f.conrelid = t.oid AND a.attname = ANY (f.columns))
    """,
    "every foreign key has an index": """
        SELECT f.name FROM foreign_keys f WHERE NOT EXISTS (
            SELECT 1 FROM pg_index i WHERE i.indrelid = f.conrelid AND i.indpred IS NULL
                AND (SELECT array_agg(k) FROM (SELECT unnest(i.indkey::smallint[]) k
                    LIMIT cardinality(f.conkey)) x) @> f.conkey)
    """,
    "every index begins with the tenant": """
        SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
        JOIN tenant_tables t ON t.oid = i.indrelid
        LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
        WHERE t.name <> 'organizations' AND NOT x.relname = ANY (%(global_keys)s)
            AND a.attname IS DISTINCT FROM 'organization_id'
    """,
    "no column is an enum, whose indexes row-level security leaves unused": """
        SELECT t.name || '.' || a.attname FROM app_tables t
        JOIN pg_attribute a ON a.attrelid = t.oid JOIN pg_type y ON y.oid = a.atttypid
        WHERE y.typtype = 'e'
    """,
    "functions with other rights pin their search path and are the hub's own": """
        SELECT p.oid::regprocedure::text FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prosecdef
            AND (p.proowner NOT IN ('trunkline_owner'::regrole, 'trunkline_lookup'::regrole)
                OR NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, public, pg_temp'])
    """,
    "the lookup role reads columns, not tables": """
        SELECT t.name FROM app_tables t
        WHERE has_table_privilege('trunkline_lookup', t.oid, 'SELECT, INSERT, UPDATE')
    """,
    "views see with the eyes of who asks": """
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'app') AND (c.relkind = 'm' OR (c.relkind = 'v'
            AND NOT coalesce(c.reloptions, '{}') @> ARRAY['security_invoker=true']))
    """,
    "every large table has a default partition and the coming month": """
        SELECT t.name FROM app_tables t WHERE t.relkind = 'p' AND (
            to_regclass(t.name || '_default') IS NULL
            OR to_regclass(t.name || to_char(now() + interval '1 month', '_YYYY_MM')) IS NULL)
    """,
}


def check(dsn: str) -> list[Problem]:
    """Return what breaks a rule, in order; nothing when all is well."""
    return check_after(dsn, "")


def check_after(dsn: str, change: str) -> list[Problem]:
    """Return what would break a rule after `change`, which is tried and taken back."""
    values = {
        "rule": TENANT_RULE,
        "other_policies": list(OTHER_POLICIES),
        "global_keys": list(GLOBAL_KEYS),
        "soft": list(SOFT_REFERENCES),
    }
    with _trial(dsn) as connection:
        connection.execute(change.encode())
        return sorted(
            Problem(rule, str(row[0]))
            for rule, query in RULES.items()
            for row in connection.execute(query.encode(), values)
        )


def unused_exceptions(dsn: str) -> list[str]:
    """Return the exceptions above that excuse nothing in this database."""
    with _trial(dsn) as connection:
        found = connection.execute(
            """
            SELECT full_name FROM policies UNION SELECT relname FROM pg_class WHERE relkind IN ('i', 'I')
            UNION SELECT t.name || '.' || a.attname FROM tenant_tables t
                JOIN pg_attribute a ON a.attrelid = t.oid
            """
        )
        names = {row[0] for row in found}
    excused = (*OTHER_POLICIES, *GLOBAL_KEYS, *SOFT_REFERENCES)
    return [name for name in excused if name not in names]


@contextmanager
def _trial(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(libpq_url(dsn)) as connection:
        connection.execute(_VIEWS)
        yield connection
        connection.rollback()
