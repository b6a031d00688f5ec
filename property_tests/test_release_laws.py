"""What holds for every good declaration however it was written down, and for every mistake in one.

Fleets are drawn together with what they must come to: the drawing decides who is in which wave, and
writes a policy that says so. A declaration is a list of statements, each a key and a value, for that
is what can be written in any order and in any file.
"""

import json
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from nixfleet_proto.agent_event import ProbeMode
from nixfleet_proto.codec import decode_fleet, decode_manifest
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.health_check import ExecProbe
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import SigningKey
from nixfleet_release import (
    CheckedFleet,
    DeclarationError,
    Fleet,
    Release,
    Wave,
    check,
    import_fleet,
    load_release,
    on_channel,
    on_host,
    on_tag,
    rest,
    save_release,
    sign_release,
    wave,
)
from nixfleet_release.check.validate import validate
from nixfleet_release.written.selectors import read_selector
from nixfleet_release.written.toml_reader import parse
from nixfleet_runtime.documents.tables import Document
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.scopes.merge import FLEET, Scope
from nixfleet_state_machine.scopes.selector import matches, select

T = TypeVar("T")
Key: TypeAlias = tuple[str, ...]
Statement: TypeAlias = tuple[Key, object]

KEY = SigningKey.generate()
SIGNED_AT = datetime(2026, 5, 16, 1, tzinfo=UTC)
TAGS = ["db", "eu", "web"]
ARRAYS = ("budgets", "edges", "channel_edges")


@frozen
class Drawn:
    """A good declaration, and what it says: closures by host, and the hosts of each channel's waves."""

    statements: list[Statement]
    closures: Mapping[str, str]
    waves: Mapping[str, list[list[str]]]


# --- drawing fleets ------------------------------------------------------------------------------


@st.composite
def fleets(draw: st.DrawFn) -> Drawn:
    """Fleets of one or two channels, with up to four hosts each."""
    channels = draw(st.sampled_from([["stable"], ["edge", "stable"]]))
    tags_of = {
        f"{channel}-{index}": draw(st.lists(st.sampled_from(TAGS), unique=True))
        for channel in channels
        for index in range(draw(st.integers(1, 4)))
    }
    waves = {
        channel: draw(partitions([host for host in tags_of if host.startswith(channel)]))
        for channel in channels
    }
    tags = sorted({tag for tags in tags_of.values() for tag in tags})
    statements: list[Statement] = [
        *((("hosts", host, "channel"), host.partition("-")[0]) for host in tags_of),
        *((("hosts", host, "tags"), tags) for host, tags in tags_of.items()),
        *((("channels", it, "policy"), f"of-{it}") for it in channels),
        *((("policies", f"of-{it}", "waves"), draw(wave_tables(waves[it]))) for it in channels),
        *((("edges",), [edge]) for it in channels for edge in draw(edges(waves[it]))),
        *((("budgets",), [budget]) for budget in draw(budgets(channels, tags))),
        *(draw(health_checks([*scopes("channels", channels), *scopes("hosts", tags_of)], tags))),
        *(draw(compliance(channels, tags_of))),
    ]
    closures = {host: draw(st.sampled_from(["aaa-system", "bbb-system"])) for host in tags_of}
    return Drawn(statements, closures, waves)


@st.composite
def partitions(draw: st.DrawFn, hosts: list[str]) -> list[list[str]]:
    """Every host in one wave, no wave empty, at most three."""
    wave_of = [draw(st.integers(0, 2)) for _ in hosts]
    waves = [[host for host, at in zip(hosts, wave_of, strict=True) if at == n] for n in range(3)]
    return [wave for wave in waves if wave]


@st.composite
def wave_tables(draw: st.DrawFn, waves: list[list[str]]) -> list[dict[str, object]]:
    """A policy's way to say `waves`: by name, one of them perhaps as the rest; or nothing at all."""
    if len(waves) == 1 and draw(st.booleans()):
        return []
    rest = draw(st.none() | st.integers(0, len(waves) - 1))
    return [
        {
            "soak_minutes": draw(st.integers(0, 9)),
            **({"rest": True} if at == rest else {"selector": draw(one_of_many(hosts, waves))}),
        }
        for at, hosts in enumerate(waves)
    ]


