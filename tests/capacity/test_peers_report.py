# SPDX-License-Identifier: Apache-2.0
"""What the comparison makes of its samples."""

from pathlib import Path

from appliance.caller.open_loop import Heard
from tests.benchmarks.peers.__main__ import PeersReport, Samples, arms, holds, summarize
from tests.benchmarks.peers.arms import peer_order
from tests.benchmarks.peers.order import Order
from tests.benchmarks.soak import drift
from tests.lab.process import DEMO_CONFIG


def samples(latency_s: float, *, missed: bool = False, failed: bool = False) -> Samples:
    heard = Heard([latency_s] * 20, [True], [False], [missed] * 20, [0.3], 60.0, failed)
    return Samples([heard], [5.0], [200.0], [1.0])


def test_a_load_is_held_only_when_it_is_fast_and_nothing_is_lost() -> None:
    assert holds(samples(0.9))
    assert not holds(samples(1.1))
    assert not holds(samples(0.5, missed=True))
    assert not holds(samples(0.5, failed=True))
    assert not holds(Samples())


def test_results_are_named_arm_metric_and_load() -> None:
    report = PeersReport({"one": {"versions": {"x": "1"}}})
    summarize(report, {("one", 1): samples(0.4), ("one", 4): samples(0.8), ("two", 4): samples(2)})
    found = report.as_dict()
    assert found["results"]["one/answer_latency@4"]["p50"] == 800
    assert found["results"]["one/cut_ins_in_a_pause@1"]["mean"] == 1
    assert found["results"]["one/calls_held"]["p50"] == 4
    assert found["results"]["two/calls_held"]["p50"] == 0
    assert found["arms"]["one"]["versions"] == {"x": "1"}


def test_the_peers_are_given_the_example_agent_as_it_is() -> None:
    order = peer_order()
    assert "Larkspur Dental" in order["system"]
    assert order["greeting"].startswith("Larkspur Dental")
    assert {tool["name"] for tool in order["tools"]} == {"book_appointment", "end_call"}
    assert Path(order["recognizer"], "model.bin").is_file()
    whole = Order(path="/x", llm_url="http://127.0.0.1", tuned=True, **order)
    assert Order.load(whole.dump()) == whole


def test_every_peer_has_an_arm_tuned_shared_and_shipped() -> None:
    expected = {"trunkline", "trunkline-sip"}
    for peer in ("pipecat", "livekit"):
        expected |= {peer, f"{peer}-shared", f"{peer}-shipped"}
    assert set(arms(DEMO_CONFIG)) == expected


def test_drift_is_what_the_last_third_has_more_than_the_first() -> None:
    assert drift([10, 10, 10, 11, 12, 13, 20, 20, 20]) == 10
    assert drift([5]) == 0
