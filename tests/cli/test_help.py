"""What `nixfleet --help` and every command's help show, and how much of the program it takes to show it."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import nixfleet_cli
from nixfleet_cli.main import COMMANDS, main
from nixfleet_cli.shared.commands import Command, Group, walk
from nixfleet_cli.shared.reference import reference

WIDTH = 80
SECTIONS = ["See", "Declare", "Release", "Run", "Operate", "Keys and trust", "Test"]
# What a start may load: the command's table, and what parses a command line.
LIGHT = {
    "nixfleet_cli",
    "nixfleet_cli.__main__",
    "nixfleet_cli.main",
    "nixfleet_cli.shared",
    "nixfleet_cli.shared.commands",
    "nixfleet_cli.shared.extras",
    "nixfleet_cli.shared.failures",
    "nixfleet_cli.shared.terminal",
    "nixfleet_runtime",
    "nixfleet_runtime.kernel",
    "nixfleet_runtime.kernel.visible",
}
LIBRARIES = {"click"}


def _every_command() -> dict[str, tuple[click.Context, click.Command]]:
    found = walk(main, click.Context(main, info_name="nixfleet"))
    return {context.command_path: (context, command) for context, command in found}


EVERY = _every_command()
EACH = pytest.mark.parametrize("path", EVERY)


def _help_of(path: str) -> str:
    shown = CliRunner().invoke(
        main, [*path.split()[1:], "--help"], prog_name="nixfleet", terminal_width=WIDTH
    )
    assert shown.exit_code == 0, shown.output
    return shown.stdout


FORMATS = {
    "nixfleet_agent",
    "nixfleet_agent.journal",
    "nixfleet_agent.journal.journal_format",
    "nixfleet_control_plane",
    "nixfleet_proto",
    "nixfleet_proto.lazy",
    "nixfleet_state_machine",
    "nixfleet_control_plane.store",
    "nixfleet_control_plane.store.database_format",
    "nixfleet_runtime.storage",
    "nixfleet_runtime.storage.file_format",
}
"""What `--version` reads besides."""


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_load_the_table_of_commands_and_no_command(argument: str) -> None:
    """A start that runs nothing imports click and six small modules of ours."""
    code = (
        "import json, sys\n"
        "from nixfleet_cli.__main__ import run\n"
        f"sys.argv = ['nixfleet', {argument!r}]\n"
        "before = set(sys.modules)\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded: list[str] = json.loads(done.stderr)
    ours = {name for name in loaded if name.startswith("nixfleet")}
    libraries = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)

    assert ours - {"nixfleet", "nixfleet._version"} <= LIGHT | (
        FORMATS if argument == "--version" else set()
    )
    assert {name for name in libraries if not name.startswith(("nixfleet", "__"))} <= LIBRARIES | {
        "attr",
        "attrs",
    }


def test_commands_are_listed_below_seven_headings() -> None:
    """The list is in the order of a fleet's life, not of the alphabet."""
    headings = [line[:-1] for line in _help_of("nixfleet").splitlines() if line.endswith(":")]
    assert headings == ["Options", *SECTIONS]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_has_the_first_sentence_of_each_commands_own_help(name: str) -> None:
    """The table that is shown without importing a command says what the command says."""
    _, command = EVERY[f"nixfleet {name}"]
    own = command.get_short_help_str(limit=WIDTH).removesuffix(
        "."
    )  # some releases of click keep it
    assert f"{own}." == COMMANDS[name].help


@EACH
def test_no_line_of_help_is_cut_or_wider_than_80_columns(path: str) -> None:
    """Short help ends with its sentence, and no line wraps a second time in the terminal."""
    lines = _help_of(path).splitlines()
    assert [line for line in lines if line.endswith("...") and "]..." not in line] == []
    assert [line for line in lines if len(line) > WIDTH] == []