def one_of_many(hosts: list[str], waves: list[list[str]]) -> st.SearchStrategy[object]:
    """The ways to say that a wave of one channel has these hosts."""
    others = [host for wave in waves for host in wave if host not in hosts]
    but_others: dict[str, object] = {"and": [{"all": True}, {"not": {"hosts": others}}]}
    ways: list[object] = [{"hosts": hosts}, f"hosts:{','.join(hosts)}"]
    return st.sampled_from([*ways, but_others, f"!hosts:{','.join(others)}"] if others else ways)


@st.composite
def edges(draw: st.DrawFn, waves: list[list[str]]) -> list[dict[str, object]]:
    """Edges along the waves, and within a wave along the names: so without a circle."""
    ordered = [host for wave in waves for host in sorted(wave)]
    pairs: list[dict[str, object]] = [
        {"gates": a, "gated": b} for at, a in enumerate(ordered) for b in ordered[at + 1 :]
    ]
    return draw(some_of(pairs))


@st.composite
def budgets(draw: st.DrawFn, channels: list[str], tags: list[str]) -> list[dict[str, object]]:
    """Budgets with selectors that differ and mean somebody."""
    selectors: list[dict[str, object]] = [{"all": True}]
    selectors += [{"channel": channel} for channel in channels]
    selectors += [{"tags": [tag]} for tag in tags]
    selectors += (
        [{"tags_any": tags}] if len(tags) > 1 else []
    )  # of one tag, it says what `tags` does
    return [
        {"selector": selector, **draw(st.sampled_from(LIMITS))}
        for selector in draw(some_of(selectors))
    ]


@st.composite
def health_checks(draw: st.DrawFn, places: list[Key], tags: list[str]) -> list[Statement]:
    """Two names, each in some scopes, among them at most one tag: so without rivals."""
    statements: list[Statement] = []
    for name in ("ok", "up"):
        tag_scopes = draw(some_of(scopes("tags", tags)))[:1]
        for place in [*draw(some_of([(), *places])), *tag_scopes]:
            command = ["check", "-".join(place)]
            statements.append(
                ((*place, "health_checks", name), {"kind": "exec", "command": command})
            )
    return statements


LIMITS: list[dict[str, object]] = [
    {"max_in_flight": 1},
    {"max_in_flight_pct": 50},
    {"max_in_flight": 2, "max_in_flight_pct": 100},
]


@st.composite
def compliance(draw: st.DrawFn, channels: list[str], hosts: Iterable[str]) -> list[Statement]:
    """A framework on one channel, refined on some of its hosts; pins of channels and hosts."""
    (channel, *_) = draw(st.permutations(channels))
    refined = draw(some_of([host for host in hosts if host.startswith(channel)]))
    places = [*scopes("channels", channels), *scopes("hosts", hosts)]
    return [
        (("channels", channel, "compliance", "nis2", "evidence_path"), "/run/nis2.json"),
        *((("hosts", it, "compliance", "nis2", "mode"), "observe") for it in refined),
        *(((*place, "pin", "commit"), "-".join(place)) for place in draw(some_of(places))),
    ]


def scopes(table: str, names: Iterable[str]) -> list[Key]:
    return [(table, name) for name in names]


def some_of(items: list[T]) -> st.SearchStrategy[list[T]]:
    """Some of `items`, each at most once, in any order."""
    chosen = st.lists(st.booleans(), min_size=len(items), max_size=len(items))
    return chosen.map(lambda keep: list(compress(items, keep)))


# --- writing them down ---------------------------------------------------------------------------


