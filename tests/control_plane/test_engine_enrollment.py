"""The engine lets hosts in: who may, what is kept of it, and what a repetition is answered."""

import pytest

from nixfleet_control_plane.messages.inputs import (
    EnrollOutcome,
    ExplainHost,
    Explanation,
    ListsUpdated,
    UseKeys,
)
from nixfleet_control_plane.messages.key_ring import (
    EnrolledHost,
    NonceNotListed,
    NonceUsed,
    TokenRefused,
    WrongFingerprint,
)
from nixfleet_control_plane.messages.log_entry import ArtefactRefused, ArtefactTaken, HostEnrolled
from nixfleet_proto.enrollment import BootstrapToken, Revocation
from nixfleet_proto.signing import SigningKey, TokenExpired
from nixfleet_runtime.http.signing.key_id import host_key_id
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import START, token_for

KEY, OTHER_KEY = SigningKey.generate(), SigningKey.generate()
WEB_01 = EnrolledHost("web-01", KEY.public_key, START)


def _listed(control_plane: ScriptedControlPlane, nonce: str = "n-1") -> BootstrapToken:
    """Return a token for web-01 and KEY, whose nonce is on the list."""
    token = token_for("web-01", KEY, control_plane.now, nonce)
    control_plane.publish_lists(tokens=(token,))
    return token


def test_a_host_with_a_good_token_is_known_from_then_on(
    control_plane: ScriptedControlPlane,
) -> None:
    """The enrollment is in the log with its token, and who authenticates is told of the key."""
    token = _listed(control_plane)
    assert control_plane.enroll(token, KEY) == WEB_01

    (entry,) = control_plane.logged(HostEnrolled)
    assert (entry.public_key, entry.token.token) == (KEY.public_key.public_key, token)
    (*_, told) = [action for action in control_plane.actions if isinstance(action, UseKeys)]
    assert told.ring.key_of(host_key_id("web-01")) == KEY.public_key


def test_the_same_enrollment_again_is_answered_as_before(
    control_plane: ScriptedControlPlane,
) -> None:
    """A host whose answer was lost is not locked out by the nonce it used itself, also after a restart."""
    token = _listed(control_plane)
    control_plane.enroll(token, KEY)
    control_plane.wait(minutes=61)
    assert control_plane.enroll(token, KEY) == WEB_01
    control_plane.restart_control_plane()

    assert control_plane.enroll(token, KEY) == WEB_01
    assert len(control_plane.logged(HostEnrolled)) == 1


def test_two_copies_of_an_enrollment_in_one_batch_are_one(
    control_plane: ScriptedControlPlane,
) -> None:
    """The second copy finds what the first one did, though nothing is durable yet."""
    wish = control_plane.ci.enrollment(_listed(control_plane), KEY)
    assert control_plane.ask(wish, wish) == (EnrollOutcome(WEB_01), EnrollOutcome(WEB_01))
    assert len(control_plane.logged(HostEnrolled)) == 1


def test_an_enrollment_that_was_not_written_did_not_happen(
    control_plane: ScriptedControlPlane,
) -> None:
    """What a failed write takes back can be asked for again."""
    wish = control_plane.ci.enrollment(_listed(control_plane), KEY)
    control_plane.engine.handle(wish, control_plane.now)
    control_plane.engine.roll_back()

    assert control_plane.state.identities.ring.key_of(host_key_id("web-01")) is None
    assert control_plane.ask(wish) == (EnrollOutcome(WEB_01),)


def test_a_used_nonce_lets_nobody_else_in(control_plane: ScriptedControlPlane) -> None:
    """Another token with the same nonce, made out to another key, is refused, also after a restart."""
    _listed(control_plane)
    control_plane.enroll(token_for("web-01", KEY, START), KEY)
    stolen = token_for("web-01", OTHER_KEY, START)
    assert isinstance(control_plane.enroll(stolen, OTHER_KEY), NonceUsed)
    control_plane.restart_control_plane()

    assert isinstance(control_plane.enroll(stolen, OTHER_KEY), NonceUsed)


def test_a_revoked_enrollment_is_not_repeated(control_plane: ScriptedControlPlane) -> None:
    """After a revocation the used token is as good as none; a new one lets the host in again."""
    token = _listed(control_plane)
    control_plane.enroll(token, KEY)
    control_plane.wait(minutes=1)
    again = token_for("web-01", OTHER_KEY, control_plane.now, "n-2")
    control_plane.publish_lists(
        revoked=(Revocation("web-01", control_plane.now),), tokens=(token, again)
    )

    assert isinstance(control_plane.enroll(token, KEY), NonceUsed)
    assert isinstance(control_plane.enroll(again, OTHER_KEY), EnrolledHost)
    ring = control_plane.state.identities.ring
    assert ring.key_of(host_key_id("web-01")) == OTHER_KEY.public_key


