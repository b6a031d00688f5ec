"""`nixfleet openapi`: what a control plane can be asked, for generators of clients and for docs/openapi.json."""

import click


@click.command()
def openapi() -> None:
    """Print the OpenAPI document of the control plane's HTTP surface, the one that it serves itself.

    Exit codes: 0 printed.
    """
    # Nobody else who runs the command needs the server.
    from nixfleet_control_plane.http.app import ALL_CALLS
    from nixfleet_control_plane.http.openapi import openapi_document

    click.echo(openapi_document(ALL_CALLS), nl=False)
