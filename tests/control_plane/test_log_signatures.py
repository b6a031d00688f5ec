"""With the trust file alone, facts that no host said are found in a log, and hosts that no token let in."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from attrs import evolve, frozen

from nixfleet_control_plane.history.approvals import EarlierTrust
from nixfleet_control_plane.history.signatures import SignaturesReport, check_signatures
from nixfleet_control_plane.messages.log_entry import (
    ArtefactTaken,
    Entry,
    FactReported,
    FactsReported,
    HostEnrolled,
    LoggedEntry,
)
from nixfleet_proto.agent_event import ActivationStarted, AgentEvent, DispatchAck
from nixfleet_proto.codec import batch_payload, envelope_payload
from nixfleet_proto.enrollment import Revocation
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey, sign_payload
from nixfleet_proto.trust import Verified
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_runtime.releases.layout import FLEET_FILE, REVOCATIONS_FILE
from tests.engines.releases import START, Layout, Publisher, token_for

ROLLOUT = RolloutId("stable@r1")
KEY, NEXT_KEY, STRANGER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
MINUTE = timedelta(minutes=1)


@frozen
class Log:
    """A log that grows by a row a minute."""

    ci: Publisher
    rows: tuple[LoggedEntry, ...] = ()

    def then(self, *entries: Entry) -> "Log":
        """Return the log with these rows after it."""
        made = tuple(
            LoggedEntry(seq, START + seq * MINUTE, entry)
            for seq, entry in enumerate(entries, len(self.rows) + 1)
        )
        return evolve(self, rows=(*self.rows, *made))

    def checked(self, rows: Sequence[LoggedEntry] | None = None) -> SignaturesReport:
        """Return what is found in it."""
        return check_signatures(self.rows if rows is None else rows, self.ci.trust)

    def problems(self) -> list[str]:
        """Return what is wrong with it."""
        return [each.problem for each in self.checked().problems]


def _fact(seq: int) -> AgentEvent:
    return ActivationStarted(START, "directory", seq)


def _report(key: SigningKey | None, *seqs: int, host: str = "web-01") -> FactsReported:
    facts = tuple(map(_fact, seqs))
    envelopes = tuple(AgentEventEnvelope(host, ROLLOUT, fact) for fact in facts)
    payload = batch_payload(EventBatch(envelopes, None))
    signature = None if key is None else sign_payload(payload, key)
    return FactsReported(host, ROLLOUT, facts, FrozenMap(), payload.decode(), signature)


def _acknowledged(key: SigningKey, seq: int) -> FactsReported:
    fact = DispatchAck("before", START, seq)
    payload = envelope_payload(AgentEventEnvelope("web-01", ROLLOUT, fact))
    signature = sign_payload(payload, key)
    return FactsReported("web-01", ROLLOUT, (fact,), FrozenMap(), payload.decode(), signature)


def _gap() -> ArtefactTaken:
    """A row that says nothing of keys. With it a minute passes, after which no report is on its way."""
    return ArtefactTaken("rollouts/stable@r1.json", ROLLOUT, "{}", "", "current")


def _single(key: SigningKey, seq: int) -> FactsReported:
    payload = envelope_payload(AgentEventEnvelope("web-01", ROLLOUT, _fact(seq)))
    signature = sign_payload(payload, key)
    return FactsReported("web-01", ROLLOUT, (_fact(seq),), FrozenMap(), payload.decode(), signature)


def _taken(name: str, verified: Verified[object]) -> ArtefactTaken:
    body, signature = verified.artefact.decode(), verified.signature.hex()
    return ArtefactTaken(name, None, body, signature, verified.signed_by)


def _fleet(ci: Publisher, key: SigningKey | None, at: int = 0) -> ArtefactTaken:
    """Return a fleet that was signed `at` minutes after the start."""
    keys = () if key is None else (("web-01", key.public_key.public_key),)
    signed_at = START + at * MINUTE
    return _taken(FLEET_FILE, ci.fleet(Layout(pubkeys=keys).fleet("r1", signed_at), signed_at))


def _enrolled(ci: Publisher, key: SigningKey) -> HostEnrolled:
    request = ci.enrollment(token_for("web-01", key, START), key).request
    return HostEnrolled(request.public_key, request.token)


@pytest.fixture
def log() -> Log:
    """A log of a host that enrolled with a token."""
    ci = Publisher()
    return Log(ci).then(_fleet(ci, None), _enrolled(ci, KEY))


def test_what_a_host_signed_with_the_key_it_enrolled_is_proved(log: Log) -> None:
    """A batch and a single fact."""
    report = log.then(_report(KEY, 1, 2, 3), _single(KEY, 4)).checked()

    assert (report.proved, report.unsigned, report.problems) == (4, 0, ())


def test_what_a_host_signed_with_the_key_of_a_signed_fleet_is_proved() -> None:
    """It needs no enrollment."""
    ci = Publisher()

    report = Log(ci).then(_fleet(ci, KEY), _report(KEY, 1, 2)).checked()

    assert (report.proved, report.problems) == (2, ())


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (_report(STRANGER, 1), "signed by none of the trusted keys"),
        (_report(None, 1), "signature"),
        (evolve(_report(KEY, 1), payload=_report(KEY, 2).payload), "signed by none"),
        (_report(KEY, 1, host="web-02"), "never enrolled"),
    ],
)
def test_a_report_that_the_control_plane_made_up_is_found(
    entry: FactsReported, why: str, log: Log
) -> None:
    """It has no host's key, whatever it writes."""
    (problem,) = log.then(entry).problems()

    assert problem.startswith(f"the report of {entry.host} is not proved: ")
    assert why in problem


