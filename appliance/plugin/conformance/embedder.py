# SPDX-License-Identifier: Apache-2.0
"""Checks of an embedder. See `appliance.plugin.language.Embedder` for the contract."""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from appliance.plugin.conformance.drive import loop_stays_free
from appliance.plugin.conformance.findings import Check, check, require
from appliance.plugin.conformance.subject import Subject
from appliance.plugin.language import Embedder

TEXTS = ("We are open until six.", "When do you close?", "The car park is behind the house.")
SAME = 0.02


async def vectors(embedder: Embedder, *texts: str) -> NDArray[np.float32]:
    """Embed texts and see that the answer's form is right."""
    found = await embedder.embed(texts)
    wanted = (len(texts), embedder.capabilities.dimensions)
    require(found.dtype == np.float32, f"vectors are {found.dtype}, not float32")
    require(found.shape == wanted, f"shape {found.shape} instead of {wanted}")
    return found


async def use(embedder: Embedder, subject: Subject) -> None:
    """Embed one sentence."""
    await embedder.embed(TEXTS[:1])


@check("vectors are float32 rows of unit length")
async def vectors_have_unit_length(subject: Subject) -> str:
    """Search compares directions."""
    found = await vectors(subject.provider, *TEXTS)
    lengths = np.linalg.norm(found, axis=1)
    require(bool(np.allclose(lengths, 1, atol=1e-3)), f"lengths {lengths}")
    return f"{found.shape[1]} dimensions"


@check("no text gives no vector, and any text gives one")
async def the_edges_hold(subject: Subject) -> str:
    """Nothing, an empty text, and one far beyond its length."""
    embedder: Embedder = subject.provider
    await vectors(embedder)
    await vectors(embedder, "")
    await vectors(embedder, "word " * embedder.capabilities.max_tokens * 2)
    return ""


@check("a text's vector does not depend on its company")
async def company_changes_nothing(subject: Subject) -> str:
    """Neither in one batch nor in two calls at once."""
    embedder: Embedder = subject.provider
    batch = await vectors(embedder, *TEXTS)
    singles = await asyncio.gather(*(vectors(embedder, text) for text in TEXTS))
    off = float(np.abs(batch - np.concatenate(singles)).max())
    require(off <= SAME, f"alone and in a batch vectors differ by {off:.3f}")
    return ""


@check("the event loop is never blocked longer than 20 ms")
async def the_loop_stays_free(subject: Subject) -> str:
    """A frame of every call leaves each 20 ms."""
    return await loop_stays_free(lambda: subject.provider.embed(TEXTS * 8))


CHECKS: tuple[Check, ...] = (
    vectors_have_unit_length,
    the_edges_hold,
    company_changes_nothing,
    the_loop_stays_free,
)
