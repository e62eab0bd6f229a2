# SPDX-License-Identifier: Apache-2.0
"""A hub that makes and signs bundles, as a box sees it: messages in, bytes at a URL."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from appliance.wire import AgentDocument, Bundle, Desired, Identity, new_id, now_text
from cloud_hub.fleet.signing import SigningKey


def agent_yaml(name: str, says: str = "Hello.", more: str = "") -> str:
    """Return an agent that greets with these words."""
    return f"version: 1\nname: {name}\ngreeting: {says}\nprompt: You are a test.\n{more}"


class Offers:
    """Keeps what the box may fetch. `down` is why nothing can be had now."""

    def __init__(self, folder: Path) -> None:
        self.key = SigningKey.open(folder / "signing.key")
        self.box_id = new_id()
        self.files: dict[str, bytes] = {}
        self.down: Exception | None = None
        self.fetched = 0

    def identity(self) -> Identity:
        """Return what the box was told when it was claimed."""
        now = now_text()
        return Identity(
            box_id=self.box_id,
            certificate="",
            ca="",
            signing_key=self.key.public,
            mqtt_host="localhost",
            api_url="https://localhost:1",
            expires_at=now,
            renew_after=now,
        )

    async def fetch(self, url: str, most: int) -> bytes:
        """Return what lies there."""
        self.fetched += 1
        if self.down is not None:
            raise self.down
        assert len(self.files[url]) <= most
        return self.files[url]

    def offer(self, version: int, *texts: str, **more: Any) -> Desired:
        """Put a bundle of agents up and return the message that announces it."""
        documents = []
        for text in texts:
            name = text.partition("name: ")[2].partition("\n")[0]
            digest = hashlib.sha256(text.encode()).hexdigest()
            documents.append(AgentDocument(name=name, version="1", yaml=text, sha256=digest))
        bundle = Bundle(
            version=version,
            box_id=self.box_id,
            created_at=now_text(),
            agents=tuple(documents),
            **more,
        )
        return self.announce(version, self.key.sign(bundle).encode())

    def announce(self, version: int, payload: bytes) -> Desired:
        """Put any bytes up and announce them."""
        digest = hashlib.sha256(payload).hexdigest()
        url = f"/v1/box/bundles/{version}"
        self.files[url] = payload
        return self.key.sign(
            Desired(version=version, bundle_url=url, sha256=digest, box_id=self.box_id)
        )