def test_a_host_that_the_control_plane_let_in_by_itself_is_found(log: Log) -> None:
    """Only the org root key signs tokens, and a token is for one key. What such a host says proves nothing."""
    ci = log.ci
    forged = _enrolled(Publisher(), STRANGER)
    stolen = HostEnrolled(STRANGER.public_key.public_key, _enrolled(ci, KEY).token)

    for entry in (forged, stolen):
        first, second = log.then(entry, _report(STRANGER, 1)).problems()
        assert first.startswith("the enrollment of web-01 is not proved")
        assert second.startswith("the report of web-01 is not proved")


def test_a_key_in_a_fleet_that_ci_did_not_sign_is_no_key(log: Log) -> None:
    """Nor does a list of revocations count that CI did not sign."""
    forger = Publisher()
    forged = _taken(REVOCATIONS_FILE, forger.revocations(START, Revocation("web-01", START)))

    grown = log.then(_fleet(forger, STRANGER), forged, _report(STRANGER, 1), _report(KEY, 1))

    assert [problem.partition(":")[0] for problem in grown.problems()] == [
        f"{FLEET_FILE} gives no host a key",
        f"{REVOCATIONS_FILE} gives no host a key",
        "the report of web-01 is not proved",
    ]
    assert grown.checked().proved == 1


def test_a_report_with_a_revoked_key_is_found(log: Log) -> None:
    """After CI revoked it, and until the host enrolls anew."""
    revoked = _taken(
        REVOCATIONS_FILE, log.ci.revocations(START, Revocation("web-01", START + 3 * MINUTE))
    )
    after = log.then(revoked, _report(KEY, 1), _enrolled(log.ci, NEXT_KEY), _report(NEXT_KEY, 1))

    (problem,) = after.problems()

    assert "revoked" in problem
    assert after.checked().proved == 1


def test_a_report_that_was_on_its_way_when_its_host_enrolled_anew_is_proved(log: Log) -> None:
    """For a minute the key before counts as well, and no longer."""
    grown = log.then(_enrolled(log.ci, NEXT_KEY), _report(KEY, 1), _report(KEY, 2))

    report = grown.checked()

    assert report.proved == 1
    assert [each.seq for each in report.problems] == [5]


def test_a_report_with_a_revoked_key_is_found_in_the_minute_after_the_host_enrolled_anew(
    log: Log,
) -> None:
    """A revoked key is stolen: nothing that it signed was on its way."""
    revoked = _taken(
        REVOCATIONS_FILE, log.ci.revocations(START, Revocation("web-01", START + 3 * MINUTE))
    )
    grown = log.then(revoked, _enrolled(log.ci, NEXT_KEY), _report(KEY, 1), _report(NEXT_KEY, 1))

    assert [each.seq for each in grown.checked().problems] == [5]


def test_a_report_with_a_key_that_a_fleet_took_back_is_found(log: Log) -> None:
    """Also in the minute after the host has another."""
    ci = Publisher()
    grown = Log(ci).then(
        _fleet(ci, KEY), _fleet(ci, None, at=1), _fleet(ci, NEXT_KEY, at=2), _report(KEY, 1)
    )

    assert [each.seq for each in grown.checked().problems] == [4]


