# SPDX-License-Identifier: Apache-2.0
"""The configuration: what it accepts, and how it says what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, SecretStr

from appliance.config import BoxConfig, ConfigError, box_section, load, plugins_section
from appliance.plugin import ConfigurationError, Kind, Offer, Settings


class Trunk(BaseModel, extra="forbid"):
    """A trunk of the test line."""

    registrar: str = ""
    password: SecretStr | None = None


class LineSettings(Settings):
    """Settings of the test line."""

    port: int = Field(5060, ge=1, le=65535, description="Where it listens.")
    trunks: dict[str, Trunk] = Field(default_factory=dict, description="By name.")
    codecs: tuple[str, ...] = Field(("PCMU",), description="Best first.")


class RecognizerSettings(Settings):
    """Settings of the test recognizer."""

    model: str = Field(description="Which model.")
    beam_size: int = Field(1, description="Width of the search.")
    api_key: SecretStr | None = Field(None, description="For the service.")


class Offers:
    """Offers as the plugin manager would give them."""

    def __init__(self) -> None:
        self._models: dict[tuple[Kind, str], type[Settings]] = {
            (Kind.TRANSPORT, "line"): LineSettings,
            (Kind.SPEECH_TO_TEXT, "whisper"): RecognizerSettings,
            (Kind.VOICE_ACTIVITY, "silero"): Settings,
        }

    def offer(self, kind: Kind, id: str) -> Offer:  # noqa: A002
        """Return the offer."""
        if (kind, id) not in self._models:
            raise ConfigurationError(f"no plugin offers {id!r}", remedy="installed: whisper")
        return Offer(id, kind, self._models[kind, id], lambda s, c: None, None, "")


Load = Callable[..., BoxConfig]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    def write_and_load(text: str, **environ: str) -> BoxConfig:
        (tmp_path / "appliance.toml").write_text(text)
        return load(tmp_path / "appliance.toml", Offers(), environ)

    return write_and_load


def problems(read: Load, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return [str(problem).rpartition("appliance.toml:")[2] for problem in caught.value.problems]


def test_an_empty_file_is_a_box_with_every_default(read: Load, tmp_path: Path) -> None:
    config = read("")
    assert config.box.name == "trunkline"
    assert config.box.data_dir == tmp_path / "var"
    assert config.agents.dir == tmp_path / "agents"
    assert config.recordings_dir == tmp_path / "var" / "recordings"
    assert config.voice_activity.offer.id == "silero"
    assert config.turn_detector is None
    assert config.transports == {}


def test_providers_come_by_kind_and_name_with_their_own_settings(read: Load) -> None:
    config = read(
        """
        [speech_to_text.local]
        use = "whisper"
        model = "starter/asr"
        [speech_to_text.large]
        use = "whisper"
        model = "large/asr"
        beam_size = 5
        """
    )
    found = config.providers(Kind.SPEECH_TO_TEXT)
    assert list(found) == ["local", "large"]
    assert found["large"].settings == RecognizerSettings(model="large/asr", beam_size=5)
    assert found["large"].offer.id == "whisper"


def test_one_error_lists_every_problem_with_line_key_value_and_remedy(read: Load) -> None:
    found = problems(
        read,
        """\
[box]
thread = 2
log_level = "inof"

[speech_to_text.local]
use = "whisper"
beam_sice = 5

[transport.pbx]
use = "line"
port = 70000
[transport.pbx.trunks.main]
registrer = "10.0.0.1"

