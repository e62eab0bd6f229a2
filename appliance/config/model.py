# SPDX-License-Identifier: Apache-2.0
"""The sections of `appliance.toml` as typed settings, and the configuration that the box is built from.

Settings of plugins are not here: each plugin brings its own model, and `load` validates with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from appliance.plugin import Kind, Offer, Settings

NAMED: Mapping[str, Kind] = {
    "speech_to_text": Kind.SPEECH_TO_TEXT,
    "language_model": Kind.LANGUAGE_MODEL,
    "text_to_speech": Kind.TEXT_TO_SPEECH,
    "transport": Kind.TRANSPORT,
    "tools": Kind.TOOL,
}
"""Sections that hold any number of providers by name: `[speech_to_text.NAME]`. Embedders and guardrails get
sections when calls use them: a section that does nothing would promise what the box does not do."""

SINGLE: Mapping[str, Kind] = {
    "voice_activity": Kind.VOICE_ACTIVITY,
    "turn_detector": Kind.TURN_DETECTOR,
    "recording_store": Kind.RECORDING_STORE,
}
"""Sections that hold one provider or none: `[voice_activity]`."""


class BoxSection(Settings):
    """The box itself."""

    name: str = Field("trunkline", min_length=1, description="How the box calls itself in logs.")
    data_dir: Path = Field(
        Path("var"),
        description="Where calls, recordings and pulled models are kept. "
        "Relative to the folder of this file.",
    )
    threads: int = Field(1, ge=1, le=256, description="Compute threads for each local engine.")
    ntp_server: str | None = Field(
        None,
        description="Time server (`host` or `host:port`) that `trunkline doctor` compares with.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What is logged. What callers say appears at debug only."
    )
    log_format: Literal["console", "json"] = Field("console", description="For people or machines.")


class AgentsSection(Settings):
    """The agents that answer."""

    dir: Path = Field(
        Path("agents"),
        description="Folder of the agents' YAML files. Relative to the folder of this file.",
    )
    default: str | None = Field(
        None,
        description="Agent that takes calls to numbers without a route; without it they are refused.",
    )


class LimitsSection(Settings):
    """Bounds for all calls together."""

    max_calls: int = Field(
        0,
        ge=0,
        description="Calls at a time; more are refused as busy. 0 is what the phone line can hold.",
    )
    max_call_s: int = Field(
        3600, ge=10, le=86400, description="Longest call, in seconds, whatever its agent says."
    )
    target_p95_ms: int = Field(
        900,
        ge=200,
        le=10_000,
        description="Milliseconds from the caller's last word to the answer that 95 of 100 answers keep to. "
        "Beyond it the box first gives up speculation, then long answers, then refuses new calls.",
    )


class RecordingSection(Settings):
    """Recordings of calls."""

    enabled: bool = Field(True, description="Write a stereo WAV of every call, caller on the left.")
    dir: Path | None = Field(
        None, description="Folder of the recordings; by default `recordings` in the data folder."
    )


class PluginsSection(Settings):
    """Which installed plugins may load."""

    allow: tuple[str, ...] | None = Field(None, description="Only these; by default all.")
    deny: tuple[str, ...] = Field((), description="Not these.")
    allow_cloud: bool = Field(
        True,
        description="Plugins that send audio or text off premises may load. They still do nothing "
        "until a section uses one.",
    )
    egress: tuple[str, ...] | None = Field(
        None, description="The only `host:port` addresses that plugins may name; by default any."
    )


class HubSection(Settings):
    """The hub that this box reports to. Which hub that is, the box learns when it is claimed."""

    enabled: bool = Field(
        False,
        description="Write down for a hub what happens from now on, and send it once the box is claimed. "
        "Without it nothing leaves the box.",
    )
    metadata: Literal["send", "redact", "stay"] = Field(
        "send",
        description="Who called whom: as it is, with all but the last two digits hidden, or not at all.",
    )
    transcript: Literal["send", "redact", "stay"] = Field(
        "send",
        description="What was said: as it is, with digits and e-mail addresses hidden, or not at all. "
        "How long, how fast and at what usage is always told.",
    )
    audio: Literal["send", "stay"] = Field("send", description="Recordings.")
    logs: Literal["send", "stay"] = Field(
        "send", description="Log files, when the hub's operators ask for them."
    )
    keep_days: int = Field(
        7,
        ge=1,
        le=90,
        description="Days that facts stay on the box after the hub has them: a hub restored from a backup "
        "that is no older gets all of it again.",
    )
    outbox_max_mib: int = Field(
        8192,
        ge=16,
        description="MiB that facts for the hub may take. Beyond it those that the hub has go first, then "
        "the events of the oldest calls; calls, transcripts and usage always stay, and the hub is told "
        "what was given up.",
    )
    upload_kib_s: int = Field(
        512, ge=0, description="KiB a second that recordings may take of the line; 0 is no bound."
    )
    upload_pause_calls: int = Field(
        0, ge=0, description="Recordings wait while more calls than this are under way."
    )
    recordings_keep_days: int | None = Field(
        None,
        ge=0,
        description="Days that a recording stays on the box after the hub has confirmed it; by default it "
        "is never deleted for that.",
    )
    recordings_max_mib: int | None = Field(
        None,
        ge=16,
        description="MiB that recordings may take on the box. Beyond it the oldest are deleted, also those "
        "that the hub does not have, and it is told which.",
    )


CORE: Mapping[str, type[Settings]] = {
    "box": BoxSection,
    "agents": AgentsSection,
    "limits": LimitsSection,
    "recording": RecordingSection,
    "plugins": PluginsSection,
    "hub": HubSection,
}
"""Sections that the box itself reads."""


PLACED = frozenset({Kind.SPEECH_TO_TEXT, Kind.LANGUAGE_MODEL, Kind.TEXT_TO_SPEECH, Kind.EMBEDDER})
"""Kinds whose sections may say where the provider runs: `placement`, and a table `worker`."""

INLINE, WORKER = "inline", "worker"


class WorkerSection(Settings):
    """The worker process of a provider that does not run inline."""

    memory_mib: int = Field(
        0,
        ge=0,
        description="MiB of memory of its own, mapped model files not counted; a worker that takes "
        "more is replaced. 0 is half of the machine's.",
    )
    streams: int = Field(
        64,
        ge=1,
        le=4096,
        description="Requests that it serves at a time; what is beyond goes to the next provider.",
    )
    ca: Path | None = Field(
        None, description="For a worker on another machine: who signed its certificate (PEM)."
    )
    cert: Path | None = Field(
        None, description="For a worker on another machine: this box's certificate (PEM)."
    )
    key: Path | None = Field(
        None, description="For a worker on another machine: this box's private key (PEM)."
    )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a provider runs: `inline` in the box, in a `worker` process, or at `host:port`."""

    where: str = INLINE
    worker: WorkerSection = field(default_factory=lambda: WorkerSection.model_validate({}))

    @property
    def remote(self) -> bool:
        """Whether it runs on another machine."""
        return self.where not in {INLINE, WORKER}