def written(statements: Iterable[Statement]) -> str:
    """The statements as TOML: one line each, but one for all that is said of an array at the top."""
    lines = [f"{dotted(key)} = {toml(value)}" for key, value in statements if key[0] not in ARRAYS]
    for array in ARRAYS:
        items = [item for key, value in statements if key == (array,) for item in as_list(value)]
        lines += [f"{array} = {toml(items)}"] if items else []
    return "\n".join(lines)


def dotted(key: Key) -> str:
    return ".".join(map(json.dumps, key))


def toml(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key} = {toml(it)}" for key, it in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case _:
            return json.dumps(value)


def as_list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


@st.composite
def rewritten(draw: st.DrawFn, statements: list[Statement]) -> list[str]:
    """The same statements in another order, in up to three files, with the sets in them shuffled."""
    files: list[list[Statement]] = [[], [], []]
    for key, value in draw(st.permutations(statements)):
        files[draw(st.integers(0, 2))].append((key, draw(shuffled(value))))
    return [written(file) for file in files]


@st.composite
def shuffled(draw: st.DrawFn, value: object) -> object:
    """`value` with its sets in another order: of strings, as tags are, but not commands or waves."""
    match value:
        case dict() if "command" not in value:
            return {
                key: draw(shuffled(it)) for key, it in draw(st.permutations(list(value.items())))
            }
        case list() if value and all(isinstance(it, str) for it in value):
            again = draw(st.lists(st.sampled_from(value), max_size=1))
            return draw(st.permutations([*value, *again]))
        case list():
            return [draw(shuffled(it)) for it in value]
        case _:
            return value


def checked_of(*texts: str) -> CheckedFleet:
    with tempfile.TemporaryDirectory() as directory:
        for number, text in enumerate(texts):
            Path(directory, f"{number}.toml").write_text(text, encoding="utf-8")
        return check(Path(directory))


def signed(drawn: Drawn, checked: CheckedFleet | None = None) -> Release:
    return sign_release(
        checked or checked_of(written(drawn.statements)),
        drawn.closures,
        channel_ref="a1b2",
        signed_at=SIGNED_AT,
        key=KEY,
    )


def released(drawn: Drawn) -> tuple[FleetResolved, list[RolloutManifest]]:
    release = signed(drawn)
    manifests = [decode_manifest(it.body) for it in release.manifests.values()]
    return decode_fleet(release.fleet.body), manifests


def built(drawn: Drawn) -> Fleet:
    """The statements as calls; those of one table are one call."""
    fleet, tables = Fleet(), dict[Key, dict[str, Any]]()
    for key, value in drawn.statements:
        if key[0] in ARRAYS:
            for item in as_list(value):
                fleet = call(fleet, key, as_dict(item))
        else:
            end = table_length(key)
            said = {key[end]: value} if end < len(key) else as_dict(value)
            tables.setdefault(key[:end], {}).update(said)
    for key, table in tables.items():
        fleet = call(fleet, key, table)
    return fleet


def table_length(key: Key) -> int:
    """How many keys lead to the table that one call says."""
    for setting, own in (("health_checks", 2), ("compliance", 2), ("pin", 1)):
        if setting in key:
            return key.index(setting) + own
    return 2


def call(fleet: Fleet, key: Key, table: dict[str, Any]) -> Fleet:
    match key:
        case ("hosts", name):
            return fleet.host(name, **table)
        case ("channels", name):
            return fleet.channel(name, **table)
        case ("policies", name):
            return fleet.policy(name, *map(wave_call, table["waves"]))
        case ("budgets",):
            selector = read_selector(Document({"it": table.pop("selector")}).root, "it")
            return fleet.budget(selector.expression, **table)
        case ("edges",):
            return fleet.edge(**table)
        case (*scope, "health_checks", name):
            return fleet.health_check(name, ExecProbe(tuple(table["command"])), on=on(scope))
        case ("channels", channel, "compliance", name):
            return fleet.framework(name, channel=channel, **table)
        case (*scope, "compliance", name):
            return fleet.compliance(name, on=on(scope), mode=ProbeMode(table["mode"]))
        case (*scope, "pin"):
            return fleet.pin(table["commit"], on=on(scope))
        case _:
            raise AssertionError(key)


