# SPDX-License-Identifier: Apache-2.0
"""Letters to people, by the operator's SMTP server (RFC 5321): plain text, with a link that works once.

Nothing of a letter but its kind is ever logged, for the link is a secret.
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from typing import Any, Final, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger(__name__)

PAUSES_S: Final = (5.0, 60.0)
"""Before the second and the third try; after that whoever waits must ask again."""
DRAIN_S: Final = 10.0
WAITING: Final = 200
"""Letters on their way at once in one process; more are refused rather than remembered."""


class MailError(Exception):
    """The letter was not taken; the text holds nothing of it."""


class MailSettingsError(ValueError):
    """The settings of mail do not fit together."""


class MailSettings(BaseSettings):
    """The operator's mail server.

    Attributes:
        host: "" sends no mail; links are then shown to whoever may hand them over.
        port: of submission. security: `starttls` on it, `tls` from the first byte (465), or `none`, for a
            relay on the same machine.
        username, password: when the server asks for them.
        sender: that letters come from, `Trunkline <hub@example.com>`.
        timeout_s: for each step with the server.
    """

    model_config = SettingsConfigDict(env_prefix="TRUNKLINE_HUB_SMTP_", extra="ignore")

    host: str = ""
    port: int = Field(587, ge=1, le=65_535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password: SecretStr = SecretStr("")
    sender: str = ""
    timeout_s: float = Field(10.0, gt=0, le=60)


@dataclass(frozen=True, slots=True)
class Letter:
    """What somebody is told.

    Attributes:
        kind: for the log.
        to: an e-mail address.
    """

    kind: str
    to: str
    subject: str
    text: str


class Mailer:
    """Sends letters.

    Args:
        settings: of the server.
        public_url: of the hub, that links lead to.

    Raises:
        MailSettingsError: there is a server, but no sender or no address for links.
    """

    def __init__(self, settings: MailSettings, public_url: str) -> None:
        self._settings, self._url = settings, public_url.rstrip("/")
        self._waiting: set[asyncio.Task[None]] = set()
        if not settings.host:
            return
        if not self._url:
            raise MailSettingsError(
                "TRUNKLINE_HUB_SMTP_HOST is set: set TRUNKLINE_HUB_PUBLIC_URL too, links lead there"
            )
        if "@" not in parseaddr(settings.sender)[1]:
            raise MailSettingsError(
                "TRUNKLINE_HUB_SMTP_HOST is set: set TRUNKLINE_HUB_SMTP_SENDER to an e-mail address"
            )

    @property
    def on(self) -> bool:
        """Say whether the hub sends mail."""
        return bool(self._settings.host)

    def link(self, page: str, token: str) -> str:
        """Return a link of the hub; the token is in the fragment, which no server is sent."""
        return f"{self._url}/link/{page}#{token}"

    async def send(self, letter: Letter) -> None:
        """Hand a letter to the server.

        Raises:
            MailError: it was not taken.
        """
        await asyncio.to_thread(self._send, letter)
        log.info("a letter was sent: %s", letter.kind)

    def later(self, writing: Coroutine[Any, Any, Letter | None]) -> None:
        """Write and send a letter in the background, so that the time of an answer tells nothing.

        It is tried three times, and lost when the process ends before.

        Args:
            writing: returns the letter; None when there is nobody to write to.
        """
        if len(self._waiting) >= WAITING:
            log.error("a letter is not written, too many are on their way")
            writing.close()
            return
        task = asyncio.create_task(self._persist(writing), name="letter")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def close(self) -> None:
        """Let letters on their way go out, for a moment."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=DRAIN_S)
        for task in list(self._waiting):
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _persist(self, writing: Coroutine[Any, Any, Letter | None]) -> None:
        try:
            letter = await writing
        except (SQLAlchemyError, OSError) as error:
            log.warning("a letter was not written: %s", type(error).__name__)
            return
        if letter is None:
            return
        for pause in (*PAUSES_S, None):
            try:
                await self.send(letter)
            except MailError as error:
                log.warning("a letter was not sent: %s: %s", letter.kind, error)
            else:
                return
            if pause is not None:
                await asyncio.sleep(pause)

    def _send(self, letter: Letter) -> None:
        settings = self._settings
        message = EmailMessage()
        message["From"], message["To"] = settings.sender, letter.to
        message["Subject"], message["Date"] = letter.subject, formatdate()
        message["Message-ID"] = make_msgid(domain=parseaddr(settings.sender)[1].rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notices, please
        message.set_content(letter.text)
        try:
            with self._connect() as server:
                if settings.username:
                    server.login(settings.username, settings.password.get_secret_value())
                server.send_message(message)
        except smtplib.SMTPResponseException as error:
            raise MailError(f"the mail server answers {error.smtp_code}") from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = ", ".join(str(code) for code, _ in error.recipients.values())
            raise MailError(f"the mail server refuses the address: {codes}") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise MailError(f"the mail server is not reached: {type(error).__name__}") from None

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        place, wait = (settings.host, settings.port), settings.timeout_s
        if settings.security == "tls":
            return smtplib.SMTP_SSL(*place, timeout=wait, context=ssl.create_default_context())
        server = smtplib.SMTP(*place, timeout=wait)
        if settings.security == "starttls":
            # Without it there is no letter: a link must not cross the network in the clear.
            _or_closed(server, lambda: server.starttls(context=ssl.create_default_context()))
        return server


def _or_closed(server: smtplib.SMTP, step: Callable[[], object]) -> None:
    try:
        step()
    except BaseException:
        server.close()
        raise
