# SPDX-License-Identifier: Apache-2.0
"""What makes a process a worker: it dies with its box, its memory is bounded, it serves until told to."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from appliance import logs
from appliance.engines.worker.host import EngineHost
from appliance.plugin import BuildContext, Offer, Settings
from appliance.plugin.loading import in_daemon_thread

_log = structlog.get_logger(__name__)

GRACE_S = 2.0
"""How long streams may still run after SIGTERM; the supervisor drains before it sends one."""

HEADROOM_MIB = 1024
"""Address space beyond `memory_mib` for what is reserved and not used: stacks, arenas."""

NICE = 5
"""An engine takes what the calls' audio leaves: a frame has to go out every 20 ms, and costs little."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """All that a worker has to know. A box pickles it into the standard input of the process it starts:
    settings hold secrets, which belong neither on a command line nor in an environment.

    Attributes:
        offer: whose provider it hosts.
        settings: of that provider.
        context: what the provider is built with.
        listen: `unix:PATH` or `host:port`; filled in by who starts it.
        streams: how many streams may run at a time.
        memory_mib: MiB of memory of its own that it may use; 0 sets no limit.
        parent: process id of the box; the worker dies with it. 0: it has none.
        log_level: as in `[box]`.
        log_format: as in `[box]`.
        switch_interval_s: how long one Python thread may keep the others waiting.
    """

    offer: Offer
    settings: Settings
    context: BuildContext
    listen: str = ""
    streams: int = 64
    memory_mib: int = 0
    parent: int = 0
    log_level: str = "info"
    log_format: str = "console"
    switch_interval_s: float = 0.001


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Certificates for mutual TLS, as PEM files: `ca` signed the other side's certificate."""

    ca: Path
    cert: Path
    key: Path

    def server(self) -> grpc.ServerCredentials:
        """Return what a worker listens with; a client without a certificate is refused.

        Raises:
            OSError: a file cannot be read.
        """
        pair = (self.key.read_bytes(), self.cert.read_bytes())
        return grpc.ssl_server_credentials([pair], self.ca.read_bytes(), require_client_auth=True)

    def client(self) -> grpc.ChannelCredentials:
        """Return what a box connects with.

        Raises:
            OSError: a file cannot be read.
        """
        key, cert = self.key.read_bytes(), self.cert.read_bytes()
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), key, cert)


def run(spec: WorkerSpec, tls: TlsFiles | None = None) -> int:
    """Host the provider until SIGTERM; return the exit code."""
    logs.setup(spec.log_level, spec.log_format)
    logging.getLogger("grpc").setLevel(logging.WARNING)  # it logs every call at debug
    sys.setswitchinterval(spec.switch_interval_s)
    if spec.parent:
        if not _die_with(spec.parent):
            return 1
        os.nice(NICE)
    _bound_memory(spec.memory_mib)
    return asyncio.run(_serve(spec, tls))


def _die_with(parent: int) -> bool:
    """Have the kernel kill this process when its box is gone, however that ended (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent  # else it went before we asked


def _bound_memory(memory_mib: int) -> None:
    """Let an allocation far beyond the limit fail, and offer this process to the kernel's killer first.

    The supervisor ends a worker whose memory grows past the limit; what is bounded here is the jump that
    would be over before it looks. RLIMIT_DATA counts private writable memory (setrlimit(2)): not the
    model files that are mapped, and not address space that is only reserved.
    """
    if memory_mib:
        limit = (memory_mib + HEADROOM_MIB) << 20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    except OSError as error:
        _log.debug("the kernel keeps its order of killing", error=str(error))


async def _serve(spec: WorkerSpec, tls: TlsFiles | None) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, stopping.set)
    built = asyncio.wrap_future(
        in_daemon_thread(lambda: spec.offer.build(spec.settings, spec.context), "build")
    )
    host = EngineHost(spec.offer.kind, spec.offer.id, built, spec.streams)
    port = await host.start(spec.listen, tls.server() if tls is not None else None)
    _log.info("worker listening", offer=spec.offer.id, kind=spec.offer.kind.value, port=port)
    readying = asyncio.ensure_future(host.ready())
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({readying, stop}, return_when=asyncio.FIRST_COMPLETED)
    if readying.done() and (error := readying.exception()) is not None:
        _log.error("worker cannot serve", offer=spec.offer.id, error=str(error))
        if spec.parent:  # the box asks why, and ends us
            await stop
    else:
        await stop
    readying.cancel()
    await host.stop(GRACE_S)
    failed = built.done() and not built.cancelled() and built.exception() is not None
    return 1 if failed else 0
