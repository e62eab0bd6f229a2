# SPDX-License-Identifier: Apache-2.0
"""`trunkline call`: a test caller that dials an agent, talks, and measures what it hears."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from appliance import logs
from appliance.caller import (
    CallResult,
    PreparedTurn,
    Script,
    ScriptError,
    Stats,
    Timing,
    TurnResult,
    TurnSpec,
    load_script,
    prepare,
    summarize,
)
from appliance.caller.build import build_caller, build_synthesizer, context, line_settings
from appliance.cli.common import (
    OK,
    PROBLEMS,
    USAGE,
    JsonOption,
    console,
    data_dir,
    fail,
    print_json,
)
from appliance.cli.plugin_check import SettingsError, read_settings
from appliance.engines.packs import resolver
from appliance.plugin import BuildContext, ProviderError
from appliance.plugin.manager import PluginManager

DEFAULT_WORDS = ("Hello, what are your opening hours?", "Thank you, goodbye.")


@dataclass(frozen=True, slots=True)
class _Order:
    """What the command line asks for."""

    target: str
    script: Script
    provider: str
    voice_settings: dict[str, Any]
    line_settings: dict[str, Any]
    timing: Timing
    calls: int
    record: Path | None
    caller_id: str
    trunk: str
    answer_timeout_s: float


def call(
    target: Annotated[str, typer.Argument(help="SIP address to dial: sip:100@192.0.2.1:5060.")],
    script: Annotated[
        Path | None,
        typer.Option(
            "--script",
            "-f",
            help="YAML: turns of say, wav, dtmf, wait or hold, with interrupt_after_s, expect_reply.",
        ),
    ] = None,
    say: Annotated[
        list[str] | None, typer.Option(help="Say this; may be given several times, a turn each.")
    ] = None,
    wav: Annotated[
        list[Path] | None, typer.Option(help="Play this WAV file; several times likewise.")
    ] = None,
    voice: Annotated[str | None, typer.Option(help="Voice that speaks, e.g. en-us+f3.")] = None,
    provider: Annotated[
        str,
        typer.Option("--tts", help="Synthesizer that speaks: an installed text_to_speech plugin."),
    ] = "espeak",
    tts_settings: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE or a TOML file for the synthesizer.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Record to this stereo WAV: left the caller, right the agent."),
    ] = None,
    calls: Annotated[int, typer.Option(min=1, max=250, help="Calls at once.")] = 1,
    codec: Annotated[str | None, typer.Option(help="Offer only PCMU, PCMA or G722.")] = None,
    sip: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE or a TOML file for the sip transport (bind, trunks, srtp, ...)."
        ),
    ] = None,
    trunk: Annotated[str, typer.Option(help="Trunk among those settings to call by.")] = "",
    caller_id: Annotated[str, typer.Option(help="Number or name that calls.")] = "",
    no_greeting: Annotated[
        bool, typer.Option("--no-greeting", help="Speak first, without waiting for a greeting.")
    ] = False,
    reply_pause: Annotated[
        float, typer.Option(min=0.2, help="Silence after which an answer is over, seconds.")
    ] = 0.8,
    reply_timeout: Annotated[
        float, typer.Option(min=1, help="Wait for an answer, seconds.")
    ] = 10.0,
    answer_timeout: Annotated[float, typer.Option(min=1, help="Let it ring, seconds.")] = 30.0,
    json: JsonOption = False,
) -> None:
    """Call an agent, hold a conversation, and measure how fast it answers and stops.

    Times are taken on the wire at the caller, exact to the sample: from the last sample of speech sent
    (above -40 dBFS) to the first sample of the answer received (above -45 dBFS), and, where the script
    interrupts, from its first sample to the last of the speech it interrupted.

    Exit code 1 when an agent did not answer or was never heard.

    Examples:
      trunkline call sip:100@127.0.0.1:5060
      trunkline call sip:100@127.0.0.1:5060 --say "Are you open on Saturday?" --record call.wav
      trunkline call sip:100@192.0.2.1 --script conversation.yaml --calls 10 --json
    """
    logs.setup("warning", "console")
    try:
        order = _Order(
            target=target,
            script=_script(script, say or [], wav or [], voice, greeting=not no_greeting),
            provider=provider,
            voice_settings=read_settings(tts_settings or []) or {},
            line_settings=line_settings(target, codec) | (read_settings(sip or []) or {}),
            timing=Timing(reply_pause_s=reply_pause, reply_timeout_s=reply_timeout),
            calls=calls,
            record=record,
            caller_id=caller_id,
            trunk=trunk,
            answer_timeout_s=answer_timeout,
        )
        results = asyncio.run(_run(order, None if json else console()))
    except (ScriptError, SettingsError) as error:
        fail(str(error), USAGE)
    except ProviderError as error:
        fail(str(error))
    summary = summarize(results)
    if json:
        print_json(
            {
                "target": target,
                "calls": [result.to_dict() for result in results],
                "results": {name: asdict(stats) for name, stats in summary.items()},
            }
        )
    else:
        _show(console(), results, summary)
    raise typer.Exit(OK if all(result.heard for result in results) else PROBLEMS)


def _script(
    path: Path | None, say: list[str], wav: list[Path], voice: str | None, *, greeting: bool
) -> Script:
    if sum(map(bool, (path, say, wav))) > 1:
        raise ScriptError("give one of --script, --say and --wav; a script can mix words and files")
    if path is not None:
        script = load_script(path)
    else:
        turns = [TurnSpec(wav=file) for file in wav]
        turns += [TurnSpec(say=words) for words in say or (() if wav else DEFAULT_WORDS)]
        script = Script(turns=tuple(turns))
    changes: dict[str, Any] = {} if voice is None else {"voice": voice}
    if not greeting:
        changes["greeting"] = False
    return script.model_copy(update=changes)


async def _run(order: _Order, shown: Console | None) -> list[CallResult]:
    plugins = PluginManager.discover()
    folder = data_dir(None)
    built = context(folder / "caller", resolver(folder, plugins))
    turns = await _turns(order, plugins, built)
    caller = await build_caller(plugins, order.line_settings, built)
    async with caller, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                caller.call(
                    order.target,
                    turns,
                    timing=order.timing,
                    greeting=order.script.greeting,
                    record=_recording(order, number),
                    on_turn=_teller(shown, number if order.calls > 1 else 0),
                    caller_id=order.caller_id,
                    trunk=order.trunk,
                    answer_timeout_s=order.answer_timeout_s,
                )
            )
            for number in range(1, order.calls + 1)
        ]
    return [task.result() for task in tasks]


async def _turns(order: _Order, plugins: PluginManager, built: BuildContext) -> list[PreparedTurn]:
    if not any(turn.say for turn in order.script.turns):
        return await prepare(order.script, None)
    voice = await build_synthesizer(plugins, order.voice_settings, built, provider=order.provider)
    try:
        return await prepare(order.script, voice)
    finally:
        await voice.aclose()


def _recording(order: _Order, number: int) -> Path | None:
    if order.record is None or order.calls == 1:
        return order.record
    return order.record.with_stem(f"{order.record.stem}-{number}")


def _teller(shown: Console | None, number: int) -> Any:
    """Return what prints each turn when it is over, or None."""
    if shown is None:
        return None
    prefix = f"[dim]call {number}[/dim] " if number else ""

    def tell(turn: TurnResult) -> None:
        shown.print(
            f"{prefix}{turn.number:>2} {turn.kind:<8} {escape(turn.text):<48} {_outcome(turn)}"
        )

    return tell


def _outcome(turn: TurnResult) -> str:
    parts = []
    if turn.barge_in_stop_s is not None:
        parts.append(f"agent silent after {1000 * turn.barge_in_stop_s:.0f} ms")
    if turn.answer_latency_s is not None:
        word = "heard" if turn.kind == "greeting" else "answer"
        parts.append(f"[green]{word} after {1000 * turn.answer_latency_s:.0f} ms[/green]")
    if turn.early:
        parts.append("[yellow]answered before the caller had finished[/yellow]")
    if turn.reply_missing:
        parts.append("[red]no answer[/red]")
    return ", ".join(parts)


def _show(shown: Console, results: list[CallResult], summary: dict[str, Stats]) -> None:
    for result in results:
        state = "answered" if result.answered else "[red]not answered[/red]"
        if result.answered and not result.heard:
            state += ", [red]nothing was heard[/red]"
        codec = f", {result.codec}" if result.codec else ""
        end = f"{result.cause} {result.code or ''} {result.reason}".strip()
        shown.print(f"{state}{codec}, {result.seconds:.1f} s, ended by {escape(end)}")
        if result.recording:
            shown.print(f"recording (left caller, right agent): {result.recording}")
    if summary:
        table = Table("", "n", "p50", "p95", "p99", "mean")
        for name, stats in summary.items():
            numbers = (stats.p50, stats.p95, stats.p99, stats.mean)
            values = (f"{number:.0f} {stats.unit}" for number in numbers)
            table.add_row(name.replace("_", " "), str(stats.n), *values)
        shown.print(table)
