"""`--json` of every command, on data of every kind: each line is JSON, in ASCII, of the shape that the help names."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio.to_thread
import click
import pytest
from click.testing import CliRunner, Result

from nixfleet_cli.main import main
from nixfleet_cli.shared.commands import walk
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.signing import SigningKey, fingerprint_of
from tests.cli.conftest import Invoke
from tests.cli.test_evidence import AT, FOUND
from tests.cli.test_fleet_check import SHOP
from tests.cli.test_keys_and_tokens import AGENT, minted_nonce
from tests.cli.test_release import CI, STRANGER, build
from tests.support.enrolling_server import ORG_ROOT_KEY, TRUST, enrolling_server
from tests.support.served_control_plane import OPERATOR_KEY, site_with

_NAME = re.compile(r"\b[a-z]+(?:[A-Z][a-z]*)*\b")


def _with_json() -> Iterator[str]:
    for context, command in walk(main, click.Context(main, info_name="nixfleet")):
        if any("--json" in each.opts for each in command.get_params(context)):
            yield context.command_path.removeprefix("nixfleet ")


WITH_JSON = set(_with_json())
WITHOUT = {
    "control-plane dashboard": "prints a file of Grafana, which is JSON",
    "control-plane nats-server": "prints a file of nats-server",
    "control-plane rules": "prints a file of Prometheus",
    "demo": "it plays a story",
    "control-plane run": "it is a process, with a log in JSON",
    "agent run": "it is a process, with a log in JSON",
    "notify run": "it is a process, with a log in JSON",
    "units": "what it prints is a file of systemd",
    "openapi": "what it prints is JSON",
    "fleet import": "what it prints is JSON",
    "token mint": "what it prints is JSON",
    "secrets open": "what it prints are the bytes of a secret",
    "secrets seal": "it prints nothing",
    "evidence sign": "it prints nothing",
    "trust make": "it prints nothing",
}


def test_every_command_that_prints_has_json() -> None:
    """The exceptions are few, and each has its reason."""
    every = {
        context.command_path.removeprefix("nixfleet ")
        for context, command in walk(main, click.Context(main, info_name="nixfleet"))
        if not isinstance(command, click.Group)
    }
    assert every - WITH_JSON == WITHOUT.keys()
    assert all(WITHOUT.values())


def _shape_of(path: str) -> set[str]:
    """Return the names that the help of --json mentions."""
    for context, command in walk(main, click.Context(main, info_name="nixfleet")):
        if context.command_path == f"nixfleet {path}":
            (option,) = (each for each in command.get_params(context) if "--json" in each.opts)
            assert isinstance(option, click.Option)
            return set(_NAME.findall(option.help or ""))
    raise AssertionError(path)


def require_json(path: str, result: Result) -> list[dict[str, object]]:
    """Return the values that were printed, one a line; the keys of each are in the help."""
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines
    assert all(line.isascii() and line.isprintable() for line in lines)
    values = [json.loads(line) for line in lines]
    named = _shape_of(path)
    for value in values:
        assert isinstance(value, dict)
        assert value.keys() <= named, path
    return values


@pytest.fixture
def place(nixfleet: Invoke, tmp_path: Path) -> Iterator[Path]:
    """Keys, trust files, a declaration with closures, a release, evidence, a sealed secret, and a host to enroll."""
    public = CI.public_key.public_key
    CI.save(tmp_path / "ci.key")
    nixfleet("keys", "new", tmp_path / "next.key")
    for name in ("trust.json", "rotated.json"):
        named = ("--ci", public, "--operator", f"ada={STRANGER.public_key.public_key}")
        assert nixfleet("trust", "make", tmp_path / name, *named).exit_code == 0
    nixfleet("trust", "rotate", tmp_path / "rotated.json", "--to", _public(tmp_path / "next.key"))
    (tmp_path / "fleet.toml").write_text(SHOP)
    (tmp_path / "store").mkdir()
    for hostname in ("web-01", "web-02"):
        build(tmp_path, hostname, "1")
    assert nixfleet(*_make(tmp_path, "r1")).exit_code == 0
    (tmp_path / "evidence.json").write_text(FOUND.replace('"fail"', '"pass"'))
    signed = nixfleet("evidence", "sign", tmp_path / "evidence.json", "--key", tmp_path / "ci.key")
    assert signed.exit_code == 0, signed.output
    sealed = ["secrets", "seal", str(tmp_path / "sealed"), "--to", public]
    assert CliRunner().invoke(main, sealed, input=b"secret").exit_code == 0
    with enrolling_server() as server:
        (tmp_path / "agent.toml").write_text(
            AGENT.format(url=server.url).replace("trust.json", "org-trust.json")
        )
        (tmp_path / "org-trust.json").write_bytes(encode_trust_root(TRUST))
        ORG_ROOT_KEY.save(tmp_path / "org.key")
        nixfleet(
            "enroll", "--config", tmp_path / "agent.toml"
        )  # Makes the key; there is no token yet.
        host_key = SigningKey.load(tmp_path / "host.key").public_key
        minted = nixfleet(
            *("token", "mint", "--key", tmp_path / "org.key", "--hostname", "web-01"),
            *("--fingerprint", fingerprint_of(host_key), "--out", tmp_path / "token.json"),
        )
        assert minted.exit_code == 0, minted.output
        server.nonces.append(minted_nonce(minted.stderr, tmp_path))
        yield tmp_path


def _make(place: Path, ref: str) -> list[str]:
    return [
        *("release", "make", f"{place}/fleet.toml", f"{place}/{ref}", "--ref", ref),
        *("--trust", f"{place}/trust.json", "--key", f"{place}/ci.key"),
        *("--closures", f"{place}/built", "--store", f"{place}/store"),
    ]


OFFLINE: dict[str, Callable[[Path], list[str | Path]]] = {
    "graph": lambda place: ["graph"],
    "fleet check": lambda place: ["fleet", "check", place / "fleet.toml"],
    "fleet health-checks": lambda place: [
        *("fleet", "health-checks", place / "fleet.toml", place / "checks")
    ],
    "fleet explain": lambda place: ["fleet", "explain", "web-01", "-f", place / "fleet.toml"],
    "release make": lambda place: [*_make(place, "r2")],
    "release publish": lambda place: [
        *("release", "publish", place / "r1", place / "published"),
        *("--trust", place / "trust.json"),
    ],
    "release diff": lambda place: ["release", "diff", place / "r1", place / "r1"],
    "release check": lambda place: [
        *("release", "check", place / "r1", "--trust", place / "trust.json")
    ],
    "release resign": lambda place: [
        *("release", "resign", place / "r1", "--key", place / "ci.key"),
        *("--trust", place / "trust.json"),
    ],
    "trust check": lambda place: ["trust", "check", place / "trust.json", place / "r1"],
    "trust list": lambda place: ["trust", "list", place / "trust.json"],
    "trust add-operator": lambda place: [
        *("trust", "add-operator", place / "trust.json", "bob", _public(place / "next.key"))
    ],
    "trust remove-operator": lambda place: [
        *("trust", "remove-operator", place / "trust.json", "ada")
    ],
    "trust rotate": lambda place: [
        *("trust", "rotate", place / "trust.json", "--to", _public(place / "next.key"))
    ],
    "trust compromised": lambda place: [
        *("trust", "compromised", place / "trust.json", "--to", _public(place / "next.key"))
    ],
    "keys new": lambda place: ["keys", "new", place / "another.key"],
    "keys show": lambda place: ["keys", "show", place / "ci.key"],
    "trust retire": lambda place: ["trust", "retire", place / "rotated.json"],
    "evidence check": lambda place: [
        *("evidence", "check", place / "evidence.json", "--key", _public(place / "ci.key")),
        *("--framework", "nis2", "--at", AT),
    ],
    "config check": lambda place: ["config", "check", place / "agent.toml"],
    "secrets show": lambda place: ["secrets", "show", place / "sealed"],
    "secrets reseal": lambda place: [
        *("secrets", "reseal", place / "sealed", "--key", place / "ci.key"),
        *("--to", _public(place / "next.key")),
    ],
    "simulate": lambda place: ["simulate", "--seed", "1", "--days", "0.02", "--hosts", "2"],
    "conformance": lambda place: ["conformance", "--record", place / "vectors"],
    "enroll": lambda place: ["enroll", "--config", place / "agent.toml"],
    "agent init": lambda place: [
        *(
            "agent",
            "init",
            place / "new",
            "--hostname",
            "web-03",
            "--closure",
            place / "built" / "web-01",
        ),
        *("--control-plane", "https://fleet.example", "--trust", place / "trust.json"),
    ],
}


def _public(file: Path) -> str:
    return SigningKey.load(file).public_key.public_key


@pytest.mark.parametrize("path", OFFLINE)
def test_a_command_on_files_prints_json_of_the_shape_that_its_help_names(
    path: str, nixfleet: Invoke, place: Path
) -> None:
    """One object a line."""
    require_json(path, nixfleet(*OFFLINE[path](place), "--json"))


DATABASE: dict[str, list[str]] = {
    "status": [],
    "log show": ["--all"],
    "log verify": [],
    "log checkpoint": ["--key", "ci.key", "--signer", "ci", "--to", "a.checkpoint"],
    "log prove": ["--checkpoint", "a.checkpoint", "--row", "7", "--to", "a.proof"],
    "log rebuild": ["--check"],
    "log forecast": [],
    "log backtest": [],
    "log fork": ["--at", "3", "--to", "scratch"],
    "db upgrade": [],
    # Nothing is as old as that.
    "log export": ["/", "--before", "2000-01-01T00:00:00Z"],
}


@pytest.mark.parametrize("path", DATABASE)
def test_a_command_on_a_database_prints_json_of_every_kind_of_row(
    path: str, nixfleet: Invoke, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fleet with a converged and a reverted rollout: quarantines, waiting hosts, every kind of fact."""
    monkeypatch.chdir(database.parent)
    CI.save(Path("ci.key"))
    if path == "log prove":
        nixfleet("log", "checkpoint", database, *DATABASE["log checkpoint"])
    values = require_json(path, nixfleet(*path.split(), database, *DATABASE[path], "--json"))
    if path == "log show":
        assert {"agent_event", "rollout_event"} <= {value["kind"] for value in values}


