"""Tells systemd how far a process is, if systemd asked (`Type=notify`). Nothing happens anywhere else.

The protocol is one datagram to a socket that the environment names; a library for it would be longer than this.
Source: sd_notify(3).
"""

import os
import socket


def notify(state: str) -> None:
    """Say `state`, for example `READY=1`. That nobody listens any more is no error."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        try:
            notifications.sendto(state.encode(), address)
        except OSError:
            return
