# SPDX-License-Identifier: Apache-2.0
"""Checks of a guardrail. See `appliance.plugin.acting.Guardrail` for the contract."""

from __future__ import annotations

import asyncio

from appliance.plugin.acting import Action, Guardrail, Stage, Verdict
from appliance.plugin.conformance.drive import loop_stays_free
from appliance.plugin.conformance.findings import Check, check, require
from appliance.plugin.conformance.subject import Subject

TEXTS = ("", "Good morning, when are you open?", "word " * 500)


def stages(guardrail: Guardrail) -> list[Stage]:
    """Return the stages it looks at, in a fixed order."""
    return sorted(guardrail.capabilities.stages)


async def use(guardrail: Guardrail, subject: Subject) -> None:
    """Judge one sentence."""
    await guardrail.check(stages(guardrail)[0], TEXTS[1], "check")


@check("it judges any text at each of its stages within its deadline")
async def it_judges_in_time(subject: Subject) -> str:
    """A guardrail that is late is answered for by `on_timeout`."""
    guardrail: Guardrail = subject.provider
    require(bool(guardrail.capabilities.stages), "it looks at no stage")
    limit = guardrail.capabilities.deadline_s
    for stage in stages(guardrail):
        for text in TEXTS:
            try:
                async with asyncio.timeout(limit):
                    verdict = await guardrail.check(stage, text, "check")
            except TimeoutError:
                require(False, f"{stage}: {len(text)} characters took longer than {limit:g} s")
            require(isinstance(verdict, Verdict), f"it answered a {type(verdict).__name__}")
            require(
                verdict.action is not Action.REPLACE or verdict.text != text,
                "it replaced a text by itself",
            )
    return f"{len(stages(guardrail))} stages, {limit:g} s"


@check("a verdict other than allow gives its reason")
async def it_gives_reasons(subject: Subject) -> str:
    """The event log shall say why a sentence was never spoken."""
    guardrail: Guardrail = subject.provider
    for stage in stages(guardrail):
        for text in TEXTS:
            verdict = await guardrail.check(stage, text, "check")
            allowed = verdict.action is Action.ALLOW
            require(allowed or bool(verdict.reason), f"{verdict.action} without a reason")
    return ""


@check("the event loop is never blocked longer than 20 ms")
async def the_loop_stays_free(subject: Subject) -> str:
    """A frame of every call leaves each 20 ms."""
    guardrail: Guardrail = subject.provider
    first = stages(guardrail)[0]
    return await loop_stays_free(lambda: guardrail.check(first, TEXTS[2], "check"))


CHECKS: tuple[Check, ...] = (it_judges_in_time, it_gives_reasons, the_loop_stays_free)
