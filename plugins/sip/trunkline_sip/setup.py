# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn settings into PJSIP's configuration objects. Called on the SIP thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.plugin import ConfigurationError
from trunkline_sip import messages
from trunkline_sip.library import Library
from trunkline_sip.settings import SipSettings, Srtp, TrunkSettings
from trunkline_sip.trunks import OPEN_TRUNK, Registration, TrunkTable

if TYPE_CHECKING:
    from trunkline_sip.stack import Stack

_ANY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104


def endpoint_config(library: Library, settings: SipSettings, writer: Any) -> Any:
    """Return the configuration of the whole stack."""
    pj = library.pj
    made = pj.EpConfig()
    made.uaConfig.threadCnt = 0
    made.uaConfig.mainThreadOnly = True
    made.uaConfig.maxCalls = library.capacity
    made.uaConfig.userAgent = settings.user_agent
    for server in settings.stun_servers:
        made.uaConfig.stunServer.append(server)
    made.uaConfig.stunIgnoreFailure = True
    made.logConfig.level = settings.log_level
    made.logConfig.consoleLevel = settings.log_level  # what reaches the writer
    made.logConfig.msgLogging = int(settings.log_level >= 5)
    made.logConfig.decor = 0
    made.logConfig.writer = writer
    media = made.medConfig
    media.clockRate = media.sndClockRate = 16_000
    media.channelCount = 1
    media.audioFramePtime = 20
    media.quality = settings.resample_quality
    media.ecTailLen = 0
    media.noVad = True  # RTP goes on in silence: NAT bindings and media timeouts need it
    media.sndAutoCloseTime = -1  # the null device is our clock
    media.jbInit = settings.jitter_min_ms
    media.jbMinPre = settings.jitter_min_ms
    media.jbMaxPre = max(settings.jitter_min_ms, settings.jitter_max_ms // 2)
    media.jbMax = settings.jitter_max_ms
    return made


def listen(pj: Any, endpoint: Any, settings: SipSettings) -> tuple[str, ...]:
    """Open the SIP ports; return them as text.

    Raises:
        ConfigurationError: a port is taken, or a TLS file cannot be used.
    """
    kinds = {
        "udp": (pj.PJSIP_TRANSPORT_UDP, settings.udp_port),
        "tcp": (pj.PJSIP_TRANSPORT_TCP, settings.tcp_port),
        "tls": (pj.PJSIP_TRANSPORT_TLS, settings.tls_port),
    }
    opened = []
    for name, (kind, port) in kinds.items():
        if port is None:
            continue
        try:
            transport = endpoint.transportCreate(kind, _transport_config(pj, settings, name, port))
        except pj.Error as error:
            raise ConfigurationError(
                f"cannot listen for SIP on {name} {settings.bind}:{port}: {error.reason}",
                remedy=f"free the port, or set `{name}_port` or `bind`",
            ) from error
        place = endpoint.transportGetInfo(transport).localName
        bound = messages.split_port(place)[1] or port
        opened.append(f"{name} {settings.bind}:{bound}")
    return tuple(opened)


def _transport_config(pj: Any, settings: SipSettings, name: str, port: int) -> Any:
    made = pj.TransportConfig()
    made.port = port
    made.boundAddress = "" if settings.bind in _ANY else settings.bind
    made.publicAddress = settings.public_address
    if name == "tls":
        tls = made.tlsConfig
        tls.certFile = str(settings.tls_certificate)
        tls.privKeyFile = str(settings.tls_key)
        tls.password = settings.tls_key_password.get_secret_value()
        tls.CaListFile = str(settings.tls_ca or "")
        tls.verifyServer = settings.tls_verify
    return made


def choose_codecs(pj: Any, endpoint: Any, settings: SipSettings) -> None:
    """Set the codecs' priorities; what is not listed is off.

    Raises:
        ConfigurationError: the library lacks a codec.
    """
    have = {codec.codecId.partition("/")[0]: codec.codecId for codec in endpoint.codecEnum2()}
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 0)
    for place, wanted in enumerate(settings.codecs):
        if wanted.value not in have:
            raise ConfigurationError(
                f"this SIP library has no codec {wanted.value}", remedy="take it out of `codecs`"
            )
        endpoint.codecSetPriority(have[wanted.value], 255 - place)


def open_trunks(stack: Stack) -> None:
    """Make an account for each trunk."""
    from trunkline_sip import directors  # noqa: PLC0415  after the library was chosen
    from trunkline_sip.stack import Trunk  # noqa: PLC0415

    trunks = stack.settings.trunks or {OPEN_TRUNK: TrunkSettings()}
    for name, trunk in trunks.items():
        registration = None
        if trunk.registrars:
            registration = Registration(trunk.registrars, trunk.username, trunk.retry_s)
        config = account_config(stack.library.pj, stack.settings, trunk)
        account = directors.Account(name, stack)
        account.create(config)
        stack.trunks[name] = Trunk(account, config, registration)


