"""`nixfleet openapi`: the HTTP API as a document, for generators of clients and for docs/reference/openapi.json."""

import click

from nixfleet_cli.shared.commands import command


@command()
def openapi() -> None:
    """Print the OpenAPI document of the HTTP API.

    It is the document that a control plane itself serves: JSON.

    Exit codes: 0 success.
    """
    from nixfleet_control_plane.http.app import ALL_CALLS
    from nixfleet_control_plane.http.openapi import openapi_document

    click.echo(openapi_document(ALL_CALLS), nl=False)
