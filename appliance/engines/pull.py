# SPDX-License-Identifier: Apache-2.0
"""Fetches model packs from a model hub: resumable, checked, and never half in place.

Files arrive under `models/.partial`, where no engine looks; a part moves to its place when all of its
files are complete and match their checksums. What was cut off is continued by the next pull. The hub
is the one that `HF_ENDPOINT` names, else the public one; `HF_TOKEN` is used where it is set.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import HfFileMetadata, http_get
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils.tqdm import disable_progress_bars

from appliance.engines.packs import Library, local_name, sha256
from appliance.plugin import ModelPart

Progress = Callable[[str, int, int], None]
"""Told file name, bytes so far, bytes in all."""


class PullError(Exception):
    """A pack could not be fetched; what was in place before is untouched. Says what to do."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A part after a pull: `fetched` is False when it was there already."""

    name: str
    fetched: bool
    folder: Path


def pull_part(library: Library, name: str, progress: Progress = lambda *_: None) -> Pulled:
    """Fetch one part unless it is there and intact.

    Raises:
        PullError: no network, the hub refused, the disk is full, or a checksum differs.
        ModelNotFoundError: no such part.
    """
    part = library.part(name)
    if part is None:
        raise PullError(f"There is no model pack {name.partition('/')[0]!r}.")
    folder = library.folder(name, part)
    if not library.check(name, part):
        return Pulled(name, fetched=False, folder=folder)
    if part.repo is None:
        raise PullError(f"{name} comes with a plugin and is damaged. Install that plugin again.")
    arriving = library.root / ".partial" / name
    try:
        commit = _fetch(library, name, part, arriving, progress)
        digests = _digests(library, name, part, arriving)
        if folder.exists():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        library.record(name, part.repo, commit, digests)
        arriving.replace(folder)
    except OSError as error:
        if isinstance(error, HfHubHTTPError):
            raise PullError(_refusal(part.repo, error)) from error
        raise PullError(_trouble(name, error)) from error
    finally:
        _tidy(library.root / ".partial")
    return Pulled(name, fetched=True, folder=folder)


def _fetch(library: Library, name: str, part: ModelPart, arriving: Path, progress: Progress) -> str:
    """Complete every file of a part under `arriving`; return the commit they are from."""
    disable_progress_bars()
    repo = cast("str", part.repo)
    revision = str(library.locked().get(name, {}).get("commit") or part.revision)
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    commit = revision
    for file in part.files:
        url = hf_hub_url(repo, file, revision=revision, endpoint=endpoint)
        try:
            about = get_hf_file_metadata(url)
            _complete(about, url, arriving / local_name(part, file), progress)
        except (HfHubHTTPError, OSError):
            raise
        except OfflineModeIsEnabled as error:
            raise PullError(f"{name}: HF_HUB_OFFLINE forbids downloads; unset it.") from error
        except Exception as error:
            # The hub's library passes on whatever its HTTP client raises: no one base class.
            raise PullError(_unreachable(name, url, error)) from error
        commit = about.commit_hash or commit
    return commit


def _complete(about: HfFileMetadata, url: str, target: Path, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    tag, partial = target.with_name(f"{target.name}.etag"), target.with_name(f"{target.name}.part")
    etag = about.etag or ""
    same = tag.is_file() and tag.read_text(encoding="utf-8") == etag
    if target.is_file() and same:
        return
    if not same:
        partial.unlink(missing_ok=True)
        tag.write_text(etag, encoding="utf-8")
    headers = build_hf_headers(library_name="trunkline")
    if urlsplit(about.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)
    with partial.open("ab") as stream:
        begun = stream.tell()
        _room_for((about.size or 0) - begun, target.parent)
        counting = _Counting(stream, target.name, about.size or 0, progress)
        http_get(
            about.location,
            cast("BinaryIO", counting),
            resume_size=begun,
            headers=headers,
            expected_size=about.size,
        )
    partial.replace(target)


class _Counting:
    """A file that tells how much of it is there."""

    def __init__(self, stream: BinaryIO, name: str, total: int, progress: Progress) -> None:
        self._stream, self._name, self._total, self._progress = stream, name, total, progress

    def write(self, data: bytes) -> int:
        written = self._stream.write(data)
        self._progress(self._name, self._stream.tell(), self._total)
        return written

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, position: int) -> int:
        return self._stream.seek(position)

    def truncate(self) -> int:
        return self._stream.truncate()


def _digests(library: Library, name: str, part: ModelPart, arriving: Path) -> dict[str, str]:
    """Return the files' checksums after comparing them with what is known: pack, lock file, hub."""
    known = {file.name: digest for file, digest in library.files(name, part).items()}
    digests = {}
    for file in part.files:
        here = arriving / local_name(part, file)
        tag = here.with_name(f"{here.name}.etag")
        etag = tag.read_text(encoding="utf-8")
        said = etag if len(etag) == 64 else ""
        digest = sha256(here)
        for expected, who in ((known[here.name], "the recorded one"), (said, "the hub's")):
            if expected and digest != expected:
                here.unlink()
                tag.unlink()
                raise PullError(
                    f"{name}: the checksum of {here.name} differs from {who}. It was discarded; "
                    "pull again, and if it happens again do not trust the source."
                )
        digests[here.name] = digest
    for tag in arriving.glob("*.etag"):
        tag.unlink()
    return digests


def _room_for(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise PullError(
            f"{size / 1e9:.1f} GB are needed in {folder} and {free / 1e9:.1f} GB are free. "
            "Make room and pull again."
        )


def _refusal(repo: str, error: HfHubHTTPError) -> str:
    status = error.response.status_code if error.response is not None else 0
    if isinstance(error, GatedRepoError) or status in {401, 403}:
        return (
            f"The hub refuses access to {repo} ({status}). Accept its licence on the hub, "
            "set HF_TOKEN, and pull again."
        )
    if status == 404:
        return f"The hub has no {repo}, or the file is gone from it (404)."
    return f"The hub answered {status} for {repo}. What arrived is kept; pull again later."


def _unreachable(name: str, url: str, error: Exception) -> str:
    host = urlsplit(url).netloc
    return (
        f"{name}: {host} cannot be reached ({str(error) or type(error).__name__}). Connect this "
        "machine to the internet and pull again: what arrived is kept. Or copy the folder models/ "
        "from the data folder of a box that has it. The box goes on with the models it has."
    )


def _trouble(name: str, error: OSError) -> str:
    if "Consistency check failed" in str(error):
        return f"{name}: the connection was cut. What arrived is kept; pull again to go on."
    where = f" {error.filename}" if error.filename else ""
    return f"{name}: cannot be written{where}: {error.strerror or error}."


def _tidy(partial: Path) -> None:
    """Remove what holds nothing worth keeping: empty files, tags without data, empty folders."""
    if not partial.is_dir():
        return
    for file in [one for one in partial.rglob("*.part") if one.stat().st_size == 0]:
        file.unlink()
    for tag in list(partial.rglob("*.etag")):
        target = tag.with_suffix("")
        if not target.exists() and not target.with_name(f"{target.name}.part").exists():
            tag.unlink()
    for folder in sorted((one for one in partial.rglob("*") if one.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    if not any(partial.iterdir()):
        partial.rmdir()
