"""`python -m nixfleet_cli.shared.reference`: the reference of every command as Markdown, from the command itself.

Pure apart from `__main__`: the page is derived from what `--help` shows, so the two cannot differ.
"""

import inspect
from collections.abc import Iterator

import click

from nixfleet_cli.main import COMMANDS, main
from nixfleet_cli.shared.commands import Root, walk
from nixfleet_cli.shared.output import show_lines


def reference() -> str:
    """Return the page: a heading a command, with its usage, description, arguments, options and exit codes."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    context = click.Context(main, info_name="nixfleet", **main.context_settings)
    yield from ("# Commands", "", "Every command has `-h` and `--help`.", "")
    yield from _index()
    for each, command in walk(main, context):
        yield from _command(each, command)


def _index() -> Iterator[str]:
    section = None
    for name, lazy in COMMANDS.items():
        if lazy.section != section:
            section = lazy.section
            yield from ("", f"**{section}**", "")
        yield f"- [`nixfleet {name}`](#nixfleet-{name}): {lazy.help}"
    yield ""


def _command(context: click.Context, command: click.Command) -> Iterator[str]:
    yield from (f"## `{context.command_path}`", "")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield from ("```", usage, "```", "")
    yield from (_escaped(inspect.cleandoc(command.help or "")), "")
    if isinstance(command, click.Group) and not isinstance(command, Root):
        yield from ("| command | |", "| --- | --- |")
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield f"| `{name}` | {_cell(child.get_short_help_str(limit=200))} |"
        yield ""
    records = [
        record
        for each in command.get_params(context)
        if "--help" not in each.opts  # every command has it, in the spelling of its last caller
        if (record := each.get_help_record(context)) is not None
    ]
    if records:
        yield from ("| option | |", "| --- | --- |")
        for option, text in records:
            yield f"| `{option}` | {_cell(text)} |"
        yield ""


def _escaped(text: str) -> str:
    """Keep what Markdown would read as an HTML tag or as emphasis as it is."""
    return text.replace("<", "&lt;").replace("*", "\\*")


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split())).replace("|", "\\|")


if __name__ == "__main__":
    show_lines(reference().rstrip("\n").split("\n"))
