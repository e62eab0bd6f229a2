# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the phone line: where it listens, which trunks it has, how media behaves."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from appliance.plugin import Settings

OFF = "off"
"""Switches a port off: TOML has no word for nothing."""


def _sip_uri(text: str) -> str:
    if not text.startswith(("sip:", "sips:")) or len(text) < 6 or any(c in text for c in " <>\r\n"):
        raise ValueError("write it as a SIP address, for example `sip:pbx.example.com`")
    return text


SipUri = Annotated[str, AfterValidator(_sip_uri)]


class Srtp(StrEnum):
    """Media encryption (RFC 3711, keys by RFC 4568)."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class Codec(StrEnum):
    """Audio codecs of the telephone world, by RTP name."""

    G722 = "G722"
    PCMA = "PCMA"
    PCMU = "PCMU"


class TrunkSettings(Settings):
    """One line to a PBX or carrier: an extension that registers, a trunk by address, or both."""

    registrars: tuple[SipUri, ...] = Field(
        default=(),
        description="Registrars in order of preference (`sip:pbx.example.com`). When one does not answer, "
        "the next is used. Empty: the trunk does not register.",
    )
    username: str = Field(
        default="", description="Extension or account name: the user part of its address."
    )
    auth_username: str = Field(
        default="", description="Name for digest authentication, where it differs from `username`."
    )
    password: SecretStr = Field(
        default=SecretStr(""), description="Password for digest authentication."
    )
    realm: str = Field(
        default="*", description="Realm that the password is for; `*` answers any challenge."
    )
    domain: str = Field(
        default="", description="Domain of the address of record. Empty: the registrar's host."
    )
    peer: SipUri | Literal[""] = Field(
        default="",
        description="Where calls out go, and what `qualify_s` asks, on a trunk that does not register "
        "(`sip:10.0.0.5:5060`).",
    )
    accept_from: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = Field(
        default=(),
        description="Addresses or networks (CIDR) whose calls belong to this trunk. Hosts named in "
        "`registrars` and `peer` always do.",
    )
    protocol: Literal["udp", "tcp", "tls"] = Field(
        default="udp", description="SIP transport for requests that the box sends."
    )
    outbound_proxies: tuple[SipUri, ...] = Field(
        default=(),
        description="Proxies that requests pass, in order, before the registrar or peer.",
    )
    srtp: Srtp = Field(
        default=Srtp.OFF,
        description="Media encryption: `off`, `optional` (answer it, offer it beside plain RTP) or "
        "`required` (refuse calls without).",
    )
    expires_s: int = Field(
        default=300,
        ge=30,
        description="Registration lifetime asked for; it is renewed well before.",
    )
    retry_s: int = Field(
        default=30, ge=1, description="Pause before a failed registration is tried again, seconds."
    )
    qualify_s: int = Field(
        default=0,
        ge=0,
        description="Send OPTIONS to the registrar or peer this often, seconds; 0: never. The answer "
        "shows in `trunkline doctor`.",
    )
    keepalive_s: int = Field(
        default=15, ge=0, description="NAT keep-alive interval on UDP, seconds; 0: none."
    )
    contact_rewrite: bool = Field(
        default=True,
        description="Behind NAT: register the address that the registrar saw (RFC 3581 rport).",
    )
    called_from: Literal["request_uri", "to"] = Field(
        default="request_uri",
        description="Where the called number stands. PBXs that send the extension in the request and the "
        "dialled number in To need `to`.",
    )
    caller_id: str = Field(
        default="", description="User part of From on calls out; empty: `username`."
    )
    pass_headers: tuple[str, ...] = Field(
        default=(), description="Headers of the INVITE that the agent may see (`X-Customer-Id`)."
    )

    @field_validator("accept_from", mode="before")
    @classmethod
    def _loose_networks(cls, value: object) -> object:
        if isinstance(value, (list, tuple)):
            return tuple(ipaddress.ip_network(item, strict=False) for item in value)
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.registrars and not self.username:
            raise ValueError("a trunk that registers needs `username`")
        return self


class SipSettings(Settings):
    """Settings of the `sip` transport."""

    bind: str = Field(
        default="0.0.0.0",  # noqa: S104
        description="Local address for SIP and RTP; 0.0.0.0 is every IPv4 address of the box.",
    )
    udp_port: int | None = Field(
        default=5060,
        ge=0,
        le=65535,
        description='SIP port for UDP; 0 picks a free one; `"off"` opens none.',
    )
    tcp_port: int | None = Field(
        default=5060, ge=0, le=65535, description="SIP port for TCP, likewise."
    )
    tls_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="SIP port for TLS (usually 5061); needs `tls_certificate`. Empty: off.",
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM file: certificate and chain."
    )
    tls_key: Path | None = Field(default=None, description="PEM file: private key.")
    tls_key_password: SecretStr = Field(default=SecretStr(""), description="Password of `tls_key`.")
    tls_ca: Path | None = Field(
        default=None, description="PEM file: authorities that peers' certificates must come from."
    )
    tls_verify: bool = Field(
        default=True, description="Refuse servers whose certificate `tls_ca` does not confirm."
    )
    rtp_port_start: int = Field(
        default=10000, ge=1024, le=65000, description="First UDP port for media (RTP and RTCP)."
    )
    rtp_port_end: int = Field(default=10999, ge=1025, le=65535, description="Last one.")
    codecs: tuple[Codec, ...] = Field(
        default=(Codec.G722, Codec.PCMA, Codec.PCMU),
        min_length=1,
        description="Codecs in order of preference; others are not offered.",
    )
    public_address: str = Field(
        default="", description="Behind NAT with a fixed address: the address that others see."
    )
    stun_servers: tuple[str, ...] = Field(
        default=(), description="STUN servers (`host:port`) that tell the public address. Optional."
    )
    max_calls: int | None = Field(
        default=None, ge=1, description="Most calls at once. Empty: what the library can hold."
    )
    full_code: Literal[486, 503] = Field(
        default=503, description="Answer to a call above `max_calls`: 486 Busy Here or 503."
    )
    retry_after_s: int = Field(
        default=10, ge=1, description="Retry-After that goes with it, seconds (RFC 3261 20.33)."
    )
    media_timeout_s: int = Field(
        default=30,
        ge=0,
        description="End a call when no RTP came for so long, seconds, unless it is on hold; 0: never.",
    )
    jitter_min_ms: int = Field(
        default=20,
        ge=0,
        le=200,
        description="Least that the jitter buffer holds back once the network has shown jitter.",
    )
    jitter_max_ms: int = Field(
        default=200, ge=20, le=1000, description="Most that it may hold; later packets are lost."
    )
    resample_quality: int = Field(
        default=4, ge=1, le=10, description="Quality of 8 to 16 kHz conversion; 10 costs most."
    )
    session_timer_s: int = Field(
        default=1800, ge=0, description="Session-Expires (RFC 4028), seconds; 0: no session timer."
    )
    user_agent: str = Field(default="Trunkline", description="User-Agent header.")
    log_level: int = Field(
        default=2, ge=1, le=5, description="PJSIP's own log: 1 errors, 3 information, 5 trace."
    )
    trunks: dict[str, TrunkSettings] = Field(
        default_factory=dict,
        description="The lines, by name. None: calls from anywhere are taken (a closed network only).",
    )

    @field_validator("udp_port", "tcp_port", "tls_port", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value == OFF else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rtp_port_end <= self.rtp_port_start:
            raise ValueError("`rtp_port_end` must be above `rtp_port_start`")
        if self.jitter_max_ms < self.jitter_min_ms:
            raise ValueError("`jitter_max_ms` must not be below `jitter_min_ms`")
        ports = {"udp": self.udp_port, "tcp": self.tcp_port, "tls": self.tls_port}
        if all(port is None for port in ports.values()):
            raise ValueError("one of `udp_port`, `tcp_port` and `tls_port` must be set")
        if self.tls_port is not None and not (self.tls_certificate and self.tls_key):
            raise ValueError("`tls_port` needs `tls_certificate` and `tls_key`")
        for name, trunk in self.trunks.items():
            if ports[trunk.protocol] is None:
                raise ValueError(
                    f"trunk `{name}` uses {trunk.protocol}, but `{trunk.protocol}_port` is off"
                )
        return self
