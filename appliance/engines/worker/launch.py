# SPDX-License-Identifier: Apache-2.0
"""One worker process of this box: started, asked what it is, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from appliance.engines.worker import codec
from appliance.engines.worker.link import Link
from appliance.engines.worker.process import GRACE_S, WorkerSpec
from appliance.plugin import ConfigurationError, ProviderTimeoutError, UnavailableError

_PREFIX = "trunkline-engines-"


class WorkerProcess:
    """A process and the link to it; made by `launch`.

    Attributes:
        pid: of the process.
        link: to it.
        capabilities: of the provider that it hosts.
        exited: becomes the exit code; negative is the number of a signal.
    """

    def __init__(self, process: asyncio.subprocess.Process, link: Link) -> None:
        self._process = process
        self.pid = process.pid
        self.link = link
        self.capabilities: Any = None
        self.exited: asyncio.Future[int] = asyncio.ensure_future(process.wait())

    @classmethod
    async def launch(cls, spec: WorkerSpec, timeout_s: float) -> WorkerProcess:
        """Start a worker and wait until its provider is built.

        Raises:
            ProviderError: what building the provider raised; `ConfigurationError` when the provider
                cannot be handed to another process; `UnavailableError` when the process ended.
        """
        given = _pickled(spec)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "appliance.engines.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else None,
            env=_environment(),
            start_new_session=True,  # Ctrl-C at a terminal is for the box, which drains first
        )
        made = cls(process, Link(spec.listen))
        try:
            await made._hand_over(given)
            await made._introduce(timeout_s)
        except BaseException:
            await made.kill()
            raise
        return made

    async def _hand_over(self, given: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended: `exited` tells
            stdin.write(given)
            await stdin.drain()
        stdin.close()

    async def _introduce(self, timeout_s: float) -> None:
        asking = asyncio.ensure_future(self.link.describe(timeout_s))
        try:
            both: set[asyncio.Future[Any]] = {asking, self.exited}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                message = f"the engine worker ended with code {self.exited.result()} at its start"
                raise UnavailableError(message, remedy="its log says why")
            self.capabilities = codec.capabilities(asking.result())
        except ProviderTimeoutError as error:
            raise ProviderTimeoutError(f"not ready within {timeout_s:g} s") from error
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    def memory_mib(self) -> int:
        """Return the memory of its own that it uses, without mapped files; 0 when it is gone."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            return 0
        return (int(fields[1]) - int(fields[2])) * resource.getpagesize() >> 20

    def wants_to_run(self) -> bool:
        """Tell whether its main thread would run if it were given a processor, or waits for a disk.

        proc(5): state R is running or runnable, D is uninterruptible sleep. A process that hangs is in
        S (asleep: waiting for a lock, for instance) or T (stopped).
        """
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] in {"R", "D"}

    async def stop(self) -> None:
        """Let it end by itself, and kill it when it does not. Idempotent."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            await asyncio.wait({self.exited}, timeout=GRACE_S + 3)
        await self.kill()

    async def kill(self) -> None:
        """End it now. Idempotent."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await asyncio.wait({self.exited})
        await self.link.close()


def _pickled(spec: WorkerSpec) -> bytes:
    try:
        return pickle.dumps(spec)
    except Exception as error:  # pickle raises whatever the object's own methods raise
        raise ConfigurationError(
            f"the provider {spec.offer.id} cannot run in a worker: {error}",
            remedy='use placement = "inline"',
        ) from error


def _environment() -> dict[str, str]:
    """Return this environment, with the modules that this process finds to be found there too."""
    paths = [path or str(Path.cwd()) for path in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _has_descriptor(stream: Any) -> bool:
    try:
        return bool(stream.fileno() >= 0)
    except (AttributeError, OSError, ValueError):
        return False


def socket_folder() -> Path:
    """Make a folder for sockets that nobody else may enter (0700), and remove those of dead boxes."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            owner = int(folder.name.removeprefix(_PREFIX).partition("-")[0])
            if folder.stat().st_uid == os.getuid() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(folder)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
