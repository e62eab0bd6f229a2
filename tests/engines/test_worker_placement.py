# SPDX-License-Identifier: Apache-2.0
"""Where a provider runs is configuration: inline, in a worker of the box, or on another machine by TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.config import BoxConfig, ConfigError, load
from appliance.engines.pool import EnginePool
from appliance.engines.worker.base import WorkerState
from appliance.engines.worker.link import Link
from appliance.engines.worker.process import TlsFiles
from appliance.plugin import (
    ConfigurationError,
    Kind,
    LlmRequest,
    Message,
    Offer,
    Role,
    Settings,
    TextDelta,
    UnavailableError,
)
from appliance.plugin.manager import PluginManager
from tests.call import fakes
from tests.engines.worker_providers import OFFERS
from tests.lab.process import ROOT
from tests.telephony.peers import free_port, until


class Offers:
    """The puppets, a detector, and what is installed."""

    def __init__(self) -> None:
        self._installed = PluginManager.discover(["scripted"])

    def offer(self, kind: Kind, id: str) -> Offer:  # noqa: A002
        if id == "puppet":
            return OFFERS[kind]
        if kind is Kind.VOICE_ACTIVITY:
            return Offer("vad", kind, Settings, lambda *_: fakes.LevelVad(), None, "")
        return self._installed.offer(kind, id)


def config(tmp_path: Path, text: str) -> BoxConfig:
    path = tmp_path / "appliance.toml"
    path.write_text(text + '\n[voice_activity]\nuse = "vad"\n')
    return load(path, Offers())


async def said(pool: EnginePool, name: str, text: str) -> str:
    request = LlmRequest((Message(Role.USER, text),))
    deltas = pool.language_model([name]).reply(request, lambda _: None)
    return "".join([delta.text async for delta in deltas if isinstance(delta, TextDelta)])


@contextlib.asynccontextmanager
async def running(box: BoxConfig) -> AsyncIterator[EnginePool]:
    pool = EnginePool(box, Path)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.aclose()


async def test_a_section_says_where_its_provider_runs_and_the_chains_do_not_know(
    tmp_path: Path,
) -> None:
    sections = """
[language_model.here]
use = "puppet"
name = "here"
[language_model.there]
use = "puppet"
name = "there"
placement = "worker"
[language_model.there.worker]
memory_mib = 500
streams = 3
[language_model.rules]
use = "scripted"
fallback = "By rule."
placement = "worker"
"""
    async with running(config(tmp_path, sections)) as pool:
        assert await said(pool, "here", "who") == "here "
        assert await said(pool, "there", "who") == "there "
        assert await said(pool, "rules", "who") == "By rule."
        there, rules = pool.workers()
        assert (there.name, there.state) == ("language_model.there", WorkerState.READY)
        assert there.pid not in {0, os.getpid(), rules.pid}
        os.kill(there.pid, signal.SIGKILL)
        assert await said(pool, "rules", "who") == "By rule."
        await until(lambda: pool.workers()[0].restarts == 1, 90)
        await pool.replace(Kind.LANGUAGE_MODEL, "there")
        assert await said(pool, "there", "who") == "there "
        with pytest.raises(ConfigurationError, match="no worker of this box"):
            await pool.replace(Kind.LANGUAGE_MODEL, "here")
    assert pool.workers() == []
    assert not Path(f"/proc/{rules.pid}").exists()


def test_wrong_placements_are_named_with_key_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as wrong:
        config(
            tmp_path,
            """
[language_model.a]
use = "puppet"
placement = "wroker"
[language_model.b]
use = "puppet"
placement = "gpu.example.com:7443"
worker = { ca = "ca.pem" }
[language_model.c]
use = "puppet"
placement = "worker"
worker = { memory_mb = 5 }
[speech_to_text.d]
use = "puppet"
worker = 5
""",
        )
    found = {problem.key: problem for problem in wrong.value.problems}
    assert set(found) == {
        "language_model.a.placement",
        "language_model.b.worker.cert",
        "language_model.b.worker.key",
        "language_model.c.worker.memory_mb",
        "speech_to_text.d.worker",
    }
    assert '"host:port"' in found["language_model.a.placement"].remedy
    assert "memory_mib" in found["language_model.c.worker.memory_mb"].remedy
    assert found["language_model.a.placement"].where.endswith(":4")


def test_certificates_lie_beside_the_configuration(tmp_path: Path) -> None:
    text = """
