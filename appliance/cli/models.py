# SPDX-License-Identifier: Apache-2.0
"""`trunkline models`: which model packs there are, fetch one, check that files are intact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from appliance import logs
from appliance.cli.common import (
    PROBLEMS,
    USAGE,
    ConfigOption,
    JsonOption,
    console,
    data_dir,
    fail,
    print_json,
)
from appliance.engines.packs import Library, all_packs, sizes
from appliance.plugin import ModelNotFoundError
from appliance.plugin.manager import PluginManager

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="List, pull and verify model packs.",
    epilog="Example: trunkline models pull small",
)

PackArgument = Annotated[
    str, typer.Argument(help="Name of a pack (`small`) or part (`small/asr`).")
]


@app.command("list")
def list_packs(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the packs, their parts, licences, and whether the files are here.

    Example: trunkline models list --json
    """
    library = _library(config)
    rows = [_row(library, name) for name in _names(library)]
    if as_json:
        print_json(rows)
        return
    table = Table("model", "here", "size", "licence", "source")
    for row in rows:
        size = f"{row['bytes'] / 1e6:.0f} MB" if row["present"] else ""
        here = "yes" if row["present"] else "no"
        table.add_row(row["name"], here, size, row["licence"], row["source"])
    console().print(table)
    for pack in library.packs.values():
        console().print(f"{pack.id}: {pack.summary}")


@app.command()
def pull(name: PackArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Fetch a pack from the model hub. A pull that was cut off goes on where it stopped.

    The first pull records the checksums and the revision of the files; later ones hold them to that.

    Examples:
      trunkline models pull small
      HF_ENDPOINT=http://mirror.example:8080 trunkline models pull standard
    """
    from appliance.engines.pull import PullError, pull_part  # noqa: PLC0415 - 0.4 s to import

    library = _library(config)
    done: list[dict[str, Any]] = []
    for one in _chosen(library, name):
        part = library.packs[one.partition("/")[0]].parts[one.partition("/")[2]]
        say(f"{one}: licence {part.licence}" + (f", from {part.repo}" if part.repo else ""))
        progress = _Progress()
        try:
            pulled = pull_part(library, one, progress)
        except PullError as error:
            progress.end()
            fail(str(error))
        progress.end()
        say(f"{one}: {'fetched and verified' if pulled.fetched else 'already here, intact'}")
        done.append({"name": one, "fetched": pulled.fetched, "folder": str(pulled.folder)})
    if as_json:
        print_json(done)


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(help="Pack or part; by default all that are here.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read model files again and compare them with their checksums.

    Examples:
      trunkline models verify
      trunkline models verify starter
    """
    library = _library(config)
    results: list[dict[str, Any]] = []
    for one in _chosen(library, name) if name else _names(library):
        pack, _, key = one.partition("/")
        part = library.packs[pack].parts[key]
        if name is None and not library.present(one, part):
            continue
        faults = library.check(one, part, again=True)
        results.append(
            {
                "name": one,
                "ok": not faults,
                "faults": [{"file": str(f.file), "message": f.message} for f in faults],
            }
        )
    if as_json:
        print_json(results)
    for result in () if as_json else results:
        say(f"{result['name']}: {'intact' if result['ok'] else 'NOT INTACT'}")
        for fault in result["faults"]:
            say(f"  {fault['file']}: {fault['message']}")
    if not all(result["ok"] for result in results):
        raise typer.Exit(PROBLEMS)


def say(line: str) -> None:
    """Print a line for people: on standard error, so that `--json` output stays clean."""
    print(line, file=sys.stderr)


def _library(config: Path | None) -> Library:
    logs.setup("warning")
    return Library(data_dir(config), all_packs(PluginManager.discover()))


def _names(library: Library) -> list[str]:
    return [f"{pack.id}/{part}" for pack in library.packs.values() for part in pack.parts]


def _chosen(library: Library, name: str) -> list[str]:
    if name in library.packs:
        return [f"{name}/{part}" for part in library.packs[name].parts]
    try:
        known = library.part(name) is not None
    except ModelNotFoundError as error:
        fail(str(error), USAGE)
    if known:
        return [name]
    return fail(f"There is no model pack {name!r}. Known: {', '.join(library.packs)}.", USAGE)


def _row(library: Library, name: str) -> dict[str, Any]:
    pack, _, key = name.partition("/")
    part = library.packs[pack].parts[key]
    return {
        "name": name,
        "present": library.present(name, part),
        "bytes": sizes(library.files(name, part)),
        "licence": part.licence,
        "source": part.repo or "in a plugin",
        "folder": str(library.folder(name, part)),
    }


class _Progress:
    """Shows how far a file is: one line, rewritten on a terminal, a line every tenth elsewhere."""

    def __init__(self) -> None:
        self._shown = ("", -1)
        self._tty = sys.stderr.isatty()

    def __call__(self, file: str, done: int, total: int) -> None:
        percent = 100 * done // total if total else 0
        step = percent if self._tty else percent // 10 * 10
        if self._shown == (file, step):
            return
        if self._tty and self._shown[0] not in ("", file):
            say("")
        self._shown = (file, step)
        text = f"  {file} {percent:3d} % of {total / 1e6:.1f} MB"
        print(text, end="\r" if self._tty else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._tty and self._shown[0]:
            say("")
