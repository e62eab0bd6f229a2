# SPDX-License-Identifier: Apache-2.0
"""The files that make this box a hub's: its key, its certificate, and whom it trusts.

All lie in one folder: `key.pem` (mode 0600, made here, never sent), `identity.json` (what the hub
answered). A renewal writes `key.next.pem`, then `identity.next.json`, then renames both; whoever
finds the second file after a crash finishes the renaming.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.sync.files import sync_folder, write_whole
from appliance.wire import Identity

NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python does not name."""


class HubFiles:
    """The folder of a box's hub identity."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "key.pem"
        self.certificate = folder / "certificate.pem"
        self._identity = folder / "identity.json"
        self._next_key = folder / "key.next.pem"
        self._next_identity = folder / "identity.next.json"

    def identity(self) -> Identity | None:
        """Return who this box is, or None while it belongs to no hub."""
        self._finish()
        if not self._identity.exists():
            return None
        return Identity.decode(self._identity.read_bytes())

    def request(self) -> str:
        """Return a signing request for the box's key, which is made at first use."""
        return _signing_request(self.key)

    def next_request(self) -> str:
        """Return a signing request for the key that shall come next."""
        self._finish()
        self._next_key.unlink(missing_ok=True)
        return _signing_request(self._next_key)

    def store(self, identity: Identity) -> None:
        """Keep the hub's answer to a claim."""
        write_whole(self._identity, identity.model_dump_json().encode())

    def store_next(self, identity: Identity) -> None:
        """Keep the hub's answer to a renewal and go over to the next key."""
        write_whole(self._next_identity, identity.model_dump_json().encode())
        self._finish()

    def remove(self) -> None:
        """Forget the hub, the key included."""
        for path in (
            self._next_identity,
            self._identity,
            self._next_key,
            self.key,
            self.certificate,
        ):
            path.unlink(missing_ok=True)

    def renewal_due(self, now: datetime | None = None) -> bool:
        """Say whether it is time to renew.

        A clock far before the certificate's beginning is wrong; it decides nothing.
        """
        identity = self.identity()
        if identity is None:
            return False
        return (now or datetime.now(UTC)) >= datetime.fromisoformat(identity.renew_after)

    def tls_context(self) -> ssl.SSLContext:
        """Return a client context that shows the box's certificate and trusts its hub alone.

        Raises:
            FileNotFoundError: the box belongs to no hub.
        """
        identity = self.identity()
        if identity is None:
            raise FileNotFoundError(f"{self._identity} does not exist: claim the box first")
        context = pinned_context(identity.ca)
        write_whole(self.certificate, identity.certificate.encode())
        context.load_cert_chain(self.certificate, self.key)
        return context

    def _finish(self) -> None:
        if not self._next_identity.exists():
            return
        if self._next_key.exists():
            self._next_key.replace(self.key)
        self._next_identity.replace(self._identity)
        sync_folder(self.folder)


def pinned_context(ca: str) -> ssl.SSLContext:
    """Return a client context that trusts one root and takes no notice of the time.

    A box's clock may be years off after a flat battery, and it must reach its hub all the same.
    What protects is the pinned root, which signs nothing but this hub's servers and boxes.
    """
    context = ssl.create_default_context(cadata=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    return context


def _signing_request(path: Path) -> str:
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_whole(path, pem)
    loaded = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} is not an EC key")  # noqa: TRY004 - the file is wrong, not a type
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "box")]))
        .sign(loaded, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM).decode()
