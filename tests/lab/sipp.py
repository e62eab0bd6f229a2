# SPDX-License-Identifier: Apache-2.0
"""SIPp callers that play real audio for as long as a call lasts."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

from appliance.audio.g711 import encode_ulaw
from appliance.plugin import Pcm

SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="caller with audio">
  <send retrans="500"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]SIPpTag[call_number]
To: <sip:[service]@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:sipp@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000
a=ptime:20
  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="183" optional="true"/>
  <recv response="200" rrs="true"/>
  <send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]SIPpTag[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0
  ]]></send>
  <nop><action><exec rtp_stream="{audio},-1,0,PCMU/8000"/></action></nop>
  <pause milliseconds="{hold_ms}"/>
  <send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]SIPpTag[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0
  ]]></send>
  <recv response="200"/>
</scenario>
"""


def available() -> bool:
    """Return whether SIPp is installed."""
    return shutil.which("sipp") is not None


def write_audio(path: Path, pcm_8k: Pcm) -> None:
    """Write what the callers play: raw mu-law at 8 kHz."""
    path.write_bytes(encode_ulaw(pcm_8k).astype(np.uint8).tobytes())


def start(
    folder: Path,
    port: int,
    audio: Path,
    *,
    calls: int,
    hold_s: float,
    rate: int = 10,
    at_once: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `calls` calls to 100 at 127.0.0.1:`port`, `rate` a second; exit code 0: none failed."""
    scenario = folder / f"caller-{calls}.xml"
    text = SCENARIO.replace("{audio}", str(audio)).replace("{hold_ms}", str(int(hold_s * 1000)))
    scenario.write_text(text)
    return subprocess.Popen(
        [
            *("sipp", f"127.0.0.1:{port}", "-sf", str(scenario), "-s", "100", "-i", "127.0.0.1"),
            *("-m", str(calls), "-l", str(at_once or calls), "-r", str(rate)),
            *("-nostdin", "-mp", "20000"),
            *("-timeout", f"{int(calls / rate + hold_s * calls / (at_once or calls) + 60)}s"),
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
