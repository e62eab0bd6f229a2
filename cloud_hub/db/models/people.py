# SPDX-License-Identifier: Apache-2.0
"""People and their proofs of identity. These belong to no tenant: one person, many organizations."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.db.ids import uuid7
from cloud_hub.db.models.base import Base, Created, one_of


class User(Created, Base):
    """A person. The e-mail is unique without regard to case."""

    __tablename__ = "users"
    __table_args__ = (Index("users_email_key", func.lower(text("email")), unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    email: Mapped[str]
    name: Mapped[str] = mapped_column(default="", server_default="")
    email_verified_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]


class Credential(Base):
    """A person's password, and how often it was tried in vain.

    Attributes:
        password_hash: argon2id in its encoded form.
        failures: since the last success.
    """

    __tablename__ = "credentials"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    password_hash: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    locked_until: Mapped[datetime | None]


class TotpFactor(Created, Base):
    """A second factor (RFC 6238).

    Attributes:
        secret: encrypted by the hub's key, never in the clear.
        last_step: the time step of the last code taken, so that no code works twice.
    """

    __tablename__ = "totp_factors"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str] = mapped_column(default="", server_default="")
    secret: Mapped[bytes]
    last_step: Mapped[int] = mapped_column(default=0, server_default="0")
    confirmed_at: Mapped[datetime | None]


class RecoveryCode(Base):
    """A code that stands in for the second factor, once."""

    __tablename__ = "recovery_codes"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    code_hash: Mapped[bytes] = mapped_column(primary_key=True)
    used_at: Mapped[datetime | None]


class Session(Created, Base):
    """A signed-in browser or tool. Only the hash of its token is kept."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    idle_until: Mapped[datetime]
    absolute_until: Mapped[datetime]
    mfa_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    ip: Mapped[str] = mapped_column(default="", server_default="")
    user_agent: Mapped[str] = mapped_column(default="", server_default="")


class UserToken(Created, Base):
    """A link sent to a person: single use, short-lived, kept as a hash."""

    __tablename__ = "user_tokens"
    __table_args__ = (one_of("purpose", "verify_email", "reset_password"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    purpose: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class SetupLink(Created, Base):
    """The first owner's way in, made at first run; there is no default password."""

    __tablename__ = "setup_links"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
