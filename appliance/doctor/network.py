# SPDX-License-Identifier: Apache-2.0
"""Checks of the phone line's network: ports, NAT, the PBX, and the clock against a time server."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.config import Configured
from appliance.doctor.datagrams import ntp_offset, sip_options, stun_address
from appliance.doctor.finding import Finding, fail, ok, warn

RTP_PORTS_PER_CALL = 2
CLOCK_SKEW_S = 2.0


@dataclass(frozen=True, slots=True)
class SipLine:
    """What the doctor needs to know of a configured `sip` transport."""

    name: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, configured: Configured) -> SipLine:
        """Read the settings of a transport."""
        return cls(configured.name, configured.settings.model_dump())

    @property
    def bind(self) -> str:
        """The local address."""
        return str(self.settings["bind"])

    def ports(self) -> dict[str, int]:
        """Return the SIP ports that are switched on, by protocol."""
        wanted = {kind: self.settings[f"{kind}_port"] for kind in ("udp", "tcp", "tls")}
        return {kind: port for kind, port in wanted.items() if port}

    def trunks(self) -> dict[str, dict[str, Any]]:
        """Return the trunks by name."""
        trunks: dict[str, dict[str, Any]] = self.settings["trunks"]
        return trunks


def sip_ports(line: SipLine) -> tuple[list[Finding], bool]:
    """Whether the SIP ports are free; also says so as one value."""
    findings, free = [], True
    for protocol, port in line.ports().items():
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        where = f"{protocol} {line.bind}:{port}"
        error = _bind_error(line.bind, port, kind)
        if error is None:
            findings.append(ok("sip port", f"{where} is free"))
            continue
        free = False
        if error.errno == errno.EADDRINUSE:
            remedy = "nothing, if that is this box; else stop the other program or change the port"
            findings.append(warn("sip port", f"{where} is in use", remedy))
        else:
            what = f"{where} cannot be used: {error.strerror}"
            remedy = f"correct transport.{line.name}.bind or the port"
            findings.append(fail("sip port", what, remedy))
    return findings, free


def rtp_ports(line: SipLine, sample: int = 40) -> Finding:
    """Whether the media ports are free, by trying some of them, and how many calls they hold."""
    first, last = int(line.settings["rtp_port_start"]), int(line.settings["rtp_port_end"])
    ports = range(first, last + 1, max(1, (last - first) // sample))
    taken = [port for port in ports if _bind_error(line.bind, port, socket.SOCK_DGRAM)]
    calls = (last - first + 1) // RTP_PORTS_PER_CALL
    what = (
        f"udp {first}-{last}: room for {calls} calls, {len(taken)} of {len(ports)} tried are taken"
    )
    wanted = line.settings["max_calls"]
    if wanted and calls < wanted:
        return warn("rtp ports", what, f"widen the range: max_calls is {wanted}")
    if len(taken) > len(ports) // 2:
        return warn("rtp ports", what, "choose another range: rtp_port_start, rtp_port_end")
    return ok("rtp ports", what)


def _bind_error(host: str, port: int, kind: socket.SocketKind) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def nat(line: SipLine, public_peer: str | None) -> Iterator[Finding]:
    """Whether the address that the box tells its peers is one that they can send media to.

    Args:
        line: the transport.
        public_peer: a peer with a public address, if there is one.
    """
    told = str(line.settings["public_address"])
    for server in line.settings["stun_servers"]:
        try:
            seen, _ = stun_address(server)
        except (OSError, ValueError) as error:
            yield warn("nat", f"the STUN server {server} does not answer: {error}", "correct it")
            continue
        if told and told != seen:
            what = f"{server} sees this box at {seen}, but public_address says {told}"
            yield warn("nat", what, f"set transport.{line.name}.public_address to {seen}")
        else:
            yield ok("nat", f"{server} sees this box at {seen}")
    if told:
        yield ok("nat", f"the box tells its peers {told}")
    elif public_peer is not None and not line.settings["stun_servers"]:
        local = _local_address(public_peer)
        if local is not None and ipaddress.ip_address(local).is_private:
            what = f"the peer {public_peer} is on the internet; the box is at {local}, behind NAT"
            remedy = (
                f"set transport.{line.name}.public_address or stun_servers, or no audio arrives"
            )
            yield warn("nat", what, remedy)
    elif not line.settings["stun_servers"]:
        yield ok("nat", "no peer outside the local network")


def _local_address(peer: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((peer, 5060))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def callers(line: SipLine) -> Finding:
    """Whether only the configured trunks may call, or anybody who reaches the port."""
    trunks = line.trunks()
    if trunks:
        return ok("callers", f"only the trunks {', '.join(sorted(trunks))} may call")
    if _is_address(line.bind) and ipaddress.ip_address(line.bind).is_loopback:
        return ok("callers", f"no trunk is configured; {line.bind} is this machine alone")
    what = f"no trunk is configured: the box takes calls from anybody who reaches {line.bind}"
    return warn("callers", what, f"name your PBX in [transport.{line.name}.trunks.NAME]")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def peers(line: SipLine) -> Iterator[tuple[str, str, int, str]]:
    """Yield (trunk, host, port, protocol) of every PBX that the line talks to."""
    for name, trunk in line.trunks().items():
        proxies = trunk.get("outbound_proxies") or ()
        addresses = [*proxies] or [
            *trunk["registrars"],
            *([trunk["peer"]] if trunk["peer"] else []),
        ]
        for address in addresses:
            host, port = host_port(address)
            protocol = str(trunk["protocol"])
            yield name, host, port or (5061 if protocol == "tls" else 5060), protocol


def host_port(uri: str) -> tuple[str, int]:
    """Split a SIP address into host and port; 0 where none is written."""
    found = re.match(r"sips?:(?:[^@]*@)?(\[[^\]]+\]|[^:;?]+)(?::(\d+))?", uri)
    if found is None:
        return uri, 0
    return found.group(1).strip("[]"), int(found.group(2) or 0)


def reachable(trunk: str, host: str, port: int, protocol: str) -> Finding:
    """Whether a PBX answers OPTIONS; TLS is tried as far as the TCP connection."""
    check, where = f"pbx {trunk}", f"{host}:{port} by {protocol}"
    try:
        if protocol == "tls":
            with socket.create_connection((host, port), timeout=2):
                return ok(check, f"{where} accepts connections")
        reply = sip_options(host, port, protocol)
    except socket.gaierror:
        return fail(check, f"the name {host} is not known", "correct the name, or the DNS settings")
    except OSError as error:
        reason = "no answer in 2 s" if isinstance(error, TimeoutError) else str(error)
        remedy = "check address, port, cable and firewall, and that the PBX allows this address"
        return fail(check, f"{where}: {reason}", remedy)
    server = f" ({reply.server})" if reply.server else ""
    return ok(check, f"{where} answers {reply.status} in {reply.milliseconds:.0f} ms{server}")


def clock(server: str | None) -> Finding:
    """This clock against a time server."""
    if server is None:
        return ok("clock", "not compared: box.ntp_server is not set")
    try:
        offset = ntp_offset(server)
    except OSError as error:
        remedy = "correct box.ntp_server, or remove it"
        return warn("clock", f"{server} does not answer: {error}", remedy)
    what = f"{abs(offset):.3f} s {'behind' if offset > 0 else 'ahead of'} {server}"
    if abs(offset) > CLOCK_SKEW_S:
        return warn("clock", what, "set the clock: install chrony or systemd-timesyncd")
    return ok("clock", what)


def is_public(host: str) -> bool:
    """Tell whether a host, by its address, is on the internet."""
    try:
        address = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0]
        return ipaddress.ip_address(address).is_global
    except (OSError, ValueError):
        return False
