"""`nixfleet log fork`: the fleet as it was at a row, in a scratch store to try commands on."""

import shutil
from pathlib import Path
from typing import Final

import click

from nixfleet_cli.shared.arguments import FILE, load_trust
from nixfleet_cli.shared.commands import command
from nixfleet_cli.shared.database import reading, store_argument
from nixfleet_cli.shared.exports import exports_option, refusing_exports
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_cli.shared.output import Output, printing, shown_time
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.history.forking import Forked, NoSuchRow, fork
from nixfleet_proto.codec import format_time

_DATABASE: Final = "control-plane.db"
_CONFIG: Final = "control-plane.toml"
_TRUST: Final = "trust.json"
_TEXT: Final = f"""\
# A fork: no host knows its address, and nothing is published to it.
[store]
path = "{_DATABASE}"

[listen]
host = "127.0.0.1"
port = 0

[trust]
file = "{_TRUST}"

[releases]
directory = "releases"
"""


@command(name="fork")
@store_argument
@click.option(
    "--at", "seq", metavar="SEQ", type=click.IntRange(min=1), required=True, help="The last row."
)
@click.option(
    "--to",
    "directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Where the fork is made; must not exist, or be empty.",
)
@click.option(
    "--trust",
    "trust_file",
    metavar="FILE",
    type=FILE,
    help="A trust file: operators of it may try commands on the fork.",
)
@exports_option
@printing("one object with directory, database, seq, at and config (null without --trust)")
def fork_log(
    output: Output,
    store: StoreConfig,
    seq: int,
    directory: Path,
    trust_file: Path | None,
    exports: Path | None,
) -> None:
    """Open the fleet as it was at a row, in a scratch store.

    The rows up to SEQ and their views are written to a database in DIR, which every command takes: status, log, and
    with --trust a control plane on it, that no host knows, for operators' commands. The original is not touched, and
    nothing that is done to the fork goes back. Its control plane has the time of today: deadlines of back then have
    passed. DB is the database of a control plane, which may be in use.

    Exit codes: 0 success; 1 a row is damaged, or there is no row SEQ; 2 DB cannot be read, or DIR not be written.
    """
    if directory.exists() and any(directory.iterdir()):
        raise Unusable(f"{directory}: expected a directory that does not exist or is empty")
    if trust_file is not None:
        load_trust(trust_file)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with reading(store) as stored, refusing_exports(store.where):
            forked = fork(stored.whole_log(exports), seq, directory / _DATABASE)
        if trust_file is not None:
            _configure(directory, trust_file)
    except NoSuchRow as error:
        shutil.rmtree(directory)
        raise Findings(f"{store.where}: --at: {error}") from error
    except OSError as error:
        raise Unusable(f"{directory}: {error.strerror}") from error
    config = None if trust_file is None else directory / _CONFIG
    output.show(
        {
            "directory": directory,
            "database": directory / _DATABASE,
            "seq": forked.seq,
            "at": forked.at,
            "config": config,
        },
        _lines(directory, forked, config),
    )


def _configure(directory: Path, trust_file: Path) -> None:
    (directory / "releases").mkdir()
    shutil.copyfile(trust_file, directory / _TRUST)
    (directory / _CONFIG).write_text(_TEXT)


def _lines(directory: Path, forked: Forked, config: Path | None) -> list[str]:
    database, at = directory / _DATABASE, format_time(forked.at)
    lines = [
        f"{database}: the fleet as of row {forked.seq}, {shown_time(forked.at)}",
        f"  nixfleet status {database} --at {at}",
        f"  nixfleet log forecast {database} --at {at}",
    ]
    if config is None:
        return [*lines, "  with --trust a control plane can be run on it, for operators' commands"]
    url = directory / "url"
    return [
        *lines,
        f"  nixfleet control-plane run --config {config} --url-file {url}",
        f'  nixfleet operator rollouts --url "$(cat {url})" --key KEY --name NAME',
    ]
