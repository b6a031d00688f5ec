"""Prepares the directory of a new agent: its first closure, its key and its configuration. Starts nothing.

Nothing is overwritten. The configuration is written last, so a directory without one was not prepared to the end, and
the same call completes it. The first closure's switch script is not run: it is what the machine runs already.
"""

import os
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_agent.config import read_agent_config
from nixfleet_agent.network.enrollment import OwnKey, own_key
from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.config.check import toml_text
from nixfleet_runtime.config.options import load_content
from nixfleet_runtime.releases.closure_tree import checked_closure_name
from nixfleet_runtime.releases.nar import (
    InvalidClosureName,
    split_closure_name,
)

CONFIG: Final = "agent.toml"
TOKEN_FILE: Final = "bootstrap-token.json"
KEY: Final = "host.key"
STORE: Final = "closures"
PROFILE: Final = "current"

_CONFIG: Final = """\
# The agent of one host. An option that is not here has its default; docs/reference/configuration.md lists all options.

hostname = {hostname}

[control_plane]
url = {url}

[trust]
file = {trust_file}

[identity]
key_file = "host.key"
bootstrap_token_file = "{token_file}"

[journal]
path = "journal.db"

[manifests]
cache_directory = "manifests"

[activator]
"""
_DIRECTORIES: Final = """\
kind = "directory"
store = "closures"
profile = "current"
"""
_NIXOS: Final = 'kind = "nixos"\n'


class AlreadyPrepared(NixfleetError):
    """The directory has an agent, or a part of one. `path`: what would have been overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"{self.path} exists: expected a directory without an agent; choose another one, "
            "or remove this one if no agent uses it"
        )


@frozen
class PreparedAgent:
    """What a preparation left behind. closure: the name of the first closure, `None` on a NixOS machine."""

    config: Path
    key: OwnKey
    closure: str | None

    @property
    def token_file(self) -> Path:
        """Where the agent looks for a bootstrap token."""
        return self.config.with_name(TOKEN_FILE)


def prepare_agent(
    directory: Path, hostname: str, url: str, trust_file: Path, tree: Path | None
) -> PreparedAgent:
    """Prepare `directory` for the agent of `hostname`, and return what is in it then.

    url: of the control plane. tree: a directory with what the machine runs now; its copy is the first closure.
    `None`: the machine runs NixOS, and its system is the first closure.
    Raises: AlreadyPrepared, ConfigError (of the values given, or of the machine), InvalidClosureName, NotArchivable,
    UnfitClosure, FileChangedWhileRead, InsecureKeyFile, MalformedKeyFile, OSError.
    """
    directory = directory.absolute()
    config = directory / CONFIG
    if os.path.lexists(config):
        raise AlreadyPrepared(config)
    text = _CONFIG.format(
        token_file=TOKEN_FILE,
        hostname=toml_text(hostname),
        url=toml_text(url),
        trust_file=toml_text(trust_file.absolute()),
    ) + (_NIXOS if tree is None else _DIRECTORIES)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if tree is not None:
        (directory / STORE).mkdir(exist_ok=True)
    load_content(config, tomllib.loads(text), {}, read_agent_config)
    closure = None if tree is None else _first_closure(tree, directory)
    key = own_key(directory / KEY)
    _write_new(config, text)
    return PreparedAgent(config, key, closure)


def _first_closure(tree: Path, directory: Path) -> str:
    """Copy `tree` into the store, select it, and return its name."""
    store, profile = directory / STORE, directory / PROFILE
    with tempfile.TemporaryDirectory(prefix=".first-", dir=store) as beside:
        copy = Path(beside, "tree")
        shutil.copytree(tree, copy, symlinks=True)
        closure = checked_closure_name(copy, _name_of(tree))
        if not (store / closure).exists():
            copy.rename(store / closure)
    try:
        profile.symlink_to(store / closure)
    except FileExistsError:
        if not profile.is_symlink() or profile.readlink() != store / closure:
            raise AlreadyPrepared(profile) from None
    return closure


def _name_of(tree: Path) -> str:
    """Return the name of a tree without the hash that it has if it is a closure already."""
    name = tree.resolve().name
    try:
        return split_closure_name(name)[1]
    except InvalidClosureName:
        return name


def _write_new(file: Path, text: str) -> None:
    """Write `text` to `file`, atomically, and never over another file."""
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.") as beside:
        beside.write(text)
        beside.flush()
        os.fsync(beside.fileno())
        try:
            file.hardlink_to(beside.name)
        except FileExistsError:
            raise AlreadyPrepared(file) from None