[language_model.far]
use = "puppet"
placement = "gpu:7443"
worker = { ca = "tls/ca.pem", cert = "tls/box.pem", key = "tls/box.key" }
"""
    placement = config(tmp_path, text).providers(Kind.LANGUAGE_MODEL)["far"].placement
    assert placement.remote
    assert placement.worker.ca == tmp_path / "tls/ca.pem"


# -- another machine -----------------------------------------------------------------------------


@dataclass
class Authority:
    """A certificate authority of one test."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        made = self._made(self._name, self._key).add_extension(basic, critical=True)
        self._write("ca.pem", made.sign(self._key, hashes.SHA256()))

    def _made(self, name: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def files(self, name: str) -> TlsFiles:
        """Issue a certificate for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        made = self._made(subject, key).add_extension(
            x509.SubjectAlternativeName([address]), critical=False
        )
        private = self.folder / f"{name}.key"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        certificate = self._write(f"{name}.pem", made.sign(self._key, hashes.SHA256()))
        return TlsFiles(self.folder / "ca.pem", certificate, private)


@contextlib.asynccontextmanager
async def far_worker(tmp_path: Path, port: int, tls: TlsFiles) -> AsyncIterator[int]:
    """Run a worker as a person starts one on another machine; yield its process id."""
    path = tmp_path / "gpu.toml"
    path.write_text(
        '[language_model.big]\nuse = "scripted"\nfallback = "From afar."\nword_delay_s = 0.05\n'
        '[speech_to_text.ears]\nuse = "scripted"\n'
    )
    options = {"--ca": tls.ca, "--cert": tls.cert, "--key": tls.key, "--config": path}
    options |= {"--engine": Path("language_model.big"), "--listen": Path(f"127.0.0.1:{port}")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "appliance.engines.worker"),
        *(str(part) for pair in options.items() for part in pair),
        cwd=ROOT,
    )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) in {0, -signal.SIGKILL}


async def test_a_worker_on_another_machine_serves_over_mutual_tls_and_may_come_and_go(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path / "tls")
    port = free_port(socket.SOCK_STREAM)
    box = authority.files("box")
    sections = f"""
[language_model.big]
use = "scripted"
placement = "127.0.0.1:{port}"
worker = {{ ca = "{box.ca}", cert = "{box.cert}", key = "{box.key}" }}
"""
    async with running(config(tmp_path, sections)) as pool:
        [status] = pool.workers()
        assert (status.state, status.placement) == (WorkerState.SILENT, f"127.0.0.1:{port}")
        with pytest.raises(UnavailableError):
            await said(pool, "big", "Hello.")
        worker = authority.files("worker")
        async with far_worker(tmp_path, port, worker) as pid:
            await until(lambda: pool.workers()[0].state is WorkerState.READY, 90)
            assert await said(pool, "big", "Hello.") == "From afar."
            os.kill(pid, signal.SIGKILL)
            await until(lambda: pool.workers()[0].state is WorkerState.SILENT, 5)
        async with far_worker(tmp_path, port, worker):
            await until(lambda: pool.workers()[0].state is WorkerState.READY, 90)
            assert await said(pool, "big", "Hello.") == "From afar."
            await nobody_else_is_served(port, authority, tmp_path)


async def nobody_else_is_served(port: int, authority: Authority, tmp_path: Path) -> None:
    """Without a certificate of the authority there is no answer, and no worker but the right one."""
    target = f"127.0.0.1:{port}"
    trusted = (authority.folder / "ca.pem").read_bytes()
    strangers = Authority(tmp_path / "strangers")
    stranger = strangers.files("box")
    believing = TlsFiles(authority.folder / "ca.pem", stranger.cert, stranger.key)
    doubting = TlsFiles(stranger.ca, *_pair(authority.files("other")))
    for credentials in (
        None,
        grpc.ssl_channel_credentials(trusted),
        believing.client(),
        doubting.client(),
    ):
        link = Link(target, credentials)
        assert not await link.healthy(1.0)
        await link.close()
    link = Link(target, authority.files("second").client())
    assert await link.healthy(5.0)
    await link.close()


def _pair(files: TlsFiles) -> tuple[Path, Path]:
    return files.cert, files.key


async def test_certificates_that_cannot_be_read_are_named_at_the_start(tmp_path: Path) -> None:
    sections = """
[language_model.big]
use = "scripted"
placement = "127.0.0.1:9"
worker = { ca = "ca.pem", cert = "box.pem", key = "box.key" }
"""
    async with running(config(tmp_path, sections)) as pool:
        [fault] = pool.faults
        assert "box.key" in str(fault.error)
        assert pool.workers() == []
