# SPDX-License-Identifier: Apache-2.0
"""The hub's certificate authority: who is which box, and how a box knows the hub.

Two keys, both ECDSA P-256: a root that boxes pin for years, and an issuing key below it that signs
day by day. The root's key can be taken off the machine; only the issuing key is needed to run. A
box's key is made on the box: the hub sees a certificate signing request (RFC 2986), takes nothing
from it but the public key, and writes the name itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_hub.keyfile import write_private

BOX_LIFETIME = timedelta(days=90)
SERVER_LIFETIME = timedelta(days=365)
ISSUING_LIFETIME = timedelta(days=3650)
ROOT_LIFETIME = timedelta(days=7300)
RENEWABLE_FOR = timedelta(days=730)
"""How long after its end an unrevoked certificate still opens the renewal door, and nothing else."""
BACKDATED = timedelta(hours=1)
"""Certificates begin this long before they are made: a box's clock may be behind."""
MAX_CSR_BYTES = 8192

_LEAF_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_AUTHORITY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class CertificateRefusedError(Exception):
    """A signing request or certificate was not accepted; the text says why and may be shown to its sender."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate the hub has just made."""

    chain_pem: str
    """The certificate, then the issuing certificate: what a TLS peer presents."""
    serial: str
    """Its serial number, lower-case hex."""
    public_key_sha256: bytes
    """Of the SubjectPublicKeyInfo (DER): what the broker shows of a live connection."""
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class BoxIdentity:
    """What a certificate that this authority signed says."""

    box_id: str
    serial: str
    public_key_sha256: bytes
    not_after: datetime
    expired: bool


class CertificateAuthority:
    """Signs for boxes and for the hub's own servers.

    Args:
        root: the certificate that boxes pin.
        issuing: a certificate below the root, or the root itself.
        issuing_key: its key.
    """

    def __init__(
        self,
        root: x509.Certificate,
        issuing: x509.Certificate,
        issuing_key: ec.EllipticCurvePrivateKey,
    ) -> None:
        if issuing.public_key() != issuing_key.public_key():
            raise ValueError("the issuing key does not belong to the issuing certificate")
        issuing.verify_directly_issued_by(root)
        self._root = root
        self._issuing = issuing
        self._key = issuing_key

    @classmethod
    def open(cls, folder: Path, now: datetime | None = None) -> CertificateAuthority:
        """Return the authority kept in `folder`, made there at first use (keys with mode 0600)."""
        if not (folder / "issuing.pem").exists():
            _create(folder, now or datetime.now(UTC))
        return cls.from_files(folder / "root.pem", folder / "issuing.pem", folder / "issuing.key")

    @classmethod
    def from_files(cls, root: Path, issuing: Path, issuing_key: Path) -> CertificateAuthority:
        """Return the authority from three PEM files, as settings name them.

        Raises:
            ValueError: the files do not belong together, or the key is not an EC key.
            PermissionError: others than the owner may read the key.
        """
        if issuing_key.stat().st_mode & 0o077:
            raise PermissionError(f"{issuing_key} may be read by others: chmod 600 it")
        key = serialization.load_pem_private_key(issuing_key.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{issuing_key} is not an EC key")  # noqa: TRY004
        return cls(
            x509.load_pem_x509_certificate(root.read_bytes()),
            x509.load_pem_x509_certificate(issuing.read_bytes()),
            key,
        )

    @property
    def root_pem(self) -> str:
        """The certificate that boxes and servers trust."""
        return _pem(self._root)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the root (DER), 64 hex digits: what a person compares at the box."""
        return self._root.fingerprint(hashes.SHA256()).hex()

    def issue_box(
        self,
        csr_pem: str,
        box_id: str,
        now: datetime | None = None,
        lifetime: timedelta = BOX_LIFETIME,
    ) -> IssuedCertificate:
        """Sign a box's public key. Name and extensions in the request are ignored.

        Raises:
            CertificateRefusedError: the request is malformed, not signed by its key, or of a weak key.
        """
        return self._issue_client(read_csr(csr_pem), box_id, now or datetime.now(UTC), lifetime)

    def issue_server(
        self, names: Sequence[str], now: datetime | None = None
    ) -> tuple[IssuedCertificate, str]:
        """Make a key and a certificate for a server of the hub; `names` are DNS names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._leaf(names[0], now or datetime.now(UTC), SERVER_LIFETIME)
            .public_key(key.public_key())
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False
            )
        )
        return self._finish(builder), _key_pem(key)

    def identify(self, certificate: x509.Certificate, now: datetime | None = None) -> BoxIdentity:
        """Read a certificate that a TLS server has received.

        The TLS server has checked the chain; it is checked again here because this is where a name
        becomes a right. Whether the certificate is revoked is the register's business.

        Raises:
            CertificateRefusedError: not signed by this authority, not for a client, or not yet valid.
        """
        now = now or datetime.now(UTC)
        try:
            certificate.verify_directly_issued_by(self._issuing)
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound) as error:
            raise CertificateRefusedError("not a certificate of this hub") from error
        if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
            raise CertificateRefusedError("not a box's certificate")
        if now < certificate.not_valid_before_utc:
            raise CertificateRefusedError("not valid yet")
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return BoxIdentity(
            box_id=str(name.value),
            serial=_serial(certificate),
            public_key_sha256=key_hash(certificate.public_key()),
            not_after=certificate.not_valid_after_utc,
            expired=now > certificate.not_valid_after_utc,
        )

    def _issue_client(
        self,
        key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
        box_id: str,
        now: datetime,
        lifetime: timedelta,
    ) -> IssuedCertificate:
        builder = (
            self._leaf(box_id, now, lifetime)
            .public_key(key)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:uuid:{box_id}")]),
                critical=False,
            )
        )
        return self._finish(builder)

    def _leaf(self, name: str, now: datetime, lifetime: timedelta) -> x509.CertificateBuilder:
        end = min(now + lifetime, self._issuing.not_valid_after_utc)
        return (
            _builder(name, self._issuing.subject, now, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_LEAF_USAGE, critical=True)
            .add_extension(_signed_by(self._key), critical=False)
        )

    def _finish(self, builder: x509.CertificateBuilder) -> IssuedCertificate:
        made = builder.sign(self._key, hashes.SHA256())
        return IssuedCertificate(
            chain_pem=_pem(made) + _pem(self._issuing),
            serial=_serial(made),
            public_key_sha256=key_hash(made.public_key()),
            not_before=made.not_valid_before_utc,
            not_after=made.not_valid_after_utc,
        )


