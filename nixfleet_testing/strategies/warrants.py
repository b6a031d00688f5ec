"""Strategies for warrants: signed by nobody, for what takes one as it is."""

from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing.warrant import VerifiedWarrant
from nixfleet_proto.steering.warrant import ClosureRule, SignedWarrant, Warrant
from nixfleet_testing.strategies.names import hostnames, rollout_ids, times


def warrants() -> SearchStrategy[Warrant]:
    """Return a strategy for orders, which are good from an hour to a day."""
    hosts = st.lists(hostnames(), max_size=2, unique=True).map(tuple)
    orders = st.sampled_from(("order-1", "order-2"))
    lasts = st.integers(1, 24).map(lambda hours: timedelta(hours=hours))

    def made(
        order_id: str,
        rollout_id: RolloutId,
        at: datetime,
        good_for: timedelta,
        names: tuple[str, ...],
    ) -> Warrant:
        until = at + good_for
        return Warrant(
            order_id, rollout_id, ClosureRule.PRIOR, "alice", "it is bad", at, until, names
        )

    return st.builds(made, orders, rollout_ids(), times(), lasts, hosts)


def signed_warrants() -> SearchStrategy[SignedWarrant]:
    """Return a strategy for orders with a signature that nobody made."""
    return st.builds(SignedWarrant, warrants(), st.just("0" * 128))


def verified_warrants() -> SearchStrategy[VerifiedWarrant]:
    """Return a strategy for orders as if they had been verified."""
    return signed_warrants().map(lambda signed: VerifiedWarrant(signed.warrant, signed))