def account_config(pj: Any, settings: SipSettings, trunk: TrunkSettings) -> Any:
    """Return the account of a trunk; it does not register before `register`."""
    made = pj.AccountConfig()
    servers = [*trunk.registrars, trunk.peer]
    domain = trunk.domain or messages.host(servers[0]) or "localhost"
    user = trunk.username or "trunkline"
    made.idUri = f"sip:{user}@{domain}"
    made.regConfig.registerOnAdd = False
    made.regConfig.timeoutSec = trunk.expires_s
    made.regConfig.retryIntervalSec = 0  # `Registration` decides
    made.regConfig.firstRetryIntervalSec = 0
    if trunk.password.get_secret_value():
        name = trunk.auth_username or trunk.username
        secret = trunk.password.get_secret_value()
        made.sipConfig.authCreds.append(pj.AuthCredInfo("digest", trunk.realm, name, 0, secret))
    for proxy in trunk.outbound_proxies:
        made.sipConfig.proxies.append(f"{with_protocol(proxy, trunk)};lr")
    nat = made.natConfig
    nat.contactRewriteUse = 2 if trunk.contact_rewrite else 0
    nat.viaRewriteUse = int(trunk.contact_rewrite)
    nat.sdpNatRewriteUse = int(trunk.contact_rewrite and not settings.public_address)
    nat.udpKaIntervalSec = trunk.keepalive_s
    nat.sipOutboundUse = 0
    for stun in ("sipStunUse", "mediaStunUse"):
        use = pj.PJSUA_STUN_USE_DEFAULT if settings.stun_servers else pj.PJSUA_STUN_USE_DISABLED
        setattr(nat, stun, use)
    media = made.mediaConfig
    media.srtpUse = {
        Srtp.OFF: pj.PJMEDIA_SRTP_DISABLED,
        Srtp.OPTIONAL: pj.PJMEDIA_SRTP_OPTIONAL,
        Srtp.REQUIRED: pj.PJMEDIA_SRTP_MANDATORY,
    }[trunk.srtp]
    media.srtpSecureSignaling = 0  # whether keys may cross a LAN in clear is the admin's choice
    media.lockCodecEnabled = False
    rtp = media.transportConfig
    rtp.port = settings.rtp_port_start
    rtp.portRange = settings.rtp_port_end - settings.rtp_port_start
    rtp.boundAddress = "" if settings.bind in _ANY else settings.bind
    rtp.publicAddress = settings.public_address
    timer = settings.session_timer_s
    made.callConfig.timerUse = pj.PJSUA_SIP_TIMER_OPTIONAL if timer else pj.PJSUA_SIP_TIMER_INACTIVE
    if timer:
        made.callConfig.timerSessExpiresSec = max(timer, 90)
    return made


def with_protocol(uri: str, trunk: TrunkSettings) -> str:
    """Return `uri` with the trunk's SIP transport named."""
    if trunk.protocol == "udp" or ";transport=" in uri:
        return uri
    return f"{uri};transport={trunk.protocol}"


def register(stack: Stack, name: str, now: float) -> None:
    """Send a REGISTER to the registrar that is in use now."""
    trunk, settings = stack.trunks[name], stack.settings.trunks[name]
    if trunk.registration is None:
        return
    uri = with_protocol(trunk.registration.registrar, settings)
    try:
        if trunk.config.regConfig.registrarUri != uri:
            trunk.config.regConfig.registrarUri = uri
            trunk.config.regConfig.disableRegOnModify = True
            trunk.account.modify(trunk.config)
        trunk.account.setRegistration(True)
    except stack.library.pj.Error as error:  # not even sent: no answer will come
        trunk.registration.result(503, error.reason, 0, now)


def server(stack: Stack, name: str) -> str:
    """Return the address that a trunk's requests go to, or ""."""
    trunk = stack.trunks[name]
    if trunk.registration is not None:
        return trunk.registration.registrar
    return stack.settings.trunks[name].peer if name in stack.settings.trunks else ""


def qualify(stack: Stack, name: str) -> None:
    """Ask the trunk's server whether it is there (OPTIONS)."""
    uri = server(stack, name)
    if not uri:
        return
    param = stack.library.pj.SendRequestParam()
    param.method = "OPTIONS"
    param.txOption.targetUri = with_protocol(uri, stack.settings.trunks[name])
    stack.trunks[name].account.sendRequest(param)


def trunk_of(table: TrunkTable, message: str, source: str) -> str | None:
    """Return the trunk that a request belongs to."""
    return table.find(source, messages.user(messages.request_uri(message)))


def target_uri(stack: Stack, name: str, target: str) -> str:
    """Return the address to dial for a number or address.

    Raises:
        ValueError: a number on a trunk without a server, or nothing that can be dialled.
    """
    settings = stack.settings.trunks.get(name, TrunkSettings())
    place = server(stack, name)
    if not place and not is_address(target):
        check_number(target)
        raise ValueError(f"trunk `{name}` has neither registrar nor peer: dial a SIP address")
    return with_protocol(address_of(target, place), settings)


def refer_uri(stack: Stack, name: str, target: str, remote: str) -> str:
    """Return the address to refer a far end (`remote`) to: it is that end which will dial it.

    Raises:
        ValueError: nothing that can be dialled.
    """
    return address_of(target, server(stack, name) or remote)


def is_address(target: str) -> bool:
    """Return whether a target is a SIP address, not a number."""
    return target.startswith(("sip:", "sips:"))


def check_number(target: str) -> None:
    """Raise ValueError for what is neither a number nor an extension."""
    if not target or any(c in target for c in " <>@\r\n;"):
        raise ValueError(f"`{target}` is neither a number nor a SIP address")


def address_of(target: str, place: str) -> str:
    """Return the address of a number at the server `place`; an address stays as it is."""
    if is_address(target):
        return target
    check_number(target)
    scheme, _, rest = place.partition(":")
    host_port = rest.rpartition("@")[2].partition(";")[0]
    return f"{scheme}:{target}@{host_port}"