def read_csr(csr_pem: str) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    """Return the public key of a signing request.

    Raises:
        CertificateRefusedError: malformed, not signed by its own key, or neither P-256, P-384 nor Ed25519.
    """
    if len(csr_pem) > MAX_CSR_BYTES:
        raise CertificateRefusedError("the signing request is too long")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
        signed = request.is_signature_valid
        key = request.public_key()
    except Exception as error:  # the parser raises several kinds for the many ways to be malformed
        raise CertificateRefusedError("the signing request cannot be read") from error
    if not signed:
        raise CertificateRefusedError("the signing request is not signed by its key")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in {"secp256r1", "secp384r1"}:
        return key
    raise CertificateRefusedError("the key must be P-256, P-384 or Ed25519")


def key_hash(key: CertificatePublicKeyTypes) -> bytes:
    """Return the SHA-256 of a public key's SubjectPublicKeyInfo (DER)."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return digest.finalize()


def _create(folder: Path, now: datetime) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Trunkline hub root")])
    root = (
        _builder("Trunkline hub root", root_name, now, now + ROOT_LIFETIME)
        .public_key(root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_AUTHORITY_USAGE, critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    issuing = (
        _builder("Trunkline hub issuing", root_name, now, now + ISSUING_LIFETIME)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_AUTHORITY_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_signed_by(root_key), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    write_private(folder / "root.key", _key_pem(root_key))
    write_private(folder / "issuing.key", _key_pem(key))
    (folder / "root.pem").write_text(_pem(root))
    # Written last: its presence says that the authority is whole.
    (folder / "issuing.pem").write_text(_pem(issuing))


def _builder(name: str, issuer: x509.Name, now: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
    )


def _signed_by(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _serial(certificate: x509.Certificate) -> str:
    return format(certificate.serial_number, "x")


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
