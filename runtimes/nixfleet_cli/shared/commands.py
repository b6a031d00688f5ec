"""Groups and commands of `nixfleet`: loaded when called, with errors escaped, misspellings and extras named.

Imported by every start of the command, so it imports click and nothing else that takes time.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from errno import ENAMETOOLONG
from importlib import import_module
from typing import Any, Final, NamedTuple

import click

from nixfleet_cli.shared.extras import missing_extra
from nixfleet_cli.shared.failures import Unusable
from nixfleet_cli.shared.terminal import fitted_error
from nixfleet_runtime.kernel.visible import visible

_JSON: Final = "--json"
HELP_OPTIONS: Final = {"help_option_names": ["-h", "--help"]}


class Command(click.Command):
    """A command that names the extra that it lacks, and everything that it was not given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line. Raises: UsageError, with all that is missing, or a near option."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            raise click.UsageError(_missing(self, ctx, given), ctx) from error
        except click.NoSuchOption as error:
            raise _with_guess(error, self, ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run it. Raises: Unusable, when a library of an extra is missing."""
        with _extras_named(ctx.command_path):
            return super().invoke(ctx)


class Group(click.Group):
    """A group that suggests what a misspelt command was meant to be."""

    command_class = Command
    group_class = type

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what is before the command. Raises: UsageError, with an option that is near."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise _with_guess(error, self, ctx) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` name. Raises: UsageError, with the nearest command if one is near."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            from nixfleet_runtime.documents.problems import closest

            meant = closest(args[0], known)
            suggestion = "" if meant is None else f" Did you mean {meant!r}?"
            ctx.fail(f"No such command {args[0]!r}.{suggestion}")
        return super().resolve_command(ctx, args)


class Lazy(NamedTuple):
    """A command of the root group: where it is, under which heading `--help` lists it, and with which words."""

    section: str
    place: str  # module:attribute
    help: str  # the first sentence of its own help; a test holds the two together


class Root(Group):
    """The group `nixfleet`: a command's module is imported when the command is called."""

    def __init__(self, commands: Mapping[str, Lazy], **settings: Any) -> None:
        super().__init__(**settings)
        self._lazy = commands
        self._is_json = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of `--help`."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, imported. Raises: Unusable, when a library of an extra is missing."""
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return None
        module, _, attribute = lazy.place.partition(":")
        with _extras_named(f"{ctx.command_path} {cmd_name}"):
            found = getattr(import_module(module), attribute)
        assert isinstance(found, click.Command), lazy.place
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands below their headings; no command is imported for it."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, lazy in self._lazy.items():
            sections.setdefault(lazy.section, []).append((name, lazy.help))
        width = max(map(len, self._lazy))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the arguments. Raises: ClickException, with its text escaped."""
        given = args[1] if len(args) > 1 else extra.get("args", ())
        self._is_json = _JSON in given
        with self._errors_shown({}):
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named. Raises: ClickException, with its text escaped."""
        with self._errors_shown(ctx.meta):
            return super().invoke(ctx)

    @contextmanager
    def _errors_shown(self, meta: Mapping[str, object]) -> Iterator[None]:
        """Escape errors, and print them as JSON too where that is asked for: also if no command was reached."""
        try:
            with _errors_escaped():
                yield
        except click.ClickException as error:
            if self._is_json:
                from nixfleet_cli.shared.output import print_error

                print_error(error, meta)
            raise


def walk(
    command: click.Command, context: click.Context
) -> Iterator[tuple[click.Context, click.Command]]:
    """Yield `command` and every command below it, each with its context."""
    yield context, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            if not child.hidden:
                yield from walk(child, click.Context(child, info_name=name, parent=context))


def _missing(command: click.Command, ctx: click.Context, args: list[str]) -> str:
    """Return the words for every required parameter that `args` and the environment do not have."""
    given, _, _ = command.make_parser(ctx).parse_args(args)
    hints = [
        f"{each.param_type_name} {each.get_error_hint(ctx)}"
        for each in command.get_params(ctx)
        if each.required and each.value_is_missing(each.consume_value(ctx, given)[0])
    ]
    return f"Missing {', '.join(hints)}."


def _with_guess(
    error: click.NoSuchOption, command: click.Command, ctx: click.Context
) -> click.NoSuchOption:
    """Return the error with the nearest option if one is near: click itself guesses further than that."""
    from nixfleet_runtime.documents.problems import closest

    known = [each for parameter in command.get_params(ctx) for each in parameter.opts]
    near = closest(error.option_name.lstrip("-"), [it[2:] for it in known if it.startswith("--")])
    guesses = [] if near is None else [f"--{near}"]
    better = click.NoSuchOption(error.option_name, ctx=ctx)
    vars(better)["possibilities"] = (
        guesses  # given to it, they would be filtered by another measure
    )
    return better


@contextmanager
def _extras_named(command: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        line = missing_extra(error, command)
        if line is None:
            raise
        raise Unusable(line) from error


@contextmanager
def _errors_escaped() -> Iterator[None]:
    """Escape what click says about the command line; our own failures escape themselves.

    A path that no file system can hold is what was typed, whichever question about it met that first.
    """
    try:
        yield
    except click.UsageError as error:
        lines = error.format_message().expandtabs().split("\n")
        text = fitted_error("\n".join(map(visible, lines)))
        raise click.UsageError(text, error.ctx) from error
    except OSError as error:
        if error.errno != ENAMETOOLONG:
            raise
        raise Unusable(
            f"expected a path, found {str(error.filename)!r:.80}: {error.strerror}"
        ) from error


def command(name: str | None = None) -> Callable[[Callable[..., None]], Command]:
    """Return the decorator that makes a function a command of its own."""
    return click.command(name, cls=Command)


def group(name: str | None = None) -> Callable[[Callable[..., None]], Group]:
    """Return the decorator that makes a function a group."""
    return click.group(name, cls=Group)