def test_an_objection_changes_nothing(control_plane: ScriptedControlPlane) -> None:
    """Whoever may not enroll is told why, and neither the log nor the ring has anything of it."""
    token = token_for("web-01", KEY, START)
    assert isinstance(control_plane.enroll(token, KEY), NonceNotListed)
    _listed(control_plane)
    rows = len(control_plane.log())
    assert isinstance(control_plane.enroll(token, OTHER_KEY), WrongFingerprint)
    control_plane.wait(minutes=61)
    late = control_plane.enroll(token, KEY)

    assert isinstance(late, TokenRefused)
    assert isinstance(late.reason, TokenExpired)
    assert len(control_plane.log()) == rows
    assert control_plane.state.identities.ring.enrolled == {}


def test_a_nonce_is_forgotten_once_it_could_not_be_used_again(
    control_plane: ScriptedControlPlane,
) -> None:
    """The first enrollment after its time forgets it; the views still are what the log says."""
    control_plane.enroll(_listed(control_plane, "n-1"), KEY)
    control_plane.wait(minutes=60)
    control_plane.enroll(_listed(control_plane, "n-2"), KEY)

    assert list(control_plane.state.identities.used_nonces) == ["n-2"]
    assert control_plane.check_store().differences == ()


def test_a_restart_knows_who_is_who(control_plane: ScriptedControlPlane) -> None:
    """Enrolled hosts, revocations, nonces and declared keys are those of before."""
    token = _listed(control_plane)
    control_plane.publish("r1")
    control_plane.enroll(token, KEY)
    control_plane.publish_lists(revoked=(Revocation("web-02", START),), tokens=(token,))
    before = control_plane.state.identities
    control_plane.restart_control_plane()

    after = control_plane.state.identities
    assert after is not before
    assert (after.ring, after.nonces.get()) == (before.ring, before.nonces.get())
    assert dict(after.used_nonces) == dict(before.used_nonces)


def test_an_older_list_does_not_replace_a_newer_one(control_plane: ScriptedControlPlane) -> None:
    """A list that was signed before the one in force is refused and logged: it would take a revocation back."""
    older = ListsUpdated(control_plane.ci.revocations(START))
    control_plane.wait(minutes=1)
    control_plane.publish_lists(revoked=(Revocation("web-01", START),))
    control_plane.ask(older)

    (refused,) = control_plane.logged(ArtefactRefused)
    assert refused.name == "revocations.json"
    assert "as the one in force, or later; found" in refused.reason
    assert "web-01" in control_plane.state.identities.ring.revoked


def test_a_list_that_is_in_force_is_not_logged_again(control_plane: ScriptedControlPlane) -> None:
    """The very same list a second time is no news."""
    for _ in range(2):
        control_plane.publish_lists(revoked=(Revocation("web-01", START),))
    assert [entry.name for entry in control_plane.logged(ArtefactTaken)] == [
        "revocations.json",
        "bootstrap-nonces.json",
    ]


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_nothing_is_planned_for_a_revoked_host_until_it_enrolls_anew(
    control_plane: ScriptedControlPlane, restarts: bool
) -> None:
    """Its queued dispatch is withdrawn, and what holds it is explained; an operator cannot lift that."""
    token = _listed(control_plane)
    control_plane.enroll(token, KEY)
    first = control_plane.publish("r1")
    assert control_plane.dispatch_of("web-01") is not None
    control_plane.wait(minutes=1)
    again = token_for("web-01", OTHER_KEY, control_plane.now, "n-2")
    control_plane.publish_lists(
        revoked=(Revocation("web-01", control_plane.now),), tokens=(token, again)
    )
    if restarts:
        control_plane.restart_control_plane()
    assert control_plane.dispatch_of("web-01") is None
    control_plane.pause("host:web-01")
    control_plane.resume("host:web-01")
    assert control_plane.dispatch_of("web-01") is None
    explanation = control_plane.ask_for(Explanation, ExplainHost("web-01"))
    (block,) = explanation.blocks[first]
    assert "its key was revoked: enroll it anew" in block.reason
    assert control_plane.check_store().differences == ()

    control_plane.enroll(again, OTHER_KEY)
    assert control_plane.dispatch_of("web-01") is not None
    assert control_plane.check_store().differences == ()


def test_a_revocation_that_is_taken_back_lets_the_host_go(
    control_plane: ScriptedControlPlane,
) -> None:
    """A newer list without the host."""
    control_plane.publish_lists(revoked=(Revocation("web-01", START),))
    control_plane.publish("r1")
    assert control_plane.dispatch_of("web-01") is None
    control_plane.wait(minutes=1)
    control_plane.publish_lists()
    assert control_plane.dispatch_of("web-01") is not None
