"""The namespace of an enum's members: the very ones, all of them, and no others."""

import pytest

from nixfleet_proto.agent_event import ProbeStatus
from nixfleet_proto.members import members
from nixfleet_state_machine.host.state import HostState


@pytest.mark.parametrize("state", HostState)
def test_each_member_is_found_by_its_name_and_is_the_enums_own(state: HostState) -> None:
    """A pattern, a comparison and an identity test decide as with the enum itself."""
    assert getattr(members(HostState), state.name) is state


def test_a_name_that_is_no_member_is_refused() -> None:
    """A misspelt member is an error, as it is on the enum."""
    with pytest.raises(AttributeError):
        _ = members(ProbeStatus).PASSED  # type: ignore[attr-defined]