def wave_call(table: dict[str, Any]) -> Wave:
    if "rest" in table:
        return rest(soak_minutes=table["soak_minutes"])
    selector = read_selector(Document(table).root, "selector")
    return wave(selector.expression, soak_minutes=table["soak_minutes"])


def on(scope: list[str]) -> Scope:
    match scope:
        case ["tags", name]:
            return on_tag(name)
        case ["channels", name]:
            return on_channel(name)
        case ["hosts", name]:
            return on_host(name)
        case _:
            return FLEET


def as_dict(value: object) -> dict[str, Any]:
    assert isinstance(value, dict)
    return dict(value)


# --- laws ----------------------------------------------------------------------------------------


@given(fleets(), st.data())
def test_the_order_in_which_a_fleet_is_written_does_not_matter(
    drawn: Drawn, data: st.DataObject
) -> None:
    """Statements in any order and file, sets in any order: the same checks and signed bytes."""
    one = checked_of(written(drawn.statements))
    other = checked_of(*data.draw(rewritten(drawn.statements)))

    assert one.health_checks == other.health_checks
    assert one.pins == other.pins
    assert one.warnings == other.warnings
    assert signed(drawn, one) == signed(drawn, other)


@given(fleets())
def test_a_fleet_built_in_python_is_that_of_its_toml(drawn: Drawn) -> None:
    """Calls and statements that say the same come to the same checks and signed bytes."""
    one, other = checked_of(written(drawn.statements)), built(drawn).check()

    assert one.health_checks == other.health_checks
    assert one.pins == other.pins
    assert one.warnings == other.warnings
    assert signed(drawn, one) == signed(drawn, other)


@given(fleets())
def test_a_resolved_fleet_is_imported_as_it_was_signed(drawn: Drawn) -> None:
    """What is resolved here is in order for whoever imports it, to the byte."""
    body = signed(drawn).fleet.body
    imported = import_fleet(body)

    assert imported.canonical == body
    assert imported.unknown_fields == ()
    assert imported.fleet == decode_fleet(body)


@given(fleets())
def test_the_waves_of_a_manifest_partition_its_hosts(drawn: Drawn) -> None:
    """Every host of a channel is in one wave, the one that was declared, and no wave is empty."""
    fleet, manifests = released(drawn)

    assert {manifest.channel for manifest in manifests} == set(drawn.waves)
    for manifest in manifests:
        waves = drawn.waves[manifest.channel]
        terms = RolloutTerms.of_values(manifest, fleet)
        assert terms.wave_of == {host: at for at, wave in enumerate(waves) for host in wave}
        assert terms.wave_of == {it.hostname: it.wave_index for it in manifest.host_set}
        assert len(manifest.wave_soak_minutes) == len(waves)


@given(fleets())
def test_every_host_gets_the_closure_that_was_given_for_it(drawn: Drawn) -> None:
    """The manifests together name every host once, each with its closure."""
    _, manifests = released(drawn)

    assigned = [assignment for manifest in manifests for assignment in manifest.host_set]
    assert {it.hostname: it.target_closure for it in assigned} == drawn.closures
    assert len(assigned) == len(drawn.closures)


@given(fleets())
def test_the_hosts_of_a_manifest_are_sorted(drawn: Drawn) -> None:
    """Two tools that project the same fleet write the hosts in the same order."""
    for manifest in released(drawn)[1]:
        names = [assignment.hostname for assignment in manifest.host_set]
        assert names == sorted(names)


@given(fleets())
def test_a_budget_has_exactly_the_members_that_its_selector_means(drawn: Drawn) -> None:
    """Members are those of the whole fleet, and a budget is wherever a member is."""
    fleet, manifests = released(drawn)

    members = {
        budget.selector: tuple(
            sorted(n for n, host in fleet.hosts.items() if matches(budget.selector, n, host))
        )
        for budget in fleet.disruption_budgets
    }
    for manifest in manifests:
        hosts = {assignment.hostname for assignment in manifest.host_set}
        assert {it.selector: it.hosts for it in manifest.disruption_budgets} == {
            selector: names for selector, names in members.items() if hosts & set(names)
        }


