# SPDX-License-Identifier: GPL-3.0-or-later
"""The phone line: SIP trunks and extensions by PJSIP (pjsua2)."""

from __future__ import annotations

from appliance.plugin import (
    BuildContext,
    Kind,
    Offer,
    Transport,
    TransportCapabilities,
    hookimpl,
)
from trunkline_sip.settings import Codec, SipSettings, Srtp, TrunkSettings

__all__ = ["CAPABILITIES", "Codec", "SipSettings", "Srtp", "TrunkSettings", "build"]

CAPABILITIES = TransportCapabilities(
    outbound=True, hold=True, transfer=True, dtmf=True, codecs=("G722", "PCMA", "PCMU")
)


def build(settings: SipSettings, _context: BuildContext) -> Transport:
    """Find and load the SIP library; nothing is bound before `start`.

    Raises:
        ConfigurationError: no usable pjsua2 library.
    """
    from trunkline_sip.library import load  # noqa: PLC0415
    from trunkline_sip.transport import SipTransport  # noqa: PLC0415

    return SipTransport(settings, load())


@hookimpl
def register_providers() -> list[Offer]:
    """Offer the transport."""
    return [
        Offer(
            id="sip",
            kind=Kind.TRANSPORT,
            settings=SipSettings,
            build=build,
            capabilities=CAPABILITIES,
            summary="SIP trunks and extensions by PJSIP: UDP, TCP, TLS, SRTP, G.711 and G.722.",
        )
    ]
