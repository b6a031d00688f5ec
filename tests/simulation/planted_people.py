"""Bugs planted in what people see: the counts of an overview, and the messages of a notifier.

As in `planted`: each is a function that plants one; its sentence says what goes wrong.
"""

from collections.abc import Mapping
from typing import Any, Final

import pytest
from attrs import evolve

from nixfleet_control_plane.overview import tallies
from nixfleet_notify.delivery.engine import HookEngine
from nixfleet_simulation.nodes import notifier
from nixfleet_state_machine.planner.index.rollout_view import RolloutBook
from nixfleet_state_machine.rollout.state import Standing
from tests.simulation.planted import Plant


def counts_a_host_that_fails_twice(patch: pytest.MonkeyPatch) -> None:
    """A host that moves on stays in the count of the state that it was in, if that was a failure."""
    regroup = RolloutBook.regroup

    def hoarding(self: Any, hostname: str, before: Any, after: Any) -> None:
        stays = before.state is not None and before.state.value == "Failed"
        regroup(self, hostname, before._replace(state=None) if stays else before, after)

    patch.setattr(RolloutBook, "regroup", hoarding)


def shows_excused_hosts_as_counted(patch: pytest.MonkeyPatch) -> None:
    """A host that an operator excused is shown by its state."""
    grouped = tallies._grouped

    def kind(groups: Any) -> Any:
        return grouped(
            [
                (group._replace(standing=Standing.COUNTED), count)
                if group.standing is Standing.EXCUSED
                else (group, count)
                for group, count in groups
            ]
        )

    patch.setattr(tallies, "_grouped", kind)


def settles_rows_when_it_begins(patch: pytest.MonkeyPatch) -> None:
    """The cursor moves before the answer, and what is under way is forgotten in a crash."""
    save = notifier.Notifier._save

    def forgetful(self: Any, order: Any) -> None:
        sending = order.state.sending
        if sending is not None and sending.settles is not None:
            order = evolve(order, state=evolve(order.state, cursor=sending.settles, sending=None))
        save(self, order)

    patch.setattr(notifier.Notifier, "_save", forgetful)


def buries_without_a_letter(patch: pytest.MonkeyPatch) -> None:
    """A message that is given up is settled, and no dead letter is kept."""
    keep = HookEngine._keep

    def careless(self: Any, state: Any, *, dead: Any = None, buried: Any = None) -> None:
        keep(self, state, buried=buried)

    patch.setattr(HookEngine, "_keep", careless)


def leaves_out_the_row_after_a_full_message(patch: pytest.MonkeyPatch) -> None:
    """The line that ends a message is in no other one."""
    read = HookEngine.read

    def skipping(self: Any, page: Any, now: Any) -> None:
        was_closed = self._is_group_closed
        read(self, page, now)
        if self._is_group_closed and not was_closed:
            self._position += 1

    patch.setattr(HookEngine, "read", skipping)


PLANTED_FOR_PEOPLE: Final[Mapping[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        counts_a_host_that_fails_twice,
        shows_excused_hosts_as_counted,
        settles_rows_when_it_begins,
        buries_without_a_letter,
        leaves_out_the_row_after_a_full_message,
    )
}

FOUND_BY_FOR_PEOPLE: Final[Mapping[str, int]] = {
    "counts_a_host_that_fails_twice": 2,
    "shows_excused_hosts_as_counted": 4,
    "settles_rows_when_it_begins": 1,
    "buries_without_a_letter": 1,
    "leaves_out_the_row_after_a_full_message": 1,
}
"""As `planted.FOUND_BY`."""