def test_status_of_a_journal_prints_json(nixfleet: Invoke, files: Path) -> None:
    """Its rollouts, oldest first."""
    (value,) = require_json("status", nixfleet("status", files / "web-01.sqlite", "--json"))
    rollouts = value["rollouts"]
    assert isinstance(rollouts, list)
    assert [each["rolloutId"] for each in rollouts] == ["stable@r1", "stable@r2"]


OPERATOR: dict[str, list[str]] = {
    "operator rollouts": [],
    "operator hosts": [],
    "operator deferrals": [],
    "operator releases": [],
    "watch": ["--until", "decision"],
    "operator overview": ["stable"],
    "operator host": ["web-02"],
    "operator quarantines": [],
    "operator events": ["stable@r2"],
    "operator log": ["--after", "0"],
    "operator shards": [],
    "operator explain": ["web-02"],
    "operator excuse": ["stable@r2", "web-02", "--reason", "why"],
    "operator clear": ["stable@r2", "--reason", "why"],
    "operator pause": ["stable", "--reason", "why"],
    "operator resume": ["stable", "--reason", "why"],
    "operator retire": ["stable", "web-01", "--reason", "why"],
    "operator hold": ["stable", "--reason", "why", "--until", "2h"],
    "operator holds": [],
    "operator release": ["stable", "--reason", "why"],
    "operator freeze": ["--all", "--reason", "why", "--until", "3d"],
}
# Nothing in that fleet may try again, and nobody is silent for long enough.
OPERATOR_REFUSED: dict[str, list[str]] = {
    "operator retry": ["stable@r2", "--reason", "why"],
    "operator skip": ["stable@r2", "web-03", "--reason", "why"],
    "operator abort": ["stable@r1", "--reason", "why"],
    "operator override": ["stable@r1", "web-01", "--reason", "why"],
    "operator recall": ["stable@r1", "--reason", "why"],
    # It has no guards either; `test_operator_approvals` has a fleet that has some.
    "operator approve": ["stable@r2", "--reason", "why"],
    "operator deny": ["stable@r2", "--reason", "why"],
    "operator promote": ["stable@r2", "--reason", "why"],
}


