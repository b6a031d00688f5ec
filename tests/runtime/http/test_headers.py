"""The protocol's version in a header."""

import pytest

from nixfleet_runtime.http.headers import require_protocol
from nixfleet_runtime.http.signing.refusal import UnsupportedProtocol


@pytest.mark.parametrize("version", [None, "1", "1.0", "1.7", "1.2.3"])
def test_a_request_of_the_same_major_version_is_let_in(version: str | None) -> None:
    """Minor versions only add, and no header means version 1."""
    require_protocol(version)


@pytest.mark.parametrize(
    "version", ["", "0", "2", "10", "01", "2.1", "1.", "1.x", "one", "1, 2", "\u0661"]
)
def test_a_request_of_another_version_is_refused_with_426(version: str) -> None:
    """Another major version, or none that can be read, is told what is expected here."""
    with pytest.raises(UnsupportedProtocol) as refusal:
        require_protocol(version)

    problem = refusal.value.as_problem()
    assert problem.status == 426
    assert problem.type == "urn:nixfleet:problem:unsupported-protocol"
    assert problem.detail == (
        f"expected protocol version 1 in X-Nixfleet-Protocol, found {version!r}: update the older side"
    )