@dataclass(frozen=True, slots=True)
class Configured:
    """A provider as configured: `offer.build(settings, context)` makes it, where `placement` says."""

    name: str
    offer: Offer
    settings: Settings
    placement: Placement = field(default_factory=Placement)

    @property
    def kind(self) -> Kind:
        """What it provides."""
        return self.offer.kind


@dataclass(frozen=True, slots=True)
class BoxConfig:
    """A valid configuration. Every path in it is absolute.

    Attributes:
        path: the file it was read from.
        routes: pattern of the called number to agent name.
        configured: all providers, by kind and then by name.
    """

    path: Path
    box: BoxSection
    agents: AgentsSection
    limits: LimitsSection
    recording: RecordingSection
    plugins: PluginsSection
    hub: HubSection
    routes: Mapping[str, str]
    configured: Mapping[Kind, Mapping[str, Configured]]

    def providers(self, kind: Kind) -> Mapping[str, Configured]:
        """Return the configured providers of `kind`, by name, in the order of the file."""
        return self.configured.get(kind, {})

    @property
    def transports(self) -> Mapping[str, Configured]:
        """The phone lines."""
        return self.providers(Kind.TRANSPORT)

    @property
    def voice_activity(self) -> Configured:
        """The voice activity detector: there is always one."""
        return self.providers(Kind.VOICE_ACTIVITY)["voice_activity"]

    @property
    def turn_detector(self) -> Configured | None:
        """The turn detector; None when silence alone decides."""
        return self.providers(Kind.TURN_DETECTOR).get("turn_detector")

    @property
    def recordings_dir(self) -> Path:
        """Where recordings are written."""
        return self.recording.dir or self.box.data_dir / "recordings"

    def agent_for(self, called: str) -> str | None:
        """Return the agent that takes calls to `called`; None when nobody does.

        A route's pattern may hold `*` and `?`. An exact number goes first, then the pattern with
        the most literal characters.
        """
        matching = [pattern for pattern in self.routes if fnmatchcase(called, pattern)]
        if not matching:
            return self.agents.default
        best = max(matching, key=lambda pattern: (pattern == called, _literals(pattern)))
        return self.routes[best]

    def section(self, name: str) -> Any:
        """Return a core section by its name in the file."""
        return getattr(self, name)


def _literals(pattern: str) -> int:
    return sum(character not in "*?" for character in pattern)