@pytest.mark.anyio
async def test_every_operator_command_prints_json_over_the_network(files: Path) -> None:
    """A control plane with rollouts that had health checks, facts of every kind and a quarantine."""
    key = files / "alice.key"
    OPERATOR_KEY.save(key)
    async with site_with(files) as site:
        # Those that are refused last: rollouts of that time are pruned when the service ticks.
        for path, arguments in (*OPERATOR.items(), *OPERATOR_REFUSED.items()):
            who = ["--url", site.url, "--key", str(key), "--name", "alice", "--json"]
            whole = [*path.split(), *arguments, *who]
            shown = await anyio.to_thread.run_sync(
                partial(CliRunner().invoke, main, whole, catch_exceptions=False)
            )
            if path in OPERATOR_REFUSED:
                assert "expected" in str(error_in(shown)["message"])
                continue
            values = require_json(path, shown)
            if path == "operator events":
                assert any("probes" in json.dumps(value) for value in values)


def test_every_command_with_json_is_run_here() -> None:
    """A new command has to be added to one of the lists above."""
    # Nothing is relayed in that fleet; `test_operator` has one in which something is. Nor is anything forecast:
    # `test_operator_previews` has a process that does. `test_notify` has a notifier.
    elsewhere = {"operator warrants", "operator forecast", "operator plan"}
    # Nor is anything refused, or anybody silent or known by a key.
    elsewhere |= {"operator refused", "operator silent", "operator enrollments"}
    elsewhere |= {"release plan", "log shadow"}
    elsewhere |= {path for path in WITH_JSON if path.startswith("notify ")}
    # It prints its object when it begins, and ends by a signal: `tests/ui/test_command` reads it.
    elsewhere |= {"ui"}
    # It needs a database server: `tests/postgres/test_commands` has one.
    elsewhere |= {"db copy"}
    assert {*OFFLINE, *DATABASE, *OPERATOR, *OPERATOR_REFUSED, *elsewhere} == WITH_JSON