@EACH
def test_every_command_says_what_it_does_and_how_it_ends(path: str) -> None:
    """A command has a first sentence, and its exit codes; so does every option, except a hidden one, its words."""
    context, command = EVERY[path]
    assert isinstance(command, Command | Group)
    text = command.help or ""
    assert text.partition("\n")[0].endswith(".")
    assert isinstance(command, Group) or "Exit codes: 0 " in text or path.startswith("nixfleet op")
    for option in command.get_params(context):
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help, f"{path} {option.opts}"
        elif isinstance(option, click.Argument):
            named = (option.metavar or option.name or "").strip("[]…").upper()
            assert named in text or path.startswith("nixfleet conf"), f"{path} {named}"


def test_the_reference_has_every_command_with_every_option() -> None:
    """The page is made from the command, so nothing is missing on it."""
    page = reference()
    for path, (context, command) in EVERY.items():
        assert f"## `{path}`\n" in page
        for option in command.get_params(context):
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[0] in page


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["statsu"], "Did you mean 'status'?"),
        (["log", "shwo"], "Did you mean 'show'?"),
        (["log", "show", "--rolout", "x", "db"], "--rollout"),
    ],
)
def test_a_misspelt_command_or_option_is_answered_with_the_one_that_was_meant(
    arguments: list[str], meant: str
) -> None:
    """Exit code 2, and a guess."""
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert meant in refused.stderr


def test_a_word_that_is_near_no_command_gets_no_guess() -> None:
    """A wrong guess is worse than none."""
    refused = CliRunner().invoke(main, ["deploy"])
    assert refused.exit_code == 2
    assert "Did you mean" not in refused.stderr


# What writes bytes that are not for people: tokens, canonical JSON, documents, secrets.
WRITES_BYTES = {
    "commands/control_plane.py",
    "commands/fleet.py",
    "commands/machines/units.py",
    "commands/openapi.py",
    "commands/token.py",
}


def _prints(file: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"print", "click.echo", "click.secho", "console.print"}:
                yield node.lineno


def test_nothing_prints_except_the_one_printer() -> None:
    """Text reaches a terminal through `shared/output.py`, which escapes it; bytes for machines are listed."""
    root = Path(nixfleet_cli.__file__).parent
    found = {str(file.relative_to(root)): list(_prints(file)) for file in root.rglob("*.py")}
    printing = {name for name, lines in found.items() if lines}
    assert printing == {"shared/output.py", "main.py"} | WRITES_BYTES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("agent", "init"),
            "Missing argument 'DIRECTORY', option '--control-plane', option '--trust'.",
        ),
        (
            ("operator", "hosts"),
            "Missing option '--url' (env var: 'NIXFLEET_OPERATOR_URL'), "
            "option '--key' (env var: 'NIXFLEET_OPERATOR_KEY').",
        ),
        (("trust", "make"), "Missing argument 'FILE', option '--ci'."),
        (("trust", "make", "--ci", "0" * 64), "Missing argument 'FILE'."),
    ],
    ids=str,
)
def test_everything_that_is_missing_is_named_at_once(arguments: tuple[str, ...], said: str) -> None:
    """Whoever gives too little learns all of it from one answer."""
    done = CliRunner().invoke(main, arguments, prog_name="nixfleet")
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        (("release", "make", "--sighn-with", "x"), "--sign-with"),
        (("status", "--jsn", "x.db"), "--json"),
        (("agent", "run", "--kernel", "x"), None),
        (("log", "show", "--halt", "x"), None),
    ],
    ids=str,
)
def test_a_misspelt_option_gets_a_guess_only_when_one_is_near(
    arguments: tuple[str, ...], guess: str | None
) -> None:
    """Options are compared as commands are: an option with other letters is another option."""
    done = CliRunner().invoke(main, arguments, prog_name="nixfleet")
    assert done.exit_code == 2
    assert ("Did you mean" in done.stderr) is (guess is not None)
    assert guess is None or f"Did you mean {guess!r}?" in done.stderr
