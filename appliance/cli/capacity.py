# SPDX-License-Identifier: Apache-2.0
"""`trunkline capacity`: how many calls this machine holds with a configuration, and what binds."""

from __future__ import annotations

import asyncio
import math
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from appliance import logs
from appliance.caller.build import build_synthesizer, build_transport, context, line_settings
from appliance.caller.plan import QUESTIONS, Utterances
from appliance.capacity.child import ChildOrder
from appliance.capacity.run import Outcome, Step, Wanted, measure
from appliance.capacity.stages import STAGES
from appliance.cli.common import (
    ConfigOption,
    JsonOption,
    console,
    fail,
    find_config,
    load_config,
    print_json,
)
from appliance.engines.packs import resolver
from appliance.plugin import ProviderError


def capacity(
    config: ConfigOption = None,
    target_ms: Annotated[
        float,
        typer.Option(min=100, help="95 of 100 answers are to begin within this time, at the wire."),
    ] = 900.0,
    agent: Annotated[
        str | None, typer.Option(help="Agent that answers; by default the configuration's default.")
    ] = None,
    say: Annotated[
        list[str] | None,
        typer.Option(help="What callers ask; may be given several times. Default: opening hours."),
    ] = None,
    most: Annotated[int, typer.Option(min=1, max=250, help="Try no more calls than this.")] = 250,
    minutes: Annotated[
        float, typer.Option(min=0.5, max=120, help="Begin no further step after this time.")
    ] = 12.0,
    turns: Annotated[
        int, typer.Option(min=0, max=100, help="Questions of each call; 0: 4 to 6, by the load.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Measure how many calls this machine holds: call it with more and more callers until it is too slow.

    A box of this configuration is started beside the real one, with a phone line of its own on this
    machine only. Its calls are thrown away, and its tools do nothing. Providers in the cloud are
    asked, and charge. Stop the real box first: it needs the same processors.

    Exit code 1 when not even one call is answered within the target.

    Examples:
      trunkline capacity
      trunkline capacity --target-ms 700 --say "What does a filling cost?" --json
      trunkline capacity --config configs/appliance.toml --most 16 --minutes 5
    """
    logs.setup("error", "console")
    loaded, plugins = load_config(config)
    name = agent or loaded.agents.default
    if name is None:
        fail("The configuration has no default agent: name one with --agent.")
    order = ChildOrder(str(find_config(config).absolute()), name, "", target_ms)
    wanted = Wanted(target_ms, most, minutes, turns)
    words: Utterances = [(text, "") for text in say] if say else QUESTIONS
    shown = None if json else console()

    async def run() -> Outcome:
        built = context(Path(tempfile.gettempdir()), resolver(loaded.box.data_dir, plugins))
        voice = await build_synthesizer(plugins, {}, built)
        line = await build_transport(plugins, line_settings("sip:100@127.0.0.1", "PCMU"), built)
        try:
            return await measure(order, wanted, line, voice, words, lambda step: _tell(shown, step))
        finally:
            await voice.aclose()

    try:
        outcome = asyncio.run(run())
    except ProviderError as error:
        fail(str(error))
    if json:
        print_json(outcome.to_dict())
    else:
        _show(console(), outcome)
    if not outcome.held:
        raise typer.Exit(1)


def _tell(shown: Console | None, step: Step) -> None:
    if shown is None:
        return
    verdict = "[green]held[/green]" if step.held else "[red]too much[/red]"
    shown.print(
        f"{step.calls:>4} at once: p50 {_ms(step.p50_ms)}, p95 {_ms(step.p95_ms)} of "
        f"{len(step.latencies_ms)} answers, {step.missed:.0%} missed, {step.refused} refused, "
        f"processors {step.cpu:.0%}  {verdict}"
    )


def _show(shown: Console, outcome: Outcome) -> None:
    table = Table("calls", *(f"{stage} p95" for stage in STAGES), title="Where the time goes, ms")
    for step in sorted(outcome.steps, key=lambda one: one.calls):
        cells = (f"{step.stages.p95_ms.get(stage, math.nan):.0f}" for stage in STAGES)
        table.add_row(str(step.calls), *(cell.replace("nan", "") for cell in cells))
    shown.print(table)
    target = f"p95 within {outcome.target_ms:.0f} ms"
    shown.print(
        f"[bold]Calls held at once: {outcome.held}[/bold], {target}. {_why(outcome.bound_by)}"
    )


def _why(bound_by: str) -> str:
    match bound_by:
        case "phone line":
            return "The phone line holds no more: `./run build-pjsua2` makes one for 256 calls."
        case "most":
            return "More was not tried: see --most."
        case "time":
            return "The time was over before the limit was found: give it more with --minutes."
        case "":
            return "No single stage stands out."
        case stage:
            return f"What binds is {stage}."


def _ms(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f} ms"
