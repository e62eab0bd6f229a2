# SPDX-License-Identifier: Apache-2.0
"""Model packs: which there are, where their files lie, and whether these are what they should be.

A part of a pack (`starter/asr`) ships inside a plugin, or is pulled into `DATA/models/PACK/PART`. Its
checksums come from the pack itself, or from the lock file, where the first pull recorded them. They
are checked whenever a model is resolved; a file is read again only when its size or time changed.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import structlog

from appliance.plugin import ModelNotFoundError, ModelPack, ModelPart, ModelResolver

_log = structlog.get_logger(__name__)


class PackSource(Protocol):
    """The part of the plugin manager that is needed here."""

    def model_packs(self) -> list[ModelPack]:
        """Return the packs of all plugins."""
        ...


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that is missing or not what it should be."""

    file: Path
    message: str


@cache
def builtin_packs() -> Mapping[str, ModelPack]:
    """Return the packs that the box knows itself, by id."""
    text = Path(__file__).with_name("packs.toml").read_text(encoding="utf-8")
    return {
        name: ModelPack(
            name,
            table["summary"],
            {key: _part(part) for key, part in table.items() if isinstance(part, dict)},
        )
        for name, table in tomllib.loads(text).items()
    }


def _part(table: Mapping[str, Any]) -> ModelPart:
    return ModelPart(
        files=dict.fromkeys(table["files"], ""),
        licence=table["licence"],
        repo=table["repo"],
        revision=table.get("revision", "main"),
    )


def all_packs(source: PackSource) -> dict[str, ModelPack]:
    """Return every pack by id: those of plugins, then the built-in ones, whose names are reserved."""
    packs = {pack.id: pack for pack in source.model_packs()}
    for taken in packs.keys() & builtin_packs().keys():
        _log.warning("model pack ignored", pack=taken, reason="the name is reserved")
    return {**packs, **builtin_packs()}


class Library:
    """The model files of one box.

    Args:
        data_dir: the box's data folder; models are under `models` in it.
        packs: all packs by id.
    """

    def __init__(self, data_dir: Path, packs: Mapping[str, ModelPack]) -> None:
        self.root = data_dir / "models"
        self.packs = packs
        self.lock_file = self.root / "models.lock.json"
        self._seen_file = self.root / "verified.json"
        self._seen: dict[str, Any] | None = None

    def part(self, name: str) -> ModelPart | None:
        """Return the part called `PACK/PART`, or None when `PACK` is no pack.

        Raises:
            ModelNotFoundError: the pack has no such part.
        """
        head, _, tail = name.partition("/")
        pack = self.packs.get(head)
        if pack is None:
            return None
        if tail not in pack.parts:
            parts = ", ".join(f"{head}/{part}" for part in pack.parts)
            raise ModelNotFoundError(
                f"the model pack {head!r} has no part {tail!r}", remedy=f"its parts: {parts}"
            )
        return pack.parts[tail]

    def folder(self, name: str, part: ModelPart) -> Path:
        """Return the folder that holds the part's files, whether or not they are there."""
        if part.path is not None:
            return part.path if part.path.is_dir() else part.path.parent
        return self.root.joinpath(*name.split("/"))

    def files(self, name: str, part: ModelPart) -> dict[Path, str]:
        """Return the part's files, each with its SHA-256 or "" where none is known yet."""
        folder = self.folder(name, part)
        recorded = self.locked().get(name, {}).get("files", {})
        return {
            folder / local_name(part, file): digest or recorded.get(local_name(part, file), "")
            for file, digest in part.files.items()
        }

    def present(self, name: str, part: ModelPart) -> bool:
        """Tell whether all files are there; does not read them."""
        files = self.files(name, part)
        return bool(files) and all(file.is_file() for file in files)

    def check(self, name: str, part: ModelPart, *, again: bool = False) -> list[Fault]:
        """Compare files with their checksums.

        Args:
            name: `PACK/PART`.
            part: the part.
            again: read every file, also one that has not changed since it was last checked.
        """
        files = self.files(name, part)
        faults = [] if files else [Fault(self.folder(name, part), "no file of it was made yet")]
        for file, expected in files.items():
            if not file.is_file():
                faults.append(Fault(file, "missing"))
            elif expected and self._digest(file, again=again) != expected:
                faults.append(Fault(file, "its checksum differs from the recorded one"))
        return faults

    def resolve(self, name: str) -> Path:
        """Return the verified file (of a part with one file) or folder of a part, or a path as it is.

        Raises:
            ModelNotFoundError: see `ModelResolver`.
        """
        part = self.part(name)
        if part is None:
            return self._path(name)
        faults = self.check(name, part)
        if faults:
            listed = "; ".join(f"{fault.file.name}: {fault.message}" for fault in faults)
            pack = name.partition("/")[0]
            remedy = f"run: trunkline models pull {pack}"
            if part.path is not None:
                remedy = "install the plugin that carries it again"
            raise ModelNotFoundError(f"the model {name} cannot be used ({listed})", remedy=remedy)
        files = list(self.files(name, part))
        return files[0] if len(files) == 1 else self.folder(name, part)

    def _path(self, name: str) -> Path:
        path = Path(name).expanduser()
        if path.exists():
            return path.absolute()
        known = [f"{pack}/{part}" for pack, one in self.packs.items() for part in one.parts]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ModelNotFoundError(
            f"there is no model pack, file or folder {name!r}",
            remedy=f"{hint}known: {', '.join(known)}",
        )

    def locked(self) -> dict[str, Any]:
        """Return what pulls have recorded: by `PACK/PART` its repo, commit and files."""
        return _read_json(self.lock_file)

    def record(self, name: str, repo: str, commit: str, files: Mapping[str, str]) -> None:
        """Write the checksums of a part that was just pulled into the lock file."""
        entries = {**self.locked(), name: {"repo": repo, "commit": commit, "files": dict(files)}}
        write_json(self.lock_file, dict(sorted(entries.items())))

    def _digest(self, file: Path, *, again: bool) -> str:
        if self._seen is None:
            self._seen = _read_json(self._seen_file)
        stat = file.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        known = self._seen.get(str(file))
        if not again and isinstance(known, dict) and known.get("stamp") == stamp:
            return str(known["sha256"])
        digest = sha256(file)
        self._seen[str(file)] = {"stamp": stamp, "sha256": digest}
        try:
            write_json(self._seen_file, self._seen)
        except OSError as error:
            _log.debug("checksums cannot be remembered", error=str(error))
        return digest


def resolver(data_dir: Path, source: PackSource) -> ModelResolver:
    """Return what providers use to find their models; see `ModelResolver`."""
    return Library(data_dir, all_packs(source)).resolve


def local_name(part: ModelPart, file: str) -> str:
    """Return where a file of a part lies in its folder: the folders of a hub repository are dropped."""
    return file if part.repo is None else PurePosixPath(file).name


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_json(file: Path, data: Any) -> None:
    """Replace a JSON file in one step: a crash leaves the old one or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    partial.replace(file)


def sizes(files: Iterable[Path]) -> int:
    """Return the bytes that the files take, those that are there."""
    return sum(file.stat().st_size for file in files if file.is_file())
