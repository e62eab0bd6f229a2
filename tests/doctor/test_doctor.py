# SPDX-License-Identifier: Apache-2.0
"""The doctor: finds what is wrong, and says what to do about it."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from appliance.cli.doctor import doctor
from appliance.doctor import Status, machine, network
from appliance.doctor.datagrams import ntp_offset, sip_options, stun_address
from appliance.doctor.network import SipLine, host_port
from tests.doctor.peers import ntp, sip, stun, tcp_server, udp_server


def line(**settings: Any) -> SipLine:
    defaults: dict[str, Any] = {
        "bind": "127.0.0.1",
        "udp_port": None,
        "tcp_port": None,
        "tls_port": None,
        "rtp_port_start": 41000,
        "rtp_port_end": 41099,
        "max_calls": None,
        "public_address": "",
        "stun_servers": (),
        "trunks": {},
    }
    return SipLine("pbx", {**defaults, **settings})


def test_a_line_without_a_trunk_that_others_can_reach_is_warned_about() -> None:
    found = network.callers(line(bind="0.0.0.0"))
    assert found.status is Status.WARN
    assert "[transport.pbx.trunks.NAME]" in found.remedy
    assert network.callers(line(bind="127.0.0.1")).status is Status.OK
    assert "only the trunks office" in network.callers(line(trunks={"office": {}})).what


# -- the machine -----------------------------------------------------------------------------


def test_a_processor_without_vector_instructions_is_warned_about() -> None:
    assert machine.processor(1, "flags : fpu sse2 avx2").status is Status.OK
    found = machine.processor(1, "flags : fpu sse2")
    assert (found.status, "AVX2" in found.remedy) == (Status.WARN, True)


def test_more_threads_than_cores_are_warned_about() -> None:
    found = machine.processor(1000, "avx2")
    assert found.status is Status.WARN
    assert "box.threads" in found.remedy


def test_little_memory_is_warned_about() -> None:
    assert machine.memory("MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\n").status is Status.OK
    found = machine.memory("MemTotal: 1000000 kB\nMemAvailable: 500000 kB\n")
    assert found.what == "0.5 GB of 1.0 GB available"
    assert found.status is Status.WARN


def test_few_open_files_are_warned_about_with_the_command_that_raises_them() -> None:
    assert machine.open_files(1_000_000).status is Status.OK
    assert "ulimit -n 4096" in machine.open_files(1024).remedy


def test_the_disk_is_measured_where_the_data_goes(tmp_path: Path) -> None:
    found = machine.disk(tmp_path / "data", samples=3)
    assert "fsync takes" in found.what
    assert (tmp_path / "data").is_dir()


def test_a_data_folder_that_cannot_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = machine.disk(tmp_path / "file" / "data")
    assert found.status is Status.FAIL
    assert "box.data_dir" in found.remedy


# -- the network -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "401 Unauthorized"])
def test_any_answer_to_options_proves_that_a_pbx_is_there(status: str) -> None:
    with udp_server(sip(status)) as port:
        found = network.reachable("main", "127.0.0.1", port, "udp")
    assert found.status is Status.OK
    assert f"answers {status[:3]}" in found.what
    assert "(Test PBX)" in found.what


def test_options_go_by_tcp_too() -> None:
    with tcp_server(sip("200 OK")) as port:
        assert sip_options("127.0.0.1", port, "tcp").status == 200


def test_options_by_udp_are_sent_again_when_the_first_is_lost() -> None:
    seen: list[bytes] = []

    def lossy(data: bytes, sender: tuple[str, int]) -> bytes | None:
        seen.append(data)
        return sip("200 OK")(data, sender) if len(seen) > 1 else None

    with udp_server(lossy) as port:
        reply = sip_options("127.0.0.1", port)
    assert reply.status == 200
    assert seen[0] == seen[1]


def test_a_pbx_that_is_not_there_fails_with_what_to_check() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as unused:
        unused.bind(("127.0.0.1", 0))
        found = network.reachable("main", "127.0.0.1", unused.getsockname()[1], "tcp")
    assert found.status is Status.FAIL
    assert "firewall" in found.remedy


def test_something_else_on_the_port_is_not_taken_for_a_pbx() -> None:
    with tcp_server(lambda data, sender: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        found = network.reachable("main", "127.0.0.1", port, "tcp")
    assert found.status is Status.FAIL
    assert "not one of SIP" in found.what


def test_the_pbxs_of_a_line_are_its_registrars_peers_or_proxies() -> None:
    def trunk(**settings: Any) -> dict[str, Any]:
        empty = {"registrars": (), "peer": "", "outbound_proxies": (), "protocol": "udp"}
        return {**empty, **settings}

    found = network.peers(
        line(
            trunks={
                "a": trunk(registrars=("sip:one.example", "sip:two.example:5070")),
                "b": trunk(peer="sip:10.0.0.1", protocol="tls"),
                "c": trunk(registrars=("sip:x",), outbound_proxies=("sip:proxy:5080;lr",)),
            }
        )
    )
    assert list(found) == [
        ("a", "one.example", 5060, "udp"),
        ("a", "two.example", 5070, "udp"),
        ("b", "10.0.0.1", 5061, "tls"),
        ("c", "proxy", 5080, "udp"),
    ]


def test_addresses_are_split_with_users_parameters_and_ipv6() -> None:
    assert host_port("sip:joe@pbx.example:5070;transport=tcp") == ("pbx.example", 5070)
    assert host_port("sips:[2001:db8::1]:5061") == ("2001:db8::1", 5061)
    assert host_port("sip:pbx") == ("pbx", 0)


def test_a_sip_port_in_use_is_told_from_a_free_one() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        findings, free = network.sip_ports(line(udp_port=port))
        assert not free
        assert findings[0].status is Status.WARN
        assert "in use" in findings[0].what
    findings, free = network.sip_ports(line(udp_port=port))
    assert free
    assert findings[0].status is Status.OK


def test_an_address_that_is_not_this_machines_fails() -> None:
    findings, free = network.sip_ports(line(udp_port=5060, bind="192.0.2.1"))
    assert not free
    assert findings[0].status is Status.FAIL


def test_too_few_media_ports_for_the_calls_wanted_are_warned_about() -> None:
    assert "room for 50 calls" in network.rtp_ports(line()).what
    found = network.rtp_ports(line(max_calls=100))
    assert found.status is Status.WARN
    assert "widen" in found.remedy


def test_a_stun_server_tells_the_public_address() -> None:
    with udp_server(stun("198.51.100.7", 40123)) as port:
        assert stun_address(f"127.0.0.1:{port}") == ("198.51.100.7", 40123)
        (agrees,) = network.nat(line(stun_servers=(f"127.0.0.1:{port}",)), None)
        disagrees = next(
            network.nat(
                line(stun_servers=(f"127.0.0.1:{port}",), public_address="198.51.100.8"), None
            )
        )
    assert agrees.status is Status.OK
    assert disagrees.status is Status.WARN
    assert disagrees.remedy == "set transport.pbx.public_address to 198.51.100.7"


def test_a_public_peer_seen_from_a_private_address_needs_nat_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "_local_address", lambda peer: "192.168.1.5")
    (found,) = network.nat(line(), "198.51.100.1")
    assert found.status is Status.WARN
    assert "public_address" in found.remedy
    (inside,) = network.nat(line(), None)
    assert inside.status is Status.OK


@pytest.mark.parametrize(("ahead_s", "status"), [(0.1, Status.OK), (30.0, Status.WARN)])
def test_the_clock_is_compared_with_a_time_server(ahead_s: float, status: Status) -> None:
    with udp_server(ntp(ahead_s)) as port:
        assert ntp_offset(f"127.0.0.1:{port}") == pytest.approx(ahead_s, abs=0.05)
        found = network.clock(f"127.0.0.1:{port}")
    assert found.status is status
    assert "behind" in found.what


def test_a_time_server_that_is_silent_is_only_a_warning() -> None:
    with udp_server(lambda data, sender: b"x") as port:
        found = network.clock(f"127.0.0.1:{port}")
    assert found.status is Status.WARN
    assert "box.ntp_server" in found.remedy


# -- the whole -------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    app = typer.Typer()
    app.command()(doctor)
    result = CliRunner().invoke(app, [*arguments, "--json"])
    return result.exit_code, {one["check"]: one for one in json.loads(result.stdout)}


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write(tmp_path: Path, text: str) -> str:
    (tmp_path / "appliance.toml").write_text(text)
    return str(tmp_path / "appliance.toml")


def test_engines_are_run_and_their_speed_is_told(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        '[text_to_speech.local]\nuse = "espeak"\n[language_model.local]\nuse = "scripted"\n',
    )
    code, found = run("--config", config)
    assert code == 0, found
    assert "s of speech in" in found["text to speech local"]["what"]
    assert "pieces of text" in found["language model local"]["what"]
    assert "a window" in found["voice activity voice_activity"]["what"]


def test_a_model_that_is_not_there_fails_with_the_command_that_gets_it(tmp_path: Path) -> None:
    config = write(tmp_path, '[language_model.a]\nuse = "llama_cpp"\nmodel = "small/llm"\n')
    code, found = run("--config", config)
    assert code == 1
    assert found["model small/llm"]["remedy"] == "run: trunkline models pull small"
    assert found["language model a"]["status"] == "fail"


def test_a_trunk_whose_pbx_is_silent_is_found_unreachable_and_unregistered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.doctor.parts.REGISTER_S", 0.5)
    with udp_server(lambda data, sender: None) as silent:
        config = write(
            tmp_path,
            f"""
            [transport.pbx]
            use = "sip"
            bind = "127.0.0.1"
            udp_port = {free_port()}
            [transport.pbx.trunks.main]
            registrars = ["sip:127.0.0.1:{silent}"]
            username = "200"
            """,
        )
        code, found = run("--config", config)
    assert code == 1
    assert "no answer in 2 s" in found["pbx main"]["what"]
    assert found["trunk main"]["status"] == "fail"
    assert "PJSIP" in found["line pbx"]["what"]


def test_a_broken_configuration_is_a_finding_and_the_machine_is_still_looked_at(
    tmp_path: Path,
) -> None:
    code, found = run("--config", write(tmp_path, "[boxx]\n"))
    assert code == 1
    assert "did you mean [box]" in found["configuration"]["what"]
    assert found["disk"]["status"] in {"ok", "warn"}


def test_without_a_configuration_the_machine_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, found = run("--machine")
    assert code == 0
    assert {"python", "cpu", "memory", "gpu", "disk", "open files", "timer", "clock"} <= set(found)
