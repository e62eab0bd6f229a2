# SPDX-License-Identifier: Apache-2.0
"""`python -m appliance.engines.worker`: a worker process.

A box starts it with its `WorkerSpec` on standard input. On another machine a person starts it, with a
configuration file whose section says which provider to host:

    python -m appliance.engines.worker --config appliance.toml --engine language_model.local
        --listen 0.0.0.0:7443 --ca ca.pem --cert worker.pem --key worker.key
"""

from __future__ import annotations

import argparse
import pickle
import sys
from pathlib import Path

from appliance.config import ConfigError, load, plugins_section
from appliance.engines.packs import resolver
from appliance.engines.worker.codec import CAPABILITIES
from appliance.engines.worker.process import TlsFiles, WorkerSpec, run
from appliance.plugin import BuildContext, Kind
from appliance.plugin.manager import PluginManager, Policy


def main() -> int:
    """Read what to host, and host it."""
    if len(sys.argv) == 1:
        # Only the process that started us can write here.
        spec = pickle.load(sys.stdin.buffer)  # noqa: S301
        if not isinstance(spec, WorkerSpec):
            raise SystemExit("standard input holds no worker's settings; see --help")
        return run(spec)
    options = _options()
    tls = TlsFiles(options.ca, options.cert, options.key)
    return run(_configured(options.config, options.engine, options.listen), tls)


def _options() -> argparse.Namespace:
    about = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m appliance.engines.worker",
        description=about[0],
        epilog=about[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, help="the configuration file")
    parser.add_argument("--engine", required=True, help="KIND.NAME, as the section is called")
    parser.add_argument("--listen", required=True, help="host:port")
    parser.add_argument("--ca", type=Path, required=True, help="who signed the boxes' certificates")
    parser.add_argument("--cert", type=Path, required=True, help="this worker's certificate")
    parser.add_argument("--key", type=Path, required=True, help="its private key")
    return parser.parse_args()


def _configured(path: Path, engine: str, listen: str) -> WorkerSpec:
    section, _, name = engine.partition(".")
    if section not in {kind.value for kind in CAPABILITIES}:
        known = ", ".join(kind.value for kind in CAPABILITIES)
        raise SystemExit(f"--engine {engine}: write KIND.NAME; kinds: {known}")
    try:
        allowed = plugins_section(path)
        plugins = PluginManager.discover(
            allowed.allow,
            allowed.deny,
            policy=Policy(
                allow_cloud=allowed.allow_cloud,
                egress=None if allowed.egress is None else frozenset(allowed.egress),
            ),
        )
        config = load(path, plugins)
    except ConfigError as error:
        raise SystemExit(str(error)) from error
    configured = config.providers(Kind(section)).get(name)
    if configured is None:
        raise SystemExit(f"--engine {engine}: {path} has no section [{engine}]")
    box = config.box
    folder = box.data_dir / "plugins" / configured.offer.id / name
    return WorkerSpec(
        configured.offer,
        configured.settings,
        BuildContext(resolver(box.data_dir, plugins), folder, box.threads),
        listen,
        configured.placement.worker.streams,
        configured.placement.worker.memory_mib,
        log_level=box.log_level,
        log_format=box.log_format,
    )


if __name__ == "__main__":
    sys.exit(main())
