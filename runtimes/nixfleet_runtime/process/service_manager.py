"""Notifies systemd of the process's state (`Type=notify`). Does nothing under other service managers.

The protocol is one datagram to a socket that the environment names, so a library would not be shorter than this.
Source: sd_notify(3).
"""

import os
import socket


def notify(state: str) -> None:
    """Send `state`, for example `READY=1`. Delivery errors are ignored, because systemd may have stopped listening."""
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