[telephone]
""",
    )
    assert found == [
        "2: box.thread: unknown key; did you mean 'threads'?",
        (
            "3: box.log_level = \"inof\": not one of the choices; did you mean 'info'? "
            "write one of 'debug', 'info', 'warning' or 'error'"
        ),
        "5: speech_to_text.local.model: missing; add it (Which model)",
        "7: speech_to_text.local.beam_sice: unknown key; did you mean 'beam_size'?",
        (
            "11: transport.pbx.port = 70000: input should be less than or equal to 65535; "
            "correct the value"
        ),
        "13: transport.pbx.trunks.main.registrer: unknown key; did you mean 'registrar'?",
        found[-1],
    ]
    assert found[-1].startswith("15: telephone: unknown section; known: box, agents")


def test_a_provider_that_is_not_installed_is_named_with_what_is(read: Load) -> None:
    assert problems(read, '[speech_to_text.local]\nuse = "wisper"') == [
        "2: speech_to_text.local.use = \"wisper\": no plugin offers 'wisper'; installed: whisper"
    ]


def test_a_named_section_without_a_name_is_explained(read: Load) -> None:
    (found,) = problems(read, '[speech_to_text]\nuse = "whisper"')
    assert found.endswith("write [speech_to_text.NAME], for instance [speech_to_text.local]")


def test_what_is_not_toml_is_reported_with_its_line(read: Load) -> None:
    (found,) = problems(read, '[box]\nname = "x"\nthreads == 2\n')
    assert found.startswith("3: not valid TOML")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.toml", Offers(), {})


def test_the_environment_overrides_a_key_whatever_its_case(read: Load) -> None:
    text = '[box]\nthreads = 1\n[transport.PBX]\nuse = "line"\n'
    config = read(
        text,
        TRUNKLINE__BOX__THREADS="3",
        TRUNKLINE__TRANSPORT__PBX__PORT="5070",
        TRUNKLINE__TRANSPORT__PBX__CODECS='["G722", "PCMA"]',
        TRUNKLINE__TRANSPORT__PBX__TRUNKS__MAIN__PASSWORD="0042",
    )
    assert config.box.threads == 3
    settings = config.transports["PBX"].settings
    assert isinstance(settings, LineSettings)
    assert settings.port == 5070
    assert settings.codecs == ("G722", "PCMA")
    assert settings.trunks["main"].password == SecretStr("0042")


def test_a_wrong_override_is_blamed_on_its_variable(read: Load) -> None:
    assert problems(read, "[box]\nthreads = 1\n", TRUNKLINE__BOX__THREADS="many") == [
        (
            'environment variable TRUNKLINE__BOX__THREADS: box.threads = "many": input should be a valid '
            "integer, unable to parse string as an integer; correct the value"
        )
    ]


def test_secrets_come_from_the_environment_or_a_file(read: Load, tmp_path: Path) -> None:
    (tmp_path / "pbx.secret").write_text("hunter2\n")
    config = read(
        """
        [speech_to_text.local]
        use = "whisper"
        model = "m"
        api_key = { env = "KEY" }
        [transport.pbx]
        use = "line"
        [transport.pbx.trunks.main]
        password = { file = "pbx.secret" }
        """,
        KEY="abc",
    )
    settings = config.providers(Kind.SPEECH_TO_TEXT)["local"].settings
    assert isinstance(settings, RecognizerSettings)
    assert settings.api_key == SecretStr("abc")
    line = config.transports["pbx"].settings
    assert isinstance(line, LineSettings)
    assert line.trunks["main"].password == SecretStr("hunter2")


def test_a_secret_that_cannot_be_had_is_a_problem_at_its_line(read: Load, tmp_path: Path) -> None:
    text = '[speech_to_text.a]\nuse = "whisper"\nmodel = "m"\napi_key = { env = "NOPE" }\n'
    assert problems(read, text) == [
        "4: speech_to_text.a.api_key: the environment variable NOPE is not set; set NOPE"
    ]
    (found,) = problems(read, text.replace('env = "NOPE"', 'file = "gone"'))
    assert found.endswith("gone cannot be read: No such file or directory; make it readable")


def test_a_wrong_value_of_a_secret_is_never_shown(read: Load) -> None:
    (plain,) = problems(read, '[speech_to_text.a]\nuse="whisper"\nmodel="m"\napi_key = 123456\n')
    assert "123456" not in plain
    assert "(hidden)" in plain
    (by_env,) = problems(
        read,
        '[transport.pbx]\nuse = "line"\nport = { env = "P" }\n',
        P="topsecret",
    )
    assert "topsecret" not in by_env


@pytest.mark.parametrize(
    ("called", "agent"),
    [("100", "desk"), ("4930123", "berlin"), ("4930999", "special"), ("7", "fallback")],
)
def test_the_most_specific_route_wins(read: Load, called: str, agent: str) -> None:
    config = read(
        """
        [agents]
        default = "fallback"
        [routes]
        "4930*" = "berlin"
        "4930999" = "special"
        "1??" = "desk"
        """
    )
    assert config.agent_for(called) == agent


def test_without_a_default_a_number_without_a_route_has_no_agent(read: Load) -> None:
    assert read('[routes]\n"100" = "desk"').agent_for("200") is None


def test_a_route_to_something_that_is_no_name_is_refused(read: Load) -> None:
    assert problems(read, '[routes]\n"100" = 5\n') == [
        '2: routes.100 = 5: a route names an agent; write "NUMBER" = "AGENT"'
    ]


def test_lines_are_right_after_multi_line_values_and_arrays_of_tables(read: Load) -> None:
    found = problems(
        read,
        '''\
# a comment with = and [brackets]
[box]
name = """
[not.a.table]
thread = 1
"""
[transport.pbx]
use = "line"
codecs = [
  "PCMU", # ]
  "PCMA",
]
prot = 1
''',
    )
    assert found == ["13: transport.pbx.prot: unknown key; did you mean 'port'?"]


def test_the_plugins_section_can_be_read_before_any_plugin_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[plugins]\ndeny = ["openai"]\nallow_cloud = false\n[nonsense]\n')
    section = plugins_section(file, {})
    assert section.deny == ("openai",)
    assert not section.allow_cloud
    file.write_text("[plugins]\ndenny = []\n")
    with pytest.raises(ConfigError, match="did you mean 'deny'"):
        plugins_section(file, {})


def test_the_box_section_can_be_read_without_plugins(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[box]\ndata_dir = "data"\n')
    assert box_section(file, {}).data_dir == tmp_path / "data"


def test_relative_paths_in_a_plugins_settings_start_at_the_files_folder(tmp_path: Path) -> None:
    class Inner(BaseModel):
        key: Path | None = None

    class WithPaths(Settings):
        script: Path | None = None
        inner: Inner = Inner()
        many: tuple[Path, ...] = ()
        untouched: Path = Path("default")

    class Source(Offers):
        def offer(self, kind: Kind, id: str) -> Offer:  # noqa: A002
            settings = WithPaths if kind is Kind.LANGUAGE_MODEL else Settings
            return Offer(id, kind, settings, lambda s, c: None, None, "")

    file = tmp_path / "appliance.toml"
    file.write_text(
        """
        [language_model.a]
        use = "x"
        script = "../rules.yaml"
        inner = { key = "k.pem" }
        many = ["a", "/b"]
        """
    )
    settings = load(file, Source(), {}).providers(Kind.LANGUAGE_MODEL)["a"].settings
    assert isinstance(settings, WithPaths)
    assert settings.script == (tmp_path / "../rules.yaml").resolve()
    assert settings.inner.key == tmp_path / "k.pem"
    assert settings.many == (tmp_path / "a", Path("/b"))
    assert settings.untouched == Path("default")