@given(fleets())
def test_a_resolved_policy_selects_the_waves_that_were_resolved(drawn: Drawn) -> None:
    """What the selectors of a policy mean on its channel is what the waves name, the rest too."""
    fleet, _ = released(drawn)

    for channel, waves in fleet.waves.items():
        policy = fleet.rollout_policies[fleet.channels[channel].rollout_policy]
        for declared, resolved in zip(policy.waves, waves, strict=bool(policy.waves)):
            hosts = {n: host for n, host in fleet.hosts.items() if host.channel == channel}
            assert select(declared.selector, hosts) == resolved.hosts


# Few examples: each waits for the disk, file by file.
@settings(max_examples=20)
@given(fleets())
def test_a_release_is_read_back_as_it_was_saved(drawn: Drawn) -> None:
    """Every artefact and signature survives the directory, byte for byte."""
    release = signed(drawn)
    with tempfile.TemporaryDirectory() as directory:
        save_release(release, Path(directory, "out"))

        assert load_release(Path(directory, "out")) == release


@given(fleets(), st.data())
def test_a_planted_mistake_is_found_and_it_alone(drawn: Drawn, data: st.DataObject) -> None:
    """In a good declaration, one key that nobody knows is one problem, at its place."""
    key, _ = data.draw(st.sampled_from([it for it in drawn.statements if len(it[0]) == 3]))
    planted = (*key[:2], "unheard-of")
    text = written([*drawn.statements, (planted, 1)])

    with pytest.raises(DeclarationError) as caught:
        checked_of(text)

    assert [(it.path, it.message) for it in caught.value.problems] == [
        (".".join(planted), "unknown key")
    ]


@given(fleets(), st.data())
def test_closures_for_other_hosts_than_the_declared_are_refused(
    drawn: Drawn, data: st.DataObject
) -> None:
    """A host without a closure and a closure without a host are both told."""
    host = data.draw(st.sampled_from(sorted(drawn.closures)))
    closures = {name: closure for name, closure in drawn.closures.items() if name != host}

    with pytest.raises(DeclarationError) as caught:
        signed(evolve(drawn, closures={**closures, "stranger": "ccc-system"}))

    assert [it.path for it in caught.value.problems] == [f"closures.{host}", "closures.stranger"]


KNOWN_KEYS = [
    *("fleet", "hosts", "channels", "policies", "tags", "health_checks", *ARRAYS),
    *("stable", "channel", "policy", "waves", "selector", "rest", "all", "tags_any"),
    *("kind", "url", "port", "command", "mode", "gates", "gated", "max_in_flight"),
]
odd_values = st.recursive(
    st.sampled_from([0, -1, 2**40, 1.5, True, "", "stable", "http", "a b"]),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.sampled_from(KNOWN_KEYS), inside, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(KNOWN_KEYS), odd_values))
def test_no_document_is_too_odd_to_be_judged(document: dict[str, object]) -> None:
    """Whatever stands where, it comes to problems with places, and never to another error."""
    parsed = parse(document)
    problems = validate(parsed.declaration, parsed.unusable)

    assert all(it.path for it in (*parsed.problems, *problems))


@given(fleets(), odd_values, st.data())
def test_an_odd_value_in_a_good_declaration_is_found_or_harmless(
    drawn: Drawn, odd: object, data: st.DataObject
) -> None:
    """With any value in the place of another, a fleet is refused with its problems or still good."""
    at = data.draw(st.integers(0, len(drawn.statements) - 1))
    statements = list(drawn.statements)
    key, _ = statements[at]
    statements[at] = (key, [odd] if key[0] in ARRAYS else odd)

    with suppress(DeclarationError):
        signed(evolve(drawn, statements=statements))
