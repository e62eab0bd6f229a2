# SPDX-License-Identifier: Apache-2.0
"""Links by mail, received by a real SMTP server on loopback; and what happens when it does not take them."""

from __future__ import annotations

import asyncio
import email
import logging
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy.ext.asyncio import AsyncEngine

from cloud_hub.api.settings import ApiSettings
from cloud_hub.app import create_app
from cloud_hub.auth import mail
from cloud_hub.auth.mail import Letter, Mailer, MailError, MailSettings, MailSettingsError
from cloud_hub.auth.passwords import Passwords
from tests.hub.api.conftest import PLENTY
from tests.hub.api.people import PASSWORD, Hub
from tests.hub.mqtt_box import until
from tests.hub.servers import Database, free_port

URL = "http://hub.test"
SENDER = "Trunkline <hub@example.com>"
OTHER_PASSWORD = "seven quiet rivers run"


class Postbox:
    """Keeps what the server takes; refuses as often as it is told to."""

    def __init__(self) -> None:
        self.letters: list[EmailMessage] = []
        self.refusals = 0

    async def handle_DATA(  # noqa: N802 - the server calls it so
        self, server: SMTP, session: Any, envelope: Envelope
    ) -> str:
        if self.refusals:
            self.refusals -= 1
            return "451 try again later"
        content = envelope.content
        assert isinstance(content, bytes)
        letter = email.message_from_bytes(content, policy=default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        return "250 kept"

    async def letter(self, to: str) -> str:
        """The text of the next letter; it must be to this address."""
        await until(lambda: bool(self.letters), "a letter")
        letter = self.letters.pop(0)
        assert letter["To"] == to
        assert letter["From"] == SENDER
        assert letter.get_content_type() == "text/plain"
        return str(letter.get_content()).replace("\r\n", "\n")

    async def token(self, to: str, page: str) -> str:
        """The token of the link in the next letter."""
        text = await self.letter(to)
        found = re.search(rf"^{URL}/link/{page}#([\w-]{{43}})$", text, re.MULTILINE)
        assert found, text
        return found[1]


def serving(postbox: Postbox, **options: Any) -> Controller:
    controller = Controller(postbox, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    return controller


@pytest.fixture
def postbox() -> Postbox:
    return Postbox()


@pytest.fixture
def settings(postbox: Postbox) -> Iterator[MailSettings]:
    """Of a server that asks for a password."""

    def check(server: Any, session: Any, envelope: Any, mechanism: Any, data: Any) -> AuthResult:
        right = (data.login, data.password) == (b"hub", b"mail secret")
        return AuthResult(success=right, handled=False)

    controller = serving(postbox, authenticator=check, auth_required=True, auth_require_tls=False)
    yield MailSettings(
        host="127.0.0.1",
        port=controller.port,
        security="none",
        username="hub",
        password="mail secret",
        sender=SENDER,
    )
    controller.stop()


@pytest.fixture
async def hub(
    tmp_path: Path,
    api_engine: AsyncEngine,
    hub_database: Database,
    quick: Passwords,
    settings: MailSettings,
) -> AsyncIterator[Hub]:
    """A hub that sends mail and lets anybody sign up."""
    api = ApiSettings(
        data_folder=tmp_path,
        public_url=URL,
        open_sign_up=True,
        key_rate=PLENTY,
        address_rate=PLENTY,
        sign_in_rate=PLENTY,
    )
    app = create_app(api, api_engine, passwords=quick, mail=settings)
    made = Hub(app, api_engine, hub_database)
    yield made
    await app.state.services.mailer.close()
    await made.close()


async def test_an_invitation_goes_to_its_person_and_to_nobody_else(
    hub: Hub, postbox: Postbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ada = await hub.owner()
    made = await ada.made("/invitations", {"email": "grace@example.com", "role": "viewer"})
    assert made["mailed"]
    assert made["token"] is None
    token = await postbox.token("grace@example.com", "invitation")
    client = hub.client()
    page = await client.get("../link/invitation")
    assert 'data-to="/v1/join/new-account"' in page.text
    body = {"token": token, "name": "Grace Hopper", "password": PASSWORD}
    joined = await client.post("/join/new-account", json=body)
    assert joined.status_code == 201, joined.text
    assert [each["role"] for each in joined.json()["organizations"]] == ["viewer"]
    # The server of this test, unlike the hub, says all it hears: its logger is `mail.log`.
    said = "\n".join(each.getMessage() for each in caplog.records if each.name != "mail.log")
    assert "a letter was sent: invitation" in said
    assert token not in said
    assert "mail secret" not in said
    assert "grace@example.com" not in said


async def test_an_invitation_that_the_mail_server_refuses_is_shown_to_hand_over(
    hub: Hub, postbox: Postbox
) -> None:
    ada = await hub.owner()
    postbox.refusals = 1
    made = await ada.made("/invitations", {"email": "jean@example.com", "role": "viewer"})
    assert not made["mailed"]
    offer = await hub.client().post("/join/offer", json={"token": made["token"]})
    assert offer.json()["email"] == "jean@example.com"


async def test_who_signs_up_proves_the_address_before_signing_in(
    hub: Hub, postbox: Postbox
) -> None:
    client, address = hub.client(), "new@example.com"
    account = {"email": address, "password": PASSWORD}
    wanted = {**account, "name": "New", "organization": "New & Sons"}
    assert (await client.post("/sign-up", json=wanted)).status_code == 202
    first = await postbox.token(address, "email")
    refused = await client.post("/sign-in", json=account)
    assert (refused.status_code, refused.json()["code"]) == (403, "email_not_verified")
    assert not client.cookies
    second = await postbox.token(address, "email")
    assert first != second
    assert (await client.get("../link/email")).status_code == 200
    for token, status in ((first, 204), (first, 403), ("x" * 43, 403)):
        answer = await client.post("/email/verify", json={"token": token})
        assert answer.status_code == status
    assert (await client.post("/sign-in", json=account)).status_code == 200
    again = await client.post("/sign-up", json=wanted)
    assert (again.status_code, again.json()) == (202, {"status": "accepted"})
    assert "There is\none already" in await postbox.letter(address)


async def test_a_forgotten_password_is_replaced_by_a_link_that_works_once(
    hub: Hub, postbox: Postbox
) -> None:
    ada, client = await hub.owner(), hub.client()
    unknown = await client.post("/password/forgot", json={"email": "nobody@example.com"})
    known = await client.post("/password/forgot", json={"email": ada.email})
    assert (unknown.status_code, unknown.content) == (known.status_code, known.content)
    assert known.status_code == 202
    token = await postbox.token(ada.email, "password")
    assert not postbox.letters
    wrong_door = await client.post("/email/verify", json={"token": token})
    assert wrong_door.status_code == 403
    body = {"token": token, "password": OTHER_PASSWORD}
    answers = [await client.post("/password/reset", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 403]
    assert (await ada.get("/session")).status_code == 401, "all sessions ended"
    account = {"email": ada.email, "password": OTHER_PASSWORD}
    assert (await client.post("/sign-in", json=account)).status_code == 200


async def test_a_letter_is_tried_again(
    settings: MailSettings, postbox: Postbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "PAUSES_S", (0.01, 0.01))
    mailer = Mailer(settings, URL)
    postbox.refusals = 2

    async def write() -> Letter:
        return Letter("greeting", "ada@example.com", "Hello", "A line.")

    mailer.later(write())
    assert (await postbox.letter("ada@example.com")).strip() == "A line."
    await mailer.close()


async def test_what_goes_wrong_is_told_without_secrets(settings: MailSettings) -> None:
    letter = Letter("greeting", "ada@example.com", "Hello", f"{URL}/link/password#token")
    wrong = settings.model_copy(update={"username": "eve"})
    with pytest.raises(MailError, match=r"^the mail server answers 535$"):
        await Mailer(wrong, URL).send(letter)
    nobody = settings.model_copy(update={"port": free_port()})
    with pytest.raises(
        MailError, match=r"^the mail server is not reached: ConnectionRefusedError$"
    ):
        await Mailer(nobody, URL).send(letter)
    with pytest.raises(MailError, match=r"^the mail server is not reached: SMTPNotSupportedError$"):
        await Mailer(settings.model_copy(update={"security": "starttls"}), URL).send(letter)


async def test_a_server_that_cannot_prove_its_name_gets_no_letter(
    tmp_path: Path, postbox: Postbox
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    ).sign(key, hashes.SHA256())
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    controller = serving(postbox, tls_context=context)
    settings = MailSettings(host="127.0.0.1", port=controller.port, sender=SENDER)
    with pytest.raises(MailError, match="SSLCertVerificationError"):
        await Mailer(settings, URL).send(Letter("greeting", "ada@example.com", "Hello", "x"))
    assert not postbox.letters
    await asyncio.to_thread(controller.stop)


def test_half_settings_are_refused_with_the_variable_to_set() -> None:
    with pytest.raises(MailSettingsError, match="TRUNKLINE_HUB_PUBLIC_URL"):
        Mailer(MailSettings(host="mail.test", sender=SENDER), "")
    with pytest.raises(MailSettingsError, match="TRUNKLINE_HUB_SMTP_SENDER"):
        Mailer(MailSettings(host="mail.test"), URL)
    assert not Mailer(MailSettings(), "").on
