"""Where a webhook may go: to named hosts, and to addresses of the public network unless a host is named as private.

The name is resolved here, once for each attempt, and the connection goes to an address that was judged: a name that
leads somewhere else a moment later leads nowhere.
Source: docs/spec/notifications.md, Egress.
"""

import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

import anyio
from attrs import frozen

from nixfleet_proto.errors import NixfleetError

Address: TypeAlias = IPv4Address | IPv6Address
Resolve: TypeAlias = Callable[[str, int], Awaitable[tuple[str, ...]]]
"""Returns the addresses of a host. Raises: OSError."""

_NAT64: Final = IPv6Address("64:ff9b::")


class EgressRefused(NixfleetError):
    """A host may not be called. Attributes: `host`, `expected`, `found`."""

    def __init__(self, host: str, expected: str, found: str) -> None:
        super().__init__(host, expected, found)
        self.host = host
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"{self.host}: expected {self.expected}, found {self.found}"


@frozen
class EgressRules:
    """`[egress]`. hosts: that may be called. private_hosts: of those, the ones that may have private addresses."""

    hosts: tuple[str, ...] = ()
    private_hosts: tuple[str, ...] = ()

    def permits(self, host: str) -> bool:
        """Return whether `host` may be called at all."""
        return _is_among(host, (*self.hosts, *self.private_hosts))

    def require(self, host: str, address: str) -> None:
        """Return if `host` may be called at `address`. Raises: EgressRefused."""
        if not self.permits(host):
            raise EgressRefused(host, "one of egress.hosts", "another host")
        found = _inner(ip_address(address.partition("%")[0]))
        if not _is_among(host, self.private_hosts):
            if not found.is_global or found.is_multicast:
                expected = "a public address, or its name in egress.private_hosts"
                raise EgressRefused(host, expected, str(found))
        elif host != address and (
            # The metadata service of clouds has such an address: no name may lead there.
            found.is_link_local or found.is_multicast or found.is_unspecified
        ):
            raise EgressRefused(host, "an address of a host", str(found))


async def resolved(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses of `host`, the preferred one first. Raises: OSError."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does: what it leads to is judged."""
    if isinstance(address, IPv4Address):
        return address
    mapped = address.ipv4_mapped or address.sixtofour
    if mapped is not None:
        return mapped
    if address.packed[:12] == _NAT64.packed[:12]:
        return IPv4Address(address.packed[12:])
    return address


def _is_among(host: str, names: tuple[str, ...]) -> bool:
    return host.lower() in {name.lower() for name in names}
