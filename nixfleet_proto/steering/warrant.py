"""Warrants: what an operator signs to have hosts move otherwise than their release says. Frozen data.

A control plane only relays a warrant; each host verifies it by itself.
Source: docs/spec/warrants.md, Warrants.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from attrs import frozen

from nixfleet_proto.checked import WordEnum, checked, not_empty
from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.ids import RolloutId

WARRANT_KIND: Final = "nixfleet-warrant"
"""In what is signed, so that no other statement of the same key can be taken for a warrant."""
LIFETIME_MAX: Final = timedelta(days=7)
"""How long a warrant may be good. Hosts that are off for longer need a new one."""
HOSTS_MAX: Final = 10_000
TEXT_LENGTH_MAX: Final = 512


class ClosureRule(WordEnum):
    """Where a warrant may move a host. The values are the wire's.

    PRIOR: back to what the host noted itself at the dispatch. TARGET: on to what CI signed for it in the rollout,
    though its own lock says not now. It is signed, so that an order of one rule can never be taken for the other.
    """

    PRIOR = "prior"
    TARGET = "target"


class RecallStep(WordEnum):
    """How far a host is with an order to go back; completes "the host …". The values are the wire's.

    WAITS: its turn has not come. TOLD: the order is in the answers to its heartbeats. REFUSES: so it says. GOING: it
    rolls back. BACK: it did. EXPIRED: the order was over before the host went. STAYS: it did not take the release, has
    nothing to go back to, or failed otherwise.
    """

    WAITS = "waits"
    TOLD = "told"
    REFUSES = "refuses"
    GOING = "going"
    BACK = "back"
    EXPIRED = "expired"
    STAYS = "stays"


@frozen
@checked
class Warrant:
    """An operator's order to hosts of one rollout.

    order_id: of this order alone; a host obeys it once. hosts: empty: all of the rollout. From `issued_at` to
    `expires_at` by the host's clock.
    """

    order_id: str
    rollout_id: RolloutId
    rule: ClosureRule
    operator: str
    reason: str
    issued_at: datetime
    expires_at: datetime
    hosts: tuple[str, ...] = ()
    kind: str = WARRANT_KIND

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from not_empty("order_id", self.order_id)
        yield from not_empty("operator", self.operator)
        yield from not_empty("reason", self.reason)
        if self.kind != WARRANT_KIND:
            yield ValueProblem("kind", repr(WARRANT_KIND), repr(self.kind))
        for name in ("order_id", "operator", "reason"):
            length = len(getattr(self, name))
            if length > TEXT_LENGTH_MAX:
                yield ValueProblem(name, f"at most {TEXT_LENGTH_MAX} characters", f"{length}")
        if not timedelta() < self.expires_at - self.issued_at <= LIFETIME_MAX:
            expected = f"after issued_at, by at most {LIFETIME_MAX.days} days"
            yield ValueProblem("expires_at", expected, self.expires_at.isoformat())
        if len(self.hosts) > HOSTS_MAX:
            yield ValueProblem("hosts", f"at most {HOSTS_MAX}", f"{len(self.hosts)}")

    @cached_property
    def names(self) -> frozenset[str]:
        """The hosts as a set; empty: all of the rollout."""
        return frozenset(self.hosts)

    def is_for(self, hostname: str) -> bool:
        """Return whether the order is for the host, if the rollout has it. O(1)."""
        return not self.hosts or hostname in self.names


@frozen
@checked
class SignedWarrant:
    """A warrant and the operator's signature over its canonical JSON, in hex."""

    warrant: Warrant
    signature: str
