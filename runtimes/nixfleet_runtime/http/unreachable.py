"""Says in words why a request got no response, and what to do about it: the names of the libraries' classes do not."""

import socket
import ssl
from collections.abc import Iterator

import httpx2


def why_no_response(
    error: httpx2.HTTPError, base_url: str, server: str = "the control plane"
) -> str:
    """Return what could not be reached, the cause, and what to do about it. server: who should answer at `base_url`."""
    cause, todo = _cause(error, server)
    match error:
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return f"cannot connect to {base_url}: {cause}; {todo}"
        case httpx2.RemoteProtocolError():
            return (
                f"{base_url} closed the connection without a whole HTTP answer: {error}; check that {server} "
                "listens there, and whether it is http:// or https://"
            )
        case httpx2.NetworkError():
            return f"the connection to {base_url} broke: {cause}; try again"
        case _:
            return f"no answer from {base_url}: {str(error) or type(error).__name__}; {todo}"


def _cause(error: BaseException, server: str) -> tuple[str, str]:
    """Return the operating system's or TLS's words for what failed, and what to do."""
    for each in _chain(error):
        match each:
            case ssl.SSLCertVerificationError():
                return (
                    f"its certificate is not valid here ({each.strerror})",
                    "check the name in the address and the CA certificate",
                )
            case ssl.SSLError():
                return (
                    f"it does not speak TLS ({each.strerror})",
                    "check whether it is http:// or https://",
                )
            case socket.gaierror():
                return f"its name cannot be resolved ({each.strerror})", "check the address"
            case ConnectionRefusedError():
                return (
                    "nothing listens there (connection refused)",
                    f"check that {server} runs, and the port",
                )
            case OSError(strerror=str() as words):
                return words, "check the address and the network"
            case _:
                pass
    return str(error) or "for an unknown reason", "check the address and the network"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the causes of `error`, the first one first."""
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        if isinstance(error, BaseExceptionGroup):
            causes += error.exceptions
        error = error.__cause__ or error.__context__
    return reversed(causes)
