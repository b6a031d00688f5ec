"""The commands on a store that an embedder wrote: that of the embedding page, found by its entry point."""

import hashlib
import json
import pickle
import re
from contextlib import closing
from pathlib import Path

import pytest

from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.store.queries import open_for_reading
from nixfleet_control_plane.store.sqlite_store import read_log
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import KeySlot, TrustRoot
from tests.cli.conftest import Invoke
from tests.support.installed import install, use

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "embedding.md").read_text()
SHOWN = dict(re.findall(r"```python\n# ([^\n]+)\.py\n(.*?)```", PAGE, re.DOTALL))
OWNED = """
from file_plugin import FileStoreOpener

def store(section):
    return FileStoreOpener(section.text("path")).__call__

class Blocking:
    def __call__(self):
        raise AssertionError

    def reading(self):
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def opened():
            yield object()
        return opened()

def blocking(section):
    return Blocking()
"""
STATUS = ("status", "--at", "2026-05-16T02:15:00Z")
CONFIG = """
[store]
kind = "file"
path = "log"
[trust]
file = "is/not/there.json"
"""


@pytest.fixture
def config(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of a control plane whose store has the log of `database`, row for row."""
    modules = {name: SHOWN[name] for name in ("file_store", "file_plugin")} | {"owned": OWNED}
    points = "file = file_plugin:store\nowned = owned:store\nblocking = owned:blocking"
    site = install(tmp_path / "site", "plugged", modules, {"nixfleet.stores": points})
    use(monkeypatch, site)
    write_log(tmp_path, rows_of(database))
    file = tmp_path / "control-plane.toml"
    file.write_text(CONFIG)
    return file


def rows_of(database: Path) -> list[LogRow]:
    with closing(open_for_reading(database)) as connection:
        return list(read_log(connection))


def write_log(directory: Path, rows: list[LogRow]) -> None:
    """As the store of the page keeps it, in one commit."""
    body = pickle.dumps(tuple(rows))
    data = len(body).to_bytes(8, "big") + hashlib.sha256(body).digest() + body
    (directory / "log").write_bytes(data)


@pytest.mark.parametrize("command", [STATUS, ("log", "show"), ("log", "show", "--all")])
def test_a_command_shows_the_same_of_a_store_that_is_a_plug_in(
    nixfleet: Invoke, config: Path, database: Path, command: tuple[str, ...]
) -> None:
    """As of the database that has the same log, but for the last lines: what keeps rows, and what was read."""
    ours = nixfleet(*command, database)
    theirs = nixfleet(*command, "--config", config)

    assert theirs.exit_code == 0, theirs.output
    expected = ours.stdout
    if command == STATUS:
        *lines, needed, _ = expected.splitlines(keepends=True)
        assert needed.startswith("the first row that has to stay is ")
        expected = "".join(lines)
        expected += "store 'file' of plugged 1.0\n"
    assert theirs.stdout == expected


def test_the_status_of_a_plug_in_names_it_in_json(nixfleet: Invoke, config: Path) -> None:
    """It has no file version."""
    value = json.loads(nixfleet("status", "--config", config, "--json").stdout)
    assert value["store"] == {"kind": "file", "distribution": "plugged 1.0"}
    assert (value["program"], value["version"]) == (None, None)


def test_a_checkpoint_finds_what_was_altered_in_a_store_without_a_chain(
    nixfleet: Invoke, config: Path, database: Path, tmp_path: Path
) -> None:
    """A row that can still be replayed is found by the checkpoint from before, and by nothing else."""
    key = SigningKey(b"c" * 32)
    key.save(tmp_path / "ci.key")
    trust, checkpoint = tmp_path / "trust.json", tmp_path / "checkpoint.json"
    trust.write_bytes(encode_trust_root(TrustRoot(KeySlot(key.public_key), None, ())))
    signing = ("--key", tmp_path / "ci.key", "--signer", "ci", "--to", checkpoint)
    made = nixfleet("log", "checkpoint", "--config", config, *signing)
    checking = ("log", "verify", "--config", config)
    signed = (*checking, "--trust", trust, "--checkpoint", checkpoint)
    of_row = ("--row", "7", "--to", tmp_path / "proof.json")
    proved = nixfleet("log", "prove", "--config", config, "--checkpoint", checkpoint, *of_row)
    *rows, last = rows_of(database)
    write_log(tmp_path, [*rows, last._replace(ts="2026-05-16T01:59:59Z")])

    assert (made.exit_code, proved.exit_code) == (0, 0), (made.output, proved.output)
    unsigned = nixfleet(*checking)
    assert "keeps no chain of hashes: give a checkpoint that was signed earlier" in unsigned.stdout
    found = nixfleet(*signed)
    assert found.exit_code == 1
    assert "the log does not continue the checkpoint" in found.stderr


def test_what_works_on_files_refuses_a_store_that_is_a_plug_in_by_name(
    nixfleet: Invoke, config: Path, tmp_path: Path
) -> None:
    """With what it expected, and where to look."""
    for command in (("db", "upgrade"), ("log", "export", tmp_path)):
        refused = nixfleet(*command, "--config", config)
        assert refused.exit_code == 2
        named = f"nixfleet {command[0]} {command[1]}"
        assert refused.stderr == (
            "Error: the store 'file' of plugged 1.0 keeps its data in its own way: expected a store "
            f"of kind \"sqlite\" for `{named}`, found 'file'; its distribution says how it is "
            "upgraded, and how old rows are kept\n"
        )


def test_a_store_that_only_its_process_reads_says_what_to_ask_instead(
    nixfleet: Invoke, config: Path
) -> None:
    """A plain function is enough for a store; the offline commands need more."""
    config.write_text(CONFIG.replace('"file"', '"owned"'))
    refused = nixfleet("status", "--config", config)
    assert refused.exit_code == 2
    assert "can be read only by the control plane that has it" in refused.stderr
    assert '"nixfleet operator log"' in refused.stderr


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('kind = "none"', "expected one of sqlite, or an installed entry point (blocking, file"),
        ('kind = "blocking"', "expected every call of Queries, found object without deferrals"),
        ('kind = "file"', "store.path: missing"),
        ('kind = "file"\npath = "gone"', "expected the store to be read, found FileNotFoundError"),
    ],
)
def test_a_store_that_cannot_be_read_is_refused_with_its_entry_point(
    nixfleet: Invoke, config: Path, written: str, said: str
) -> None:
    """Each way on its own."""
    config.write_text(f"[store]\n{written}\n")
    refused = nixfleet("log", "show", "--config", config)
    assert refused.exit_code == 2
    assert said in refused.stderr


def test_a_configuration_leads_to_a_database_too(
    nixfleet: Invoke, config: Path, database: Path
) -> None:
    """The same words as with its path; one of both is required."""
    config.write_text(f'[store]\npath = "{database}"\n')
    by_path = nixfleet("log", "show", database)
    assert nixfleet("log", "show", "--config", config).stdout == by_path.stdout
    assert "expected DB or --config, found neither" in nixfleet("status").stderr
    assert "found both" in nixfleet("status", database, "--config", config).stderr
