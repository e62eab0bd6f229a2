# SPDX-License-Identifier: Apache-2.0
"""`trunkline hub`: have this box join a hub, see how that stands, leave it.

Works beside a running box, which notices within seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.cli.common import USAGE, ConfigOption, JsonOption, data_dir, fail, print_json
from appliance.sync.claim import (
    ClaimDetails,
    ClaimError,
    Door,
    fetch_authority,
    fingerprint_of,
    same_fingerprint,
)
from appliance.sync.hub import FOLDER
from appliance.sync.identity import HubFiles
from appliance.wire import ClaimPending, Identity, WireError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Join a hub, see how that stands, leave it.",
    epilog="Example: trunkline hub claim https://hub.example.com:8443",
)


@app.command(epilog='Example: trunkline hub claim https://hub.example.com:8443 --name "Front desk"')
def claim(
    url: Annotated[
        str, typer.Argument(metavar="[URL]", help="The hub: https://host:port.", show_default=False)
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A file from the hub; needs no operator."),
    ] = None,
    fingerprint: Annotated[
        str, typer.Option(help="SHA-256 of the hub's root certificate, as the hub shows it.")
    ] = "",
    name: Annotated[str, typer.Option(help="What to call this box.")] = "",
    config: ConfigOption = None,
) -> None:
    """Have this box join a hub: show a code until an operator has entered it there."""
    files = HubFiles(data_dir(config) / FOLDER)
    if (known := _identity(files)) is not None:
        fail(f"This box belongs to {known.api_url}. First: trunkline hub unlink")
    details = ClaimDetails(serial=_serial(), name=name, software=version("trunkline"))
    try:
        if token_file is not None:
            identity = asyncio.run(_redeem(files, *_token(token_file), details))
        elif url:
            identity = asyncio.run(_by_code(files, url, fingerprint, details))
        else:
            fail("Name the hub, or a token file with --token-file.", USAGE)
    except ClaimError as error:
        fail(f"Not claimed: {error}")
    print(f"This box is now {identity.box_id} of {identity.api_url}.")


@app.command(epilog="Example: trunkline hub status --json")
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show which hub this box belongs to, and for how long its certificate is good."""
    files = HubFiles(data_dir(config) / FOLDER)
    identity = _identity(files)
    if as_json:
        print_json(_described(identity))
    elif identity is None:
        print("This box belongs to no hub.")
    else:
        for label, value in _described(identity).items():
            print(f"{label.replace('_', ' '):<20} {value}")


@app.command(epilog="Example: trunkline hub unlink")
def unlink(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Also when the hub cannot be told; revoke it there.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Leave the hub: it revokes this box's certificates, and the key is destroyed here."""
    files = HubFiles(data_dir(config) / FOLDER)
    identity = _identity(files)
    if identity is None:
        fail("This box belongs to no hub.")
    if not yes:
        typer.confirm(f"Leave {identity.api_url}?", abort=True)
    try:
        asyncio.run(_leave(files))
    except ClaimError as error:
        if not local:
            fail(f"The hub was not told: {error}. To leave all the same: --local")
        print(f"The hub was not told ({error}): revoke the box there.", file=sys.stderr)
    files.remove()
    print("This box belongs to no hub any more.")


async def _by_code(files: HubFiles, url: str, fingerprint: str, details: ClaimDetails) -> Identity:
    authority = await fetch_authority(url)
    if fingerprint:
        if not same_fingerprint(fingerprint, authority.fingerprint):
            raise ClaimError(f"the fingerprint of {url} is {authority.fingerprint}, not that")
    elif not authority.vouched:
        shown = _in_pairs(authority.fingerprint)
        print(f"The hub's fingerprint, to be compared with what the hub itself shows:\n  {shown}")
        typer.confirm("Is it the same?", abort=True)
    async with Door(url, authority.pem) as door:
        pending = await door.ask(files, details)
        print(f"Enter this code in the hub, by {pending.expires_at}:\n\n    {pending.code}\n")
        return await _wait(door, files, pending)


async def _wait(door: Door, files: HubFiles, pending: ClaimPending) -> Identity:
    while True:
        await asyncio.sleep(pending.poll_s)
        try:
            identity = await door.collect(files, pending)
        except ClaimError as error:
            if error.final:
                raise
            print(f"Trying again: {error}", file=sys.stderr)
            continue
        if identity is not None:
            return identity


def _token(path: Path) -> tuple[str, str, str]:
    """Return address, token and root certificate of a token file."""
    try:
        content = json.loads(path.read_text())
        url, token, ca = (str(content[key]) for key in ("url", "token", "ca"))
    except (ValueError, KeyError, TypeError) as error:
        raise ClaimError(f"{path} is not a token file of a hub") from error
    fingerprint_of(ca)
    return url, token, ca


async def _redeem(
    files: HubFiles, url: str, token: str, ca: str, details: ClaimDetails
) -> Identity:
    async with Door(url, ca) as door:
        return await door.redeem(files, token, details)


async def _leave(files: HubFiles) -> None:
    async with Door.of(files) as door:
        await door.unlink()


def _identity(files: HubFiles) -> Identity | None:
    try:
        return files.identity()
    except WireError as error:
        fail(f"{files.folder} cannot be read: {error}")


def _described(identity: Identity | None) -> dict[str, Any]:
    if identity is None:
        return {"claimed": False}
    expires = datetime.fromisoformat(identity.expires_at)
    return {
        "claimed": True,
        "box": identity.box_id,
        "hub": identity.api_url,
        "broker": f"{identity.mqtt_host}:{identity.mqtt_port}",
        "hub_fingerprint": _in_pairs(fingerprint_of(identity.ca)),
        "certificate_ends": identity.expires_at,
        "renewed_from": identity.renew_after,
        "days_left": max(0, (expires - datetime.now(UTC)).days),
    }


def _in_pairs(fingerprint: str) -> str:
    return ":".join(fingerprint[at : at + 2] for at in range(0, len(fingerprint), 2)).upper()


def _serial() -> str:
    """Return the machine's own number where the firmware tells it; "" elsewhere."""
    try:
        return Path("/sys/class/dmi/id/product_serial").read_text().strip()[:128]
    except (OSError, UnicodeDecodeError):
        return ""
