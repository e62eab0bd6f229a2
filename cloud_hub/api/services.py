# SPDX-License-Identifier: Apache-2.0
"""What all routes of one API process share; made by the application factory, held in `app.state`."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.api.settings import ApiSettings
from cloud_hub.auth.limits import SharedBuckets
from cloud_hub.auth.mail import Mailer, MailSettings
from cloud_hub.auth.passwords import Passwords
from cloud_hub.auth.secrets import MasterSecret
from cloud_hub.auth.sessions import Lifetime
from cloud_hub.auth.totp import SecondFactors
from cloud_hub.fleet.recordings import RecordingStore
from cloud_hub.fleet.storage import StorageSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """How often somebody may ask, of all API processes together."""

    keys: SharedBuckets
    addresses: SharedBuckets
    sign_ins: SharedBuckets


@dataclass(slots=True)
class Services:
    """The parts of one API process.

    Attributes:
        engine: of the role `trunkline_api`.
        recordings: where the sound is.
        key_notes: when the use of a key was last written, by key.
    """

    settings: ApiSettings
    engine: AsyncEngine
    master: MasterSecret
    passwords: Passwords
    factors: SecondFactors
    limits: Limits
    recordings: RecordingStore
    mailer: Mailer
    key_notes: dict[str, float] = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        settings: ApiSettings,
        engine: AsyncEngine,
        passwords: Passwords | None = None,
        recordings: RecordingStore | None = None,
        mail: MailSettings | None = None,
    ) -> Services:
        """Return the parts that the settings ask for.

        Raises:
            MailSettingsError: there is a mail server, but its settings do not suffice.
        """
        if settings.secret is not None:
            master = MasterSecret(settings.secret.get_secret_value().encode())
        else:
            master = MasterSecret.open(settings.data_folder / "api.secret")
        limits = Limits(
            SharedBuckets(engine, "key", settings.key_rate),
            SharedBuckets(engine, "address", settings.address_rate),
            SharedBuckets(engine, "sign-in", settings.sign_in_rate),
        )
        return cls(
            settings,
            engine,
            master,
            passwords or Passwords(),
            SecondFactors(master),
            limits,
            recordings or StorageSettings().open(settings.data_folder),
            Mailer(mail or MailSettings(), settings.public_url),
        )

    @property
    def lifetime(self) -> Lifetime:
        """How long sessions live."""
        return Lifetime(self.settings.session_idle, self.settings.session_absolute)


def services(request: Request) -> Services:
    """Return the parts of this process."""
    found: Services = request.app.state.services
    return found
