"""How commands end when something is not as it should be. Exit codes are part of what a command promises.

0: all is well. 1: what was looked at is not in order (`Findings`). 2: it could not be looked at
(`Unusable`), or the command line made no sense (click's own).
"""

import click


class Findings(click.ClickException):
    """What was asked for is not in order. The text says what was expected and what was found."""

    exit_code = 1


class Unusable(click.ClickException):
    """The command cannot do its work on what it was given. The text says why, and what would do."""

    exit_code = 2