def test_a_list_of_revocations_that_was_put_back_revokes_no_less(log: Log) -> None:
    """An older list, which CI signed, does not give a stolen key back to its host."""
    none_yet = _taken(REVOCATIONS_FILE, log.ci.revocations(START))
    revoked = _taken(
        REVOCATIONS_FILE,
        log.ci.revocations(START + MINUTE, Revocation("web-01", START + 3 * MINUTE)),
    )

    first, second = log.then(none_yet, revoked, none_yet, _report(KEY, 1)).problems()

    assert first.startswith(f"{REVOCATIONS_FILE} gives no host a key: expected a list signed at ")
    assert "revoked" in second


def test_a_fleet_that_was_put_back_gives_no_host_its_earlier_key() -> None:
    """The one that was signed last counts, as in the control plane."""
    ci = Publisher()
    grown = Log(ci).then(_fleet(ci, KEY), _fleet(ci, NEXT_KEY, at=1), _fleet(ci, KEY), _gap())

    assert grown.then(_report(NEXT_KEY, 1)).problems() == []
    (problem,) = grown.then(_report(KEY, 1)).problems()
    assert problem.startswith("the report of web-01 is not proved")


def test_a_report_that_is_stored_under_another_rollout_is_found(log: Log) -> None:
    """A host did not say of a release what it said of another: neither in a batch nor in a single fact."""
    for report in (_report(KEY, 1, 2), _single(KEY, 1)):
        (problem,) = log.then(evolve(report, rollout_id=RolloutId("stable@r2"))).problems()

        assert "expected facts about stable@r2, as the row says, found stable@r1" in problem


def test_a_report_that_stands_in_the_log_twice_is_proved_once(log: Log) -> None:
    """Whether its facts are the first ones or later ones, and in whichever batch they are repeated."""
    grown = log.then(_report(KEY, 1), _report(KEY, 2, 3), _report(KEY, 4))

    for again in (_report(KEY, 1), _report(KEY, 2, 3), _report(KEY, 3, 4), _single(KEY, 2)):
        report = grown.then(again).checked()
        assert report.proved == 4
        assert [each.seq for each in report.problems] == [6]


def test_facts_of_a_request_that_is_sent_again_are_proved_each_once(log: Log) -> None:
    """What was signed once may be decided in two requests, each a part."""
    whole = _report(KEY, 1, 2, 3)

    report = log.then(evolve(whole, facts=whole.facts[:1]), evolve(whole, facts=whole.facts[1:]))

    assert (report.checked().proved, report.problems()) == (3, [])


def test_a_host_that_lost_its_journal_may_begin_at_1_again(log: Log) -> None:
    """With other facts. What it signed before does not count again."""
    anew = _acknowledged(KEY, 1)
    grown = log.then(_report(KEY, 1), _report(KEY, 2, 3), anew)

    assert (grown.checked().proved, grown.problems()) == (4, [])
    assert len(grown.then(_report(KEY, 2, 3)).problems()) == 1


def test_facts_that_continue_a_report_are_proved_by_it(log: Log) -> None:
    """They were in what was signed; others were not."""
    whole = _report(KEY, 1, 2, 3)
    first = evolve(whole, facts=whole.facts[:1])
    rest = evolve(_report(None, 2, 3), continues=3)
    other = evolve(_report(None, 4), continues=3)

    good = log.then(first, rest).checked()
    bad = log.then(first, rest, other).checked()
    astray = log.then(first, evolve(rest, continues=2)).checked()

    assert (good.proved, good.problems) == (3, ())
    assert "does not have" in bad.problems[0].problem
    assert "is not the host's last report" in astray.problems[0].problem


def test_hosts_without_keys_and_rows_of_format_1_are_counted(log: Log) -> None:
    """Neither proves anything, and neither is wrong: a fleet in one process signs nothing."""
    ci = Publisher()
    earlier = FactReported("web-01", ROLLOUT, _fact(1), None)

    report = Log(ci).then(_fleet(ci, None), _report(None, 1, 2), earlier).checked()

    assert (report.proved, report.unsigned, report.earlier, report.problems) == (0, 2, 1, ())


def test_rows_are_checked_by_the_trust_file_of_their_time(log: Log) -> None:
    """A token of an org root key that was changed since is good for the rows of before."""
    grown, now = log.then(_report(KEY, 1)), Publisher().trust

    alone = check_signatures(grown.rows, now)
    both = check_signatures(grown.rows, now, [EarlierTrust(START + 60 * MINUTE, grown.ci.trust)])

    assert len(alone.problems) == 3
    assert (both.proved, both.problems) == (1, ())
