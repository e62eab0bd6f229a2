# SPDX-License-Identifier: GPL-3.0-or-later
"""Which trunk a call belongs to, and when a trunk registers where. No I/O; time is a parameter."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from trunkline_sip import messages
from trunkline_sip.settings import TrunkSettings

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

DENIED = frozenset({401, 403, 404, 407})
"""Answers that another registrar or a quick retry will not change."""
DENIED_RETRY_S = 60.0
"""Least pause after such an answer: PBXs ban addresses that keep trying."""

OPEN_TRUNK = "any"
"""Name of the trunk of a box that has none configured."""


def server_hosts(trunk: TrunkSettings) -> tuple[str, ...]:
    """Return the hosts whose calls belong to the trunk without being listed."""
    return tuple(messages.host(uri) for uri in (*trunk.registrars, trunk.peer) if uri)


class TrunkTable:
    """Finds the trunk of an incoming request by where it comes from."""

    def __init__(self, trunks: Mapping[str, TrunkSettings]) -> None:
        self._trunks = dict(trunks)
        self._servers: dict[str, frozenset[Address]] = {}

    def set_servers(self, name: str, addresses: Iterable[str]) -> None:
        """Set what the hosts of a trunk resolve to."""
        self._servers[name] = frozenset(ipaddress.ip_address(address) for address in addresses)

    def find(self, source: str, called_user: str) -> str | None:
        """Return the trunk's name, or None for a source that no trunk knows.

        Of several trunks with this source it is the one whose username was called, else the first.
        """
        if not self._trunks:
            return OPEN_TRUNK
        try:
            address = ipaddress.ip_address(messages.split_port(source)[0])
        except ValueError:
            return None
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        names = [name for name in self._trunks if self._knows(name, address)]
        for name in names:
            if called_user and self._trunks[name].username == called_user:
                return name
        return names[0] if names else None

    def _knows(self, name: str, address: Address) -> bool:
        if address in self._servers.get(name, ()):
            return True
        return any(address in network for network in self._trunks[name].accept_from)


@dataclass(slots=True)
class Registration:
    """When to register where: order of registrars, failover, pauses.

    `due` says that a REGISTER must be sent now to `registrar`; `result` takes the answer. PJSIP
    renews a registration that stands by itself.
    """

    registrars: tuple[str, ...]
    username: str
    retry_s: float
    registered: bool = False
    detail: str = "not tried yet"
    failures: int = 0
    _index: int = 0
    _next: float | None = field(default=0.0)

    @property
    def registrar(self) -> str:
        """The one in use."""
        return self.registrars[self._index]

    def due(self, now: float) -> bool:
        """Return whether to send a REGISTER now; if so it counts as sent."""
        if self._next is None or now < self._next:
            return False
        self._next = None
        return True

    def result(self, code: int, reason: str, expires_s: int, now: float) -> None:
        """Take the registrar's answer; code 408 or 503 also stands for no answer at all."""
        used = self.registrar
        if code // 100 == 2:
            self.registered = expires_s > 0
            self.detail = f"registered at {used}" if self.registered else "unregistered"
            return
        self.registered = False
        self.failures += 1
        if code in DENIED:
            remedy = "check username and password"
            self.detail = f"{used} refused user {self.username}: {code} {reason} ({remedy})"
            self._next = now + max(self.retry_s, DENIED_RETRY_S)
            return
        self.detail = f"{used} did not register us: {code} {reason}"
        self._index = (self._index + 1) % len(self.registrars)
        self._next = now if self._index else now + self.retry_s
