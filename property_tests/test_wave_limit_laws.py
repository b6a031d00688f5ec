"""What holds for the waves of any policy with limits, under any ref.

Laws: a host is in at most one wave, and with a rest in exactly one; a wave takes as many as its limit says, never none
while hosts are left; one ref gives one result; refs rotate who is first; what a check foresees covers what a ref gives.
"""

from collections.abc import Mapping

from hypothesis import assume, given
from hypothesis import strategies as st

from nixfleet_proto.fleet import FleetHost
from nixfleet_release import (
    PolicyDeclaration,
    SelectorDeclaration,
    WaveDeclaration,
    WaveLimit,
    WaveOrder,
)
from nixfleet_release.check.staging import possible_waves, stage
from nixfleet_state_machine.scopes.expression import EVERYBODY, Expression, meant, tags

TAGS = ("db", "eu", "web")
REFS = st.text("abcdef0123456789", min_size=1, max_size=8)
SELECTORS: list[Expression] = [EVERYBODY, *(tags(tag) for tag in TAGS)]


@st.composite
def channels(draw: st.DrawFn) -> Mapping[str, FleetHost]:
    """The hosts of one channel, up to twelve."""
    drawn = draw(st.lists(st.lists(st.sampled_from(TAGS), unique=True), min_size=1, max_size=12))
    return {f"host-{at:02}": FleetHost("stable", tuple(each)) for at, each in enumerate(drawn)}


LIMITS = st.one_of(
    st.builds(WaveLimit, st.integers(1, 6)),
    st.builds(WaveLimit, st.integers(1, 100), is_pct=st.just(True)),
)
WAVES = st.builds(
    WaveDeclaration,
    st.sampled_from(SELECTORS).map(SelectorDeclaration.of),
    limit=st.none() | LIMITS,
    order=st.sampled_from(WaveOrder),
)


@st.composite
def policies(draw: st.DrawFn) -> PolicyDeclaration:
    """Policies with at least one limit, and perhaps a rest."""
    waves = draw(st.lists(WAVES, min_size=1, max_size=4))
    if draw(st.booleans()):
        waves.insert(draw(st.integers(0, len(waves))), WaveDeclaration(None))
    policy = PolicyDeclaration(waves=tuple(waves))
    assume(policy.has_limits)
    return policy


@given(policies(), channels(), REFS)
def test_a_host_is_in_at_most_one_wave_and_the_rest_is_complete(
    policy: PolicyDeclaration, hosts: Mapping[str, FleetHost], ref: str
) -> None:
    """Waves share no host, and with a rest, declared or implied, they have all hosts."""
    waves = stage(policy, hosts, ref)
    named = [name for wave in waves for name in wave]

    assert len(named) == len(set(named))
    if any(wave.is_rest for wave in policy.all_waves):
        assert set(named) == set(hosts)


@given(policies(), channels(), REFS)
def test_a_wave_takes_as_many_as_its_limit_and_at_least_one(
    policy: PolicyDeclaration, hosts: Mapping[str, FleetHost], ref: str
) -> None:
    """Of those that are left, a wave takes exactly its limit, or all of them if they are fewer."""
    taken = set[str]()
    for wave, names in zip(policy.all_waves, stage(policy, hosts, ref), strict=True):
        if wave.selector is None:
            continue
        selected = meant(wave.selector.expression, hosts)
        left = set(selected) - taken
        assert set(names) <= left
        if wave.limit is None:
            assert set(names) == left
        else:
            assert len(names) == min(len(left), wave.limit.of(len(selected)))
            assert names or not left
        taken.update(names)


@given(policies(), channels(), REFS)
def test_one_ref_gives_one_result_whatever_the_order_of_the_hosts(
    policy: PolicyDeclaration, hosts: Mapping[str, FleetHost], ref: str
) -> None:
    """The waves of a ref are the same on every machine that computes them."""
    backwards = dict(reversed(list(hosts.items())))

    assert stage(policy, hosts, ref) == stage(policy, backwards, ref)


@given(st.integers(2, 40), st.integers(0, 1_000))
def test_over_refs_the_canaries_rotate(count: int, release: int) -> None:
    """Of a hundred releases in a row, some begin elsewhere; sorted by name, none does."""
    hosts = {f"host-{at:02}": FleetHost("stable") for at in range(count)}

    def canaries(order: WaveOrder) -> set[tuple[str, ...]]:
        everybody = SelectorDeclaration.of(EVERYBODY)
        canary = WaveDeclaration(everybody, limit=WaveLimit(1), order=order)
        policy = PolicyDeclaration(waves=(canary,))
        refs = (f"r{number}" for number in range(release, release + 100))
        return {stage(policy, hosts, ref)[0] for ref in refs}

    assert len(canaries(WaveOrder.ROTATE)) > 1
    assert canaries(WaveOrder.NAME) == {("host-00",)}


@given(policies(), channels(), REFS)
def test_what_is_foreseen_covers_what_a_ref_gives(
    policy: PolicyDeclaration, hosts: Mapping[str, FleetHost], ref: str
) -> None:
    """A host is in a wave in which it was said that it may be; one that is in none was foreseen to be."""
    foreseen = possible_waves(policy, hosts)
    staged = stage(policy, hosts, ref)
    for name in hosts:
        places = [index for index, wave in enumerate(staged) if name in wave]
        assert set(places) <= set(foreseen[name]) or not foreseen[name]
        assert places or not foreseen[name]
