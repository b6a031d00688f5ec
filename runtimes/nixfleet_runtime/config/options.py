"""Reads a configuration from one TOML file and the environment, and reports all problems at once.

A side's `config.py` reads its options from a `Section`, one after another. An environment variable overrides the file,
and the file overrides the default. Keys and variables that were not read are unknown, and each is a problem. Secrets
are never options, only the paths of their files are: a value that looks like a secret is refused and not shown.

    NIXFLEET_HOSTNAME               hostname
    NIXFLEET_LISTEN__PORT           port in [listen]
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from attrs import evolve, frozen

from nixfleet_proto.errors import NixfleetError
from nixfleet_runtime.config.path_checks import PathCheck
from nixfleet_runtime.documents.problems import Problem, at, listed, problem_report, quoted
from nixfleet_runtime.documents.tables import INTEGER_MAX, Document, Table, read_toml

ConfigT = TypeVar("ConfigT")
ValueT = TypeVar("ValueT", bound="Value")
ChoiceT = TypeVar("ChoiceT", bound=StrEnum)
Value: TypeAlias = str | int | float | Path | tuple[str, ...] | None

PREFIX = "NIXFLEET_"
# The environment of a closure's switch script. A process that the script starts may inherit them.
SCRIPT_VARIABLES = frozenset({"NIXFLEET_CLOSURE", "NIXFLEET_CLOSURE_ROOT", "NIXFLEET_PROFILE"})
OPERATOR_PREFIX = "NIXFLEET_OPERATOR_"
"""The prefix of the variables of `nixfleet operator`, which may run on the control plane's machine."""
NOTIFY_PREFIX = "NIXFLEET_NOTIFY_"
"""The prefix of the variables of a notifier's programs, which may call `nixfleet`."""

_SECRET_KEY = re.compile(r"key|token|secret|passw|passphrase|credential|seed", re.IGNORECASE)
# PEM, JSON, hexadecimal or base64: the forms of keys and tokens.
_SECRET_TEXT = re.compile(
    r"-----BEGIN.*|\s*\{.*|.*\n.*|[0-9A-Fa-f]{32,}|[0-9A-Za-z+/_-]{32,}={1,2}", re.DOTALL
)


class ConfigError(NixfleetError):
    """The configuration cannot be used. problems: all of them, sorted by path."""

    def __init__(self, file: Path, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(set(problems)))
        super().__init__(file, self.problems)

    def __str__(self) -> str:
        return problem_report(str(self.file), self.problems)


