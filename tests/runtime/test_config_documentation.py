"""`docs/reference/configuration.md` and the examples are true: every option, its default, and files that load."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from nixfleet_agent.config import (
    AGENT,
    NixosActivatorConfig,
    load_agent_config,
    read_agent_config,
)
from nixfleet_control_plane.config import (
    CONTROL_PLANE,
    load_control_plane_config,
    read_control_plane_config,
)
from nixfleet_notify.config import load_notify_config, read_notify_config
from nixfleet_runtime.config.check import check_config, toml_text
from nixfleet_runtime.config.options import Option, Section, ValueSource, load_content
from nixfleet_runtime.http.line_types import Severity

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-zNAME_.]+)` \| (.+?) \| .+ \|$", re.MULTILINE)
QUOTED_PATH = re.compile(r'"(/[^"]*)"')
DIRECTORIES = re.compile(r"(releases|closures)$")
AGENT_REQUIRED = {
    "control_plane.url": "https://fleet.example.org",
    "trust.file": "trust.json",
    "identity.key_file": "host.key",
    "journal.path": "journal.db",
    "manifests.cache_directory": "manifests",
}


def rows(heading: str) -> dict[str, str]:
    """Return the options under one heading of the guide, each with its default as it is written there."""
    (section,) = re.findall(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", GUIDE, re.DOTALL | re.MULTILINE
    )
    return dict(ROW.findall(section))


def moved_into(directory: Path, text: str) -> str:
    """Return a configuration whose absolute paths are below `directory`, where all that they need is made."""
    for path in QUOTED_PATH.findall(text):
        there = directory / path[1:]
        there.parent.mkdir(parents=True, exist_ok=True)
        if DIRECTORIES.search(path):
            there.mkdir(exist_ok=True)
        elif there.suffix in (".pem", ".json", ".key"):
            there.touch(mode=0o600)
    return QUOTED_PATH.sub(rf'"{directory}\1"', text)


@pytest.fixture
def control_plane_file(tmp_path: Path) -> Path:
    """The example of a control plane, with all that it names."""
    return _example(tmp_path, "control-plane.toml")


@pytest.fixture
def agent_file(tmp_path: Path) -> Path:
    """The example of an agent, with all that it names."""
    return _example(tmp_path, "agent.toml")


def _example(directory: Path, name: str) -> Path:
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    file = directory / name
    file.write_text(moved_into(directory, text), encoding="utf-8")
    return file


def test_the_example_of_a_control_plane_loads(control_plane_file: Path) -> None:
    """It listens with TLS where hosts can reach it."""
    config = load_control_plane_config(control_plane_file, {})
    assert config.listen.tls is not None
    assert not config.listen.plain_http_beyond_loopback


def test_the_example_of_an_agent_loads(agent_file: Path) -> None:
    """It speaks to its control plane with TLS."""
    config = load_agent_config(agent_file, {})
    assert config.hostname == "web-01"
    assert config.control_plane.where.startswith("https://")


def test_the_examples_are_told_apart(control_plane_file: Path, agent_file: Path) -> None:
    """`check_config` knows each by its keys."""
    for file, side in ((control_plane_file, CONTROL_PLANE), (agent_file, AGENT)):
        lines, problems = check_config(file, {}, (CONTROL_PLANE, AGENT))
        assert problems == ()
        assert lines[0] == f"# {side.name}: {file}"


def test_the_guide_has_every_option_of_the_control_plane(tmp_path: Path) -> None:
    """No option is missing from it, and none is in it that there is not; the defaults are the real ones."""
    required = {"store.path": "db", "trust.file": "trust.json", "releases.directory": "store"}
    assert rows("Control plane") == {
        **defaults(tmp_path, read_control_plane_config, required),
        "listen.url": "the address it listens on",
    }


def test_the_guide_has_every_option_of_an_agent_with_directories(tmp_path: Path) -> None:
    """The same of the agent, with the options of the kind `directory`."""
    required = AGENT_REQUIRED | {
        "activator.kind": "directory",
        "activator.store": "store",
        "activator.profile": "current",
    }
    assert rows("Agent") | rows('`activator.kind = "directory"`') == {
        **defaults(tmp_path, read_agent_config, required),
        "hostname": "the machine's",
    }


def test_the_guide_has_every_option_of_an_agent_on_nixos(tmp_path: Path) -> None:
    """The same with the options of the kind `nixos`, whose default paths are those of NixOS."""
    default = NixosActivatorConfig()
    paths = {
        "activator.store": default.store,
        "activator.profile": default.profile,
        "activator.current_system": default.current_system,
    }
    # NixOS's own paths lead nowhere elsewhere, and so others are given.
    given = dict.fromkeys(paths, "store") | {"activator.profile": "current"}
    required = AGENT_REQUIRED | {"activator.kind": "nixos"}
    assert rows("Agent") | rows('`activator.kind = "nixos"`') == {
        **defaults(tmp_path, read_agent_config, required | given),
        "hostname": "the machine's",
        **{name: f"`{toml_text(path)}`" for name, path in paths.items()},
    }


def test_the_guide_has_every_option_of_an_agent_with_commands(tmp_path: Path) -> None:
    """The same with the options of the kind `command`, of which three have no default."""
    command = ["true", "{closure}"]
    required: dict[str, str | list[str]] = {
        **AGENT_REQUIRED,
        "activator.kind": "command",
        **dict.fromkeys(("activator.current", "activator.prepare", "activator.switch"), command),
    }
    assert rows("Agent") | rows('`activator.kind = "command"`') == {
        **defaults(tmp_path, read_agent_config, required),
        "hostname": "the machine's",
    }


@pytest.mark.parametrize("kind", ["webhook", "exec"])
def test_the_guide_has_every_option_of_a_notifier(tmp_path: Path, kind: str) -> None:
    """The same of the notifier, with the options of each kind of hook."""
    (tmp_path / "bob.key").touch(mode=0o600)
    own = {"url": "https://hooks.example.org"} if kind == "webhook" else {"command": ["x"]}
    content = {
        "control_plane": {
            "url": "https://fleet.example.org",
            "operator": "bob",
            "key_file": "bob.key",
        },
        "files": {"directory": "notifier"},
        "egress": {"private_hosts": ["hooks.example.org"]},
        "hooks": {"pager": {"kind": kind, **own}},
    }
    loaded = load_content(tmp_path / "notify.toml", content, {}, read_notify_config)
    found = {
        option.path.replace("hooks.pager.", "hooks.NAME."): _default(option)
        for option in loaded.options
    }
    assert rows("Notifier") | rows("Every hook") | rows(f'`kind = "{kind}"`') == {
        **found,
        "control_plane.key_credential": "not set",
        "control_plane.source": "the URL",
        "egress.private_hosts": "not set",
        **({"hooks.NAME.secret_credential": "not set"} if kind == "webhook" else {}),
        **({"hooks.NAME.previous_secret_credential": "not set"} if kind == "webhook" else {}),
        **({"hooks.NAME.token_credential": "not set"} if kind == "webhook" else {}),
    }


def test_the_example_of_a_notifier_loads(tmp_path: Path) -> None:
    """It pages somebody with signed webhooks, and lets a chat read along."""
    file = _example(tmp_path, "notify.toml")
    secret = tmp_path / "etc" / "nixfleet" / "pager.secret"
    secret.write_text(f"whsec_{'A' * 32}")
    secret.chmod(0o600)
    config = load_notify_config(file, {})
    assert set(config.hooks) == {"pager", "chat"}
    assert config.hooks["pager"].wants.severity is Severity.ACT


def defaults(
    directory: Path, read: Callable[[Section], object], required: Mapping[str, str | list[str]]
) -> dict[str, str]:
    """Return the default of each option as the guide writes it, `required` for what has to be given."""
    (directory / "store").mkdir()
    (directory / "trust.json").touch()
    content = tomllib.loads(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in required.items())
    )
    loaded = load_content(directory / "side.toml", content, {}, read)
    return {option.path: _default(option) for option in loaded.options}


def _default(option: Option) -> str:
    if option.source is ValueSource.FILE:
        return "required"
    return "not set" if option.value is None else f"`{toml_text(option.value)}`"
