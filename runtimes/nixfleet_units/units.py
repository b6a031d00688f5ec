"""Renders the units of `units.toml`, which says what each service may do. No decisions, and no I/O but that file."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

from attrs import frozen

from nixfleet_proto.errors import NixfleetError

PREFIX: Final = "nixfleet-"
_PRIVATE: Final = {"StateDirectoryMode": "0700", "UMask": "0077"}
"""What is left for a service that is not confined: others cannot read its files."""
_ONLINE: Final = "network-online.target"
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
# Nothing that systemd reads in a way of its own: blanks, quotes, backslashes, `%` and `$`.
_PATH: Final = re.compile(r"/[A-Za-z0-9@._+:,/=-]+")


class UnusableInUnit(NixfleetError):
    """Values that a unit file cannot have. `problems`: a sentence for each, with what was expected and found."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


@frozen
class Credential:
    """A file that only root can read on the machine; the service finds it as `/run/credentials/UNIT/NAME`."""

    name: str
    file: str


@frozen
class UnitOptions:
    """Where the parts of a service are on the machine, and whether it is confined to what `units.toml` permits.

    config: `None` is the file that `units.toml` names.
    """

    program: str = "/usr/bin/nixfleet"
    config: str | None = None
    credentials: Sequence[Credential] = ()
    is_confined: bool = True


@frozen
class Unit:
    """A unit file: its name with the suffix, and its text, which ends with a newline."""

    name: str
    text: str


def unit_kinds() -> tuple[str, ...]:
    """Return the names of all services, in the order of `units.toml`."""
    return tuple(_tables()["unit"])


def unit_of(kind: str, options: UnitOptions | None = None) -> Unit:
    """Return the unit of a service, for one of `unit_kinds`. Raises: UnusableInUnit, with all that is wrong."""
    given = UnitOptions() if options is None else options
    tables = _tables()
    unit, rights = tables["unit"][kind], tables["rights"]
    limits = {**rights["each"], **rights[unit["may"]]} if given.is_confined else _PRIVATE
    config = unit["config"] if given.config is None else given.config
    problems = (
        *_problems_of_path("the program", given.program),
        *_problems_of_path("the configuration", config),
        *(it for credential in given.credentials for it in _problems_of_credential(credential)),
    )
    if problems:
        raise UnusableInUnit(*problems)
    lines = (
        "[Unit]",
        f"Description={unit['description']}",
        f"Wants={_ONLINE}",
        f"After={_ONLINE}",
        *_lines(unit.get("unit", {})),
        "",
        "[Service]",
        f"ExecStart={given.program} {unit['arguments']} {config}",
        *_lines(unit["service"]),
        *(f"LoadCredential={it.name}:{it.file}" for it in given.credentials),
        *_lines(limits),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    )
    return Unit(f"{PREFIX}{kind}.service", "\n".join(lines) + "\n")


def _tables() -> dict[str, Any]:
    file = resources.files("nixfleet_units").joinpath("units.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _lines(options: Mapping[str, str | list[str]]) -> Iterator[str]:
    for name, value in options.items():
        yield from (f"{name}={it}" for it in ([value] if isinstance(value, str) else value))


def _problems_of_path(what: str, path: str) -> Iterator[str]:
    if not _PATH.fullmatch(path):
        expected = "an absolute path of letters, digits and @._+:,=-"
        yield f"{what}: expected {expected}, found {path!r}"


def _problems_of_credential(credential: Credential) -> Iterator[str]:
    if not _CREDENTIAL_NAME.fullmatch(credential.name):
        expected = "letters, digits, '.', '_' and '-', not beginning with '.'"
        yield f"the name of a credential: expected {expected}, found {credential.name!r}"
    yield from _problems_of_path(f"the file of credential {credential.name!r}", credential.file)
