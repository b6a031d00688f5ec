"""The option --exports, and what commands say of exported files."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from nixfleet_cli.shared.arguments import DIRECTORY
from nixfleet_cli.shared.failures import Findings, Unusable
from nixfleet_control_plane.history.retention.export_file import ExportRefused
from nixfleet_control_plane.history.retention.whole_log import RowsDropped

exports_option: Final = click.option(
    "--exports",
    metavar="DIR",
    type=DIRECTORY,
    help="The directory with the rows that `log export` wrote and dropped.",
)


@contextmanager
def refusing_exports(store: str) -> Iterator[None]:
    """Turn what is wrong with exported files into a failure. store: what messages call it.

    Raises: Findings, Unusable.
    """
    try:
        yield
    except ExportRefused as error:
        raise Findings(str(error)) from error
    except RowsDropped as error:
        raise Unusable(f"{store}: {error}") from error
