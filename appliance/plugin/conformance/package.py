# SPDX-License-Identifier: Apache-2.0
"""Checks of a plugin as a package: its manifest, what it offers, and how light it is to load."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from appliance.plugin.conformance.findings import Finding, Outcome
from appliance.plugin.loading import LoadedPlugin, PluginFault

IMPORT_CPU_S = 1.0
ATTEMPTS = 3
"""A busy machine can make one start slow, not three."""

HEAVY = (
    "av",
    "ctranslate2",
    "faster_whisper",
    "llama_cpp",
    "onnxruntime",
    "pjsua2",
    "piper",
    "sentence_transformers",
    "torch",
    "transformers",
)
"""Libraries that load models: they belong into `build`."""

_PROBE = """
import importlib, json, sys, time
from pathlib import Path
import appliance.plugin.manager
from appliance.plugin import hookspecs
import pluggy
watching, did = False, []
def audit(event, args):
    if watching and event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        did.append(event)
sys.addaudithook(audit)
watching = True
start = time.process_time()
module = importlib.import_module(sys.argv[1])
manager = pluggy.PluginManager("trunkline")
manager.add_hookspecs(hookspecs)
manager.register(module)
manager.hook.register_providers()
manager.hook.register_model_packs()
print(json.dumps({"seconds": time.process_time() - start, "did": did, "modules": list(sys.modules)}))
"""


def fault_finding(fault: PluginFault) -> Finding:
    """Return the finding of a plugin that could not be loaded."""
    return Finding("it loads", Outcome.FAILED, f"{fault.stage}: {fault.message}", fault.plugin)


async def check_package(plugin: LoadedPlugin) -> list[Finding]:
    """Check a loaded plugin's package; its offers are checked one by one elsewhere."""
    found = [Finding("it loads", Outcome.PASSED, "", plugin.id), kinds_match(plugin)]
    found.append(hosts_are_named(plugin))
    found.append(await loading_is_light(plugin))
    return found


def kinds_match(plugin: LoadedPlugin) -> Finding:
    """The manifest names exactly the kinds that are offered."""
    name = "the manifest names the kinds it offers, no more and no fewer"
    offered, declared = {offer.kind for offer in plugin.offers}, set(plugin.manifest.kinds)
    if offered == declared:
        return Finding(name, Outcome.PASSED, ", ".join(sorted(offered)), plugin.id)
    detail = f"the manifest says {sorted(declared)}, offered are {sorted(offered)}"
    return Finding(name, Outcome.FAILED, detail, plugin.id)


def hosts_are_named(plugin: LoadedPlugin) -> Finding:
    """Whoever sends something away says where to, and says that it runs there."""
    name = "what leaves the premises has a destination"
    about = plugin.manifest
    if about.sends_off_premises and not about.egress:
        detail = f"it sends {' and '.join(about.sends_off_premises)}, but egress names no host"
        return Finding(name, Outcome.FAILED, detail, plugin.id)
    if about.runs == "cloud" and not about.sends_off_premises:
        detail = "it runs in a cloud, and yet nothing leaves the premises"
        return Finding(name, Outcome.FAILED, detail, plugin.id)
    return Finding(name, Outcome.PASSED, ", ".join(about.egress), plugin.id)


async def loading_is_light(plugin: LoadedPlugin) -> Finding:
    """Import and hooks, alone in a fresh process: no model library, no network, little time."""
    name = "import and hooks are light"
    faults: list[str] = []
    for _ in range(ATTEMPTS):
        faults = await _probe(plugin.installed.module.partition(":")[0])
        if not faults:
            return Finding(name, Outcome.PASSED, "", plugin.id)
    return Finding(name, Outcome.FAILED, "; ".join(faults), plugin.id)


async def _probe(module: str) -> list[str]:
    """Load a plugin in a process of its own; return what is wrong with how it went."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PROBE,
        module,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    except TimeoutError:
        process.kill()
        await process.wait()
        return ["it took longer than 60 s"]
    if process.returncode:
        return err.decode(errors="replace").strip().splitlines()[-1:]
    return _heaviness(json.loads(out.splitlines()[-1]))


def _heaviness(report: Mapping[str, Any]) -> list[str]:
    faults = []
    heavy = sorted(set(HEAVY) & set(report["modules"]))
    if heavy:
        faults.append(f"it imports {', '.join(heavy)} before anything is built")
    if report["did"]:
        faults.append(f"it does I/O: {', '.join(sorted(set(report['did'])))}")
    if report["seconds"] > IMPORT_CPU_S:
        faults.append(f"it takes {report['seconds']:.1f} s of processor time")
    return faults