class ValueSource(StrEnum):
    """The source of an option's value."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"


@frozen
class Option:
    """The effective value of one option. path: its path in the file, such as `listen.port`."""

    path: str
    value: Value
    source: ValueSource

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return variable_of(self.path)


@frozen
class Loaded(Generic[ConfigT]):
    """A configuration without problems, and its options in the order in which they were read."""

    config: ConfigT
    options: tuple[Option, ...]


def variable_of(path: str) -> str:
    """Return the environment variable that overrides the option at `path`."""
    return PREFIX + path.upper().replace(".", "__")


def load(
    file: Path, environ: Mapping[str, str], read: Callable[["Section"], ConfigT]
) -> Loaded[ConfigT]:
    """Return the result of `read` for the root section of `file`, with the environment's overrides.

    Raises: ConfigError.
    """
    content = read_toml(file)
    if isinstance(content, Problem):
        raise ConfigError(file, [content])
    return load_content(file, content, environ, read)


def load_content(
    file: Path,
    content: Mapping[str, object],
    environ: Mapping[str, str],
    read: Callable[["Section"], ConfigT],
) -> Loaded[ConfigT]:
    """As `load`, for a file that was parsed already. Raises: ConfigError."""
    reading = _Reading(file, content, environ)
    config = read(Section(reading, reading.document.root))
    problems = tuple(reading.problems())
    if problems:
        raise ConfigError(file, problems)
    return Loaded(config, tuple(reading.options))


class _Reading:
    """One configuration while it is read."""

    def __init__(
        self, file: Path, content: Mapping[str, object], environ: Mapping[str, str]
    ) -> None:
        self.document = Document(content)
        self.directory = file.absolute().parent
        self.options: list[Option] = []
        self.unchecked: list[str] = []
        self.variables = {
            name: text
            for name, text in environ.items()
            if name.startswith(PREFIX)
            and name not in SCRIPT_VARIABLES
            and not name.startswith((OPERATOR_PREFIX, NOTIFY_PREFIX))
        }

    def problems(self) -> Iterator[Problem]:
        """Yield all problems. Called once everything has been read."""
        overridden = {
            option.path: option.variable
            for option in self.options
            if option.variable in self.variables
        }
        for problem in self.document.problems:
            yield evolve(problem, path=overridden.get(problem.path, problem.path))
        for problem in self.document.unknown_keys():
            yield _without_secret(problem)
        known = {option.variable for option in self.options}
        for name in self.variables.keys() - known:
            if not name.startswith(tuple(self.unchecked)):
                yield _without_secret(_unknown_variable(name, known))


class Section:
    """One table of a configuration. Reading an option checks it and records its source."""

    def __init__(self, reading: _Reading, table: Table) -> None:
        self._reading = reading
        self._table = table

    @property
    def name(self) -> str:
        """Its path in the file, such as `transports.nats`; empty for the root."""
        return self._table.path

    def section(self, key: str) -> "Section":
        """Return the table under `key`, an empty one if there is none."""
        return Section(self._reading, self._table.section(key))

    def sections(self, key: str) -> "dict[str, Section]":
        """Return the tables in the table under `key`, by name."""
        tables = self._table.sections(key).items()
        return {name: Section(self._reading, table) for name, table in tables}

    def accept_unknown_keys(self) -> None:
        """Report no unknown keys in this section, because its known keys cannot be determined."""
        self._table.accept_unknown_keys()
        self._reading.unchecked.append(f"{variable_of(self._table.path)}__")

    def has(self, key: str) -> bool:
        """Return whether the option is present, usable or not."""
        return self._table.has(key)

    def require(self, key: str, expected: str) -> None:
        """Report a problem if the option is missing."""
        self._table.require(key, expected)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string that is not empty. Required without a default."""
        self._override(key, str)
        text = self._table.text(key) if default is None else self._table.optional_text(key)
        return self._kept(key, text or default or "")

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Return a list of strings, at least one, `None` if the option is not set."""
        self._override(key, tuple)
        if not self._table.has(key):
            return self._kept(key, None)
        texts = self._table.some_texts(key)
        for place, text in enumerate(texts):
            if "\0" in text:
                self.refuse(
                    key, "cannot be used", "texts without a NUL", f"one in item {place + 1}"
                )
        return self._kept(key, texts)

    def choice(self, key: str, default: ChoiceT) -> ChoiceT:
        """Return one of the values of `default`'s enumeration."""
        self._override(key, str)
        return self._kept(key, self._table.choice(key, default))

    def required_choice(self, key: str, choices: type[ChoiceT]) -> ChoiceT | None:
        """Return one of `choices`. Required; `None` if missing or unusable."""
        known = {choice.value: choice for choice in choices}
        expected = f"one of {listed(known)}"
        self._override(key, str)
        self._table.require(key, expected)
        text = self._kept(key, self._table.optional_text(key))
        if text is not None and text not in known:
            self.refuse(key, "unknown value", expected, quoted(text))
        return known.get(text or "")

    def flag(self, key: str) -> bool:
        """Return a boolean; the default is false."""
        self._override(key, bool)
        return self._kept(key, self._table.flag(key))

    def count(
        self, key: str, default: int, *, at_least: int = 1, at_most: int = INTEGER_MAX
    ) -> int:
        """Return an integer within the limits."""
        self._override(key, int)
        value = self._table.integer(key, default)
        if not at_least <= value <= at_most:
            self.refuse(key, "out of range", _range(at_least, at_most), str(value))
        return self._kept(key, value)

    def optional_count(self, key: str) -> int | None:
        """Return an integer above 0, `None` if the option is not set."""
        self._override(key, int)
        value = self._table.optional_integer(key)
        if value is not None and not 1 <= value <= INTEGER_MAX:
            self.refuse(key, "out of range", _range(1, INTEGER_MAX), str(value))
        return self._kept(key, value)

    def seconds(
        self, key: str, default: float, *, at_least: float = 0.0, at_most: float = INTEGER_MAX
    ) -> float:
        """Return a duration above 0, and not below `at_least`."""
        self._override(key, float)
        value = self._table.number(key, default)
        if not (value > 0 and at_least <= value <= at_most):
            least = f"at least {at_least:g}" if at_least else "more than 0"
            limit = "" if at_most == INTEGER_MAX else f", at most {at_most:g}"
            self.refuse(key, "out of range", f"{least}{limit}", f"{value:g}")
        return self._kept(key, value)

    def seconds_or_none(self, key: str, default: float, *, at_most: float | None = None) -> float:
        """Return a duration up to `at_most`, or 0 for what is to be never."""
        self._override(key, float)
        value = self._table.number(key, default)
        if value < 0:
            self.refuse(key, "out of range", "0, for none, or more", f"{value:g}")
        elif at_most is not None and value > at_most:
            self.refuse(key, "out of range", f"0, for none, or at most {at_most:g}", f"{value:g}")
        return self._kept(key, value)

    def path(self, key: str, check: PathCheck, default: Path | None = None) -> Path:
        """Return a path that passes `check`, relative to the file's directory. Required without a default."""
        path = self._path(key)
        if default is None:
            self._table.require(key, "a path")
        self._check(key, path or default, check)
        return self._kept(key, path or default or self._reading.directory)

    def optional_path(self, key: str, check: PathCheck) -> Path | None:
        """Return a path that passes `check`, `None` if the option is not set."""
        path = self._path(key)
        self._check(key, path, check)
        return self._kept(key, path)

    def refuse(self, key: str, message: str, expected: str, found: str) -> None:
        """Report that the value of `key` cannot be used."""
        self._table.refuse(key, message, expected, found)

    def _path(self, key: str) -> Path | None:
        self._override(key, str)
        text = self._table.optional_text(key)
        if text is None:
            return None
        if _SECRET_TEXT.fullmatch(text) or "\0" in text:
            self.refuse(key, "looks like the content of a file", "the path of a file", "no path")
            return None
        return self._reading.directory / text

    def _check(self, key: str, path: Path | None, check: PathCheck) -> None:
        problem = None if path is None else check(path)
        if problem is not None:
            self.refuse(key, problem.message, problem.expected, problem.found)

    def _override(self, key: str, kind: type) -> None:
        text = self._reading.variables.get(variable_of(at(self._table.path, key)))
        if text is not None:
            self._table.override(key, text if kind is str else _toml_value(text))

    def _kept(self, key: str, value: ValueT) -> ValueT:
        path = at(self._table.path, key)
        if variable_of(path) in self._reading.variables:
            source = ValueSource.ENVIRONMENT
        else:
            source = ValueSource.FILE if self._table.has(key) else ValueSource.DEFAULT
        self._reading.options.append(Option(path, value, source))
        return value


def _toml_value(text: str) -> object:
    """Return `text` parsed as a TOML value, or unchanged if it is none."""
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text


def _range(at_least: int, at_most: int) -> str:
    return f"{at_least} or more" if at_most == INTEGER_MAX else f"{at_least} to {at_most}"


def _unknown_variable(name: str, known: Iterable[str]) -> Problem:
    section = name.partition("__")[0] + "__"
    likely = sorted(variable for variable in known if variable.startswith(section)) or sorted(known)
    return Problem(name, "unknown variable", f"one of {', '.join(likely)}", quoted(name))


def _without_secret(problem: Problem) -> Problem:
    """Return the problem of an unknown name; if it names a secret, advise to use a file."""
    if not _SECRET_KEY.search(re.split(r"\.|__", problem.path)[-1]):
        return problem
    return evolve(
        problem,
        message="unknown, and secrets are not options",
        expected=f"the path of a file; {problem.expected}",
    )
