# SPDX-License-Identifier: Apache-2.0
"""What a process and its children have used."""

import os
import subprocess
import sys

from appliance.capacity.usage import usage

NESTED = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', "
    "'s = 0\\nfor i in range(3_000_000): s += i\\nprint(1, flush=True)\\ninput()'], stdin=0); child.wait()"
)


def test_the_tree_of_a_process_is_counted_with_its_children() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NESTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = usage([process.pid])
        process.communicate(b"\n")
    assert used.processes == 2
    assert used.cpu_s > 0.05
    assert used.pss_mib > 2
    assert used.files >= 6
    assert used.threads >= 2


def test_a_process_that_has_ended_counts_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
    assert usage([process.pid]).processes == 0
    assert usage([os.getpid()]).processes >= 1
