# SPDX-License-Identifier: Apache-2.0
"""The second factor: six digits by time (RFC 6238), and codes for when the telephone is lost."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import pyotp
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from cloud_hub.auth.secrets import MasterSecret, digest
from cloud_hub.db.ids import uuid7
from cloud_hub.db.models import RecoveryCode, TotpFactor

ISSUER: Final = "Trunkline"
STEP_S: Final = 30
DRIFT: Final = 1
"""Steps before and after now that are taken: clocks of telephones differ."""
RECOVERY_CODES: Final = 10
_PURPOSE: Final = "totp"
_WORDS: Final = "abcdefghjkmnpqrstuvwxyz23456789"


class SecondFactors:
    """Sets up and checks a person's second factor, in a transaction of that person."""

    def __init__(self, master: MasterSecret) -> None:
        self._master = master

    async def begin(self, session: AsyncSession, user_id: UUID, email: str) -> tuple[str, str]:
        """Offer a new secret; it counts once a code made with it was shown.

        Returns:
            The secret in base 32, and its `otpauth://` address for a QR code.
        """
        secret = pyotp.random_base32()
        await session.execute(
            delete(TotpFactor).where(
                TotpFactor.user_id == user_id, TotpFactor.confirmed_at.is_(None)
            )
        )
        sealed = self._master.seal(_PURPOSE, secret.encode(), user_id.bytes)
        session.add(TotpFactor(id=uuid7(), user_id=user_id, secret=sealed))
        await session.flush()
        return secret, pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)

    async def confirm(self, session: AsyncSession, user_id: UUID, code: str) -> list[str] | None:
        """Switch the offered secret on; return the recovery codes, or None for a wrong code."""
        factors = await self._factors(session, user_id, confirmed=False)
        step = self._step(factors[0], code) if factors else None
        if step is None:
            return None
        await self.remove(session, user_id, keep=factors[0].id)
        factors[0].confirmed_at, factors[0].last_step = datetime.now(UTC), step
        codes = [_recovery_code() for _ in range(RECOVERY_CODES)]
        session.add_all(RecoveryCode(user_id=user_id, code_hash=digest(each)) for each in codes)
        await session.flush()
        return codes

    async def check(self, session: AsyncSession, user_id: UUID, code: str) -> bool:
        """Take a code, once: of the telephone, or a recovery code."""
        for factor in await self._factors(session, user_id, confirmed=True):
            step = self._step(factor, code)
            if step is not None:
                factor.last_step = step
                await session.flush()
                return True
        used = await session.execute(
            update(RecoveryCode)
            .where(
                RecoveryCode.user_id == user_id,
                RecoveryCode.code_hash == digest(code.strip().lower()),
                RecoveryCode.used_at.is_(None),
            )
            .values(used_at=datetime.now(UTC))
            .returning(RecoveryCode.user_id)
        )
        return used.one_or_none() is not None

    async def active(self, session: AsyncSession, user_id: UUID) -> bool:
        """Say whether the person signs in with a second factor."""
        return bool(await self._factors(session, user_id, confirmed=True))

    async def remove(
        self, session: AsyncSession, user_id: UUID, *, keep: UUID | None = None
    ) -> None:
        """Switch the second factor off (all but `keep`), with its recovery codes."""
        others = TotpFactor.id != keep if keep else TotpFactor.id.is_not(None)
        await session.execute(delete(TotpFactor).where(TotpFactor.user_id == user_id, others))
        await session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))

    async def _factors(
        self, session: AsyncSession, user_id: UUID, *, confirmed: bool
    ) -> list[TotpFactor]:
        found = await session.execute(
            select(TotpFactor)
            .where(
                TotpFactor.user_id == user_id,
                TotpFactor.confirmed_at.is_not(None)
                if confirmed
                else TotpFactor.confirmed_at.is_(None),
            )
            .with_for_update()  # two sign-ins with one code at once: the second must see the first
        )
        return list(found.scalars())

    def _step(self, factor: TotpFactor, code: str) -> int | None:
        """Return the time step whose code this is, newer than any taken before."""
        secret = self._master.open_sealed(_PURPOSE, factor.secret, factor.user_id.bytes).decode()
        maker, now = pyotp.TOTP(secret), int(datetime.now(UTC).timestamp()) // STEP_S
        for step in range(now - DRIFT, now + DRIFT + 1):
            expected = maker.generate_otp(step).encode()
            if step > factor.last_step and secrets.compare_digest(expected, code.strip().encode()):
                return step
        return None


def _recovery_code() -> str:
    """Return 50 random bits as two groups."""
    symbols = "".join(secrets.choice(_WORDS) for _ in range(10))
    return f"{symbols[:5]}-{symbols[5:]}"