def error_in(result: Result) -> dict[str, object]:
    """Return the error in the last object that was printed; it has the one shape, and the exit code of the command."""
    last = json.loads(result.stdout.splitlines()[-1])
    error = last["error"]
    assert error.keys() == {"exitCode", "message", "details"}
    assert error["exitCode"] == result.exit_code != 0
    assert error["message"]
    assert "Error: " in result.stderr  # For people, too.
    found: dict[str, object] = error
    return found


@pytest.mark.parametrize("path", sorted(WITH_JSON))
def test_a_wrong_command_line_is_an_error_in_json(path: str, nixfleet: Invoke) -> None:
    """Also where no command was reached."""
    error = error_in(nixfleet(*path.split(), "--json", "--no-such-option"))
    assert error["exitCode"] == 2
    assert "--no-such-option" in str(error["message"])


def test_a_command_that_does_not_exist_is_an_error_in_json(nixfleet: Invoke) -> None:
    """A group has no --json of its own, and the whole line asks for it."""
    assert "No such command" in str(error_in(nixfleet("release", "chek", "--json"))["message"])


REFUSED: dict[str, Callable[[Path], list[str | Path]]] = {
    "release make": lambda place: [*_make(place, "r2"), "--key", place / "next.key"],
    "release check": lambda place: [
        *("release", "check", place / "r1", "--trust", place / "trust.json"),
        *("--at", "2029-01-01T00:00:00Z"),
    ],
    "trust check": lambda place: [
        *("trust", "check", place / "trust.json", place / "r1", "--at", "2029-01-01T00:00:00Z")
    ],
    "fleet check": lambda place: ["fleet", "check", place / "trust.json"],
    "config check": lambda place: ["config", "check", place / "fleet.toml"],
    "keys new": lambda place: ["keys", "new", place / "ci.key"],
    "secrets show": lambda place: ["secrets", "show", place / "fleet.toml"],
    "evidence check": lambda place: [
        *("evidence", "check", place / "fleet.toml", "--key", _public(place / "ci.key")),
        *("--framework", "nis2", "--at", AT),
    ],
    "status": lambda place: ["status", place / "fleet.toml"],
    "operator hosts": lambda place: [
        *("operator", "hosts", "--url", "http://127.0.0.1:9", "--key", place / "ci.key")
    ],
}
"""A failure of every kind: refused input, files that are something else, nobody who answers."""


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_refused_is_an_error_in_json(path: str, nixfleet: Invoke, place: Path) -> None:
    """One shape for every command, beside what the command found out."""
    result = nixfleet(*REFUSED[path](place), "--json")
    error_in(result)
    if path.endswith("check") and path.split()[0] in {"release", "trust"}:
        (line,) = result.stdout.splitlines()
        assert json.loads(line)["refused"]
