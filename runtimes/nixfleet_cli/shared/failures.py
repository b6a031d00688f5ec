"""How commands end when something is wrong. Exit codes are part of what a command promises.

0: success. 1: what was examined is invalid, or the request was refused (`Findings`). 2: usage error, or a file or
service cannot be used (`Unusable`, and click's own errors). Texts are escaped here: a line end in data is no line.
"""

import click

from nixfleet_cli.shared.terminal import fitted_error
from nixfleet_runtime.kernel.visible import visible


class Failure(click.ClickException):
    """An error of several lines. lines: as given, all of them; `message` is what is shown.

    shown_max: how many lines people are shown, with the number of the others; JSON has all.
    """

    def __init__(self, *lines: str, shown_max: int | None = None) -> None:
        self.lines = lines
        shown = [*map(visible, lines[:shown_max])]
        if len(lines) > len(shown):
            shown.append(f"and {len(lines) - len(shown)} more; --json has all")
        super().__init__("\n".join(shown))

    def format_message(self) -> str:
        """Return the text for people, in lines that their terminal has room for."""
        return fitted_error(self.message)


class Findings(Failure):
    """What was examined is invalid, or was refused. The text says what was expected and what was found."""

    exit_code = 1


class Unusable(Failure):
    """The command cannot work with what it was given. The text says why, and what to do."""

    exit_code = 2


def lines_of(error: BaseException, subject: object = "") -> tuple[str, ...]:
    """Return the text of an error as lines: a heading and each of its `problems`, where it lists them so.

    subject: what the error is about; the first line begins with it. The lines are not escaped yet.
    """
    text, prefix = str(error), f"{subject}: " if subject else ""
    problems = tuple(f"  {each}" for each in getattr(error, "problems", ()))
    listed = "".join(f"\n{each}" for each in problems)
    if not problems or not text.endswith(listed):
        return (prefix + text,)
    return (prefix + text.removesuffix(listed), *problems)
