"""The engine takes what CI signed, or says why it does not fit; what does not fit moves nobody."""

from datetime import timedelta

import pytest
from attrs import evolve

from nixfleet_control_plane.messages.inputs import (
    ArtefactRejected,
    Done,
    ManifestAnswer,
    ManifestPoll,
    ManifestsOutcome,
    ManifestsUpdated,
)
from nixfleet_control_plane.messages.log_entry import (
    ArtefactRefused,
    ArtefactTaken,
    Planned,
    RolloutMoved,
)
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.acceptance import NEW_REF
from nixfleet_state_machine.planner.action import OpenRollout
from nixfleet_state_machine.rollout.event import SuccessorOpened
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import START, Layout
from tests.engines.scripted_host import ScriptedHost

BIGGER = Layout(waves=(("web-01",), ("web-02", "web-03", "web-04")))


def test_a_first_release_opens_its_rollout_with_a_record_for_each_host(
    control_plane: ScriptedControlPlane,
) -> None:
    """A manifest for a rollout without a record opens it, and every host that it names waits in it."""
    rollout_id = control_plane.publish("r1")

    assert set(control_plane.states(rollout_id)) == {"web-01", "web-02", "web-03"}
    opened = OpenRollout(rollout_id, "stable", "r1")
    assert control_plane.logged(Planned)[0].action == opened


def test_a_release_is_logged_with_its_bytes_and_signatures(
    control_plane: ScriptedControlPlane,
) -> None:
    """The log holds fleet and manifest as they were signed, the fleet first."""
    release = control_plane.ci.release(control_plane.layout, "r1", START)
    control_plane.offer(release)

    (manifest,) = release.manifests
    assert [(entry.body, entry.signature) for entry in control_plane.logged(ArtefactTaken)] == [
        (release.fleet.artefact.decode(), release.fleet.signature.hex()),
        (manifest.artefact.decode(), manifest.signature.hex()),
    ]


def test_a_manifest_is_handed_out_byte_for_byte(control_plane: ScriptedControlPlane) -> None:
    """Hosts fetch a manifest exactly as it was signed."""
    rollout_id = control_plane.publish("r1")
    (manifest,) = control_plane.released[rollout_id].manifests

    assert control_plane.ask_for(ManifestAnswer, ManifestPoll(rollout_id)) == ManifestAnswer(
        SignedArtefact(manifest.artefact, manifest.signature)
    )


def test_a_manifest_is_handed_to_the_hosts_that_it_names_alone(
    control_plane: ScriptedControlPlane,
) -> None:
    """To any other host there is none, as for a rollout that is not known."""
    rollout_id = control_plane.publish("r1")

    named, other = (
        control_plane.ask_for(ManifestAnswer, ManifestPoll(rollout_id, hostname))
        for hostname in ("web-02", "web-99")
    )
    assert named.artefact is not None
    assert other == ManifestAnswer(None)


@pytest.mark.parametrize("rollout_id", ["stable@r9", "no rollout id"])
def test_a_manifest_of_an_unknown_or_malformed_rollout_is_not_there(
    control_plane: ScriptedControlPlane, rollout_id: str
) -> None:
    """Who asks for the manifest of a rollout that is not known is told that there is none."""
    control_plane.publish("r1")

    assert control_plane.ask_for(ManifestAnswer, ManifestPoll(rollout_id)) == ManifestAnswer(None)


def test_the_same_manifest_again_writes_nothing(control_plane: ScriptedControlPlane) -> None:
    """A release that is in force already is taken without a row."""
    release = control_plane.ci.release(control_plane.layout, "r1", START)
    control_plane.offer(release)
    before, rows = likeness(control_plane.state), len(control_plane.log())
    outcome = control_plane.offer(release)

    assert (outcome.taken, outcome.refused) == (("stable@r1",), ())
    assert (likeness(control_plane.state), len(control_plane.log())) == (before, rows)


def test_a_manifest_signed_again_replaces_the_artefact_and_moves_nobody(
    control_plane: ScriptedControlPlane,
) -> None:
    """A fresher signature over the same terms is what hosts get from then on; nothing else changes."""
    rollout_id = control_plane.publish("r1")
    before = control_plane.states(rollout_id)
    control_plane.wait(minutes=60)
    again = control_plane.ci.signed_again(control_plane.released[rollout_id], control_plane.now)
    rows = len(control_plane.log())
    outcome = control_plane.offer(again)

    assert outcome.refused == ()
    (manifest,) = again.manifests
    answer = control_plane.ask_for(ManifestAnswer, ManifestPoll(rollout_id))
    assert answer == ManifestAnswer(SignedArtefact(manifest.artefact, manifest.signature))
    assert {type(each.entry) for each in control_plane.log(rows)} == {ArtefactTaken}
    assert control_plane.states(rollout_id) == before


def test_a_manifest_signed_again_leaves_only_its_own_fleet(
    control_plane: ScriptedControlPlane,
) -> None:
    """A fleet in which no manifest is anchored any more is forgotten."""
    rollout_id = control_plane.publish("r1")
    control_plane.wait(minutes=60)
    again = control_plane.ci.signed_again(control_plane.released[rollout_id], control_plane.now)
    control_plane.offer(again)

    assert list(control_plane.state.fleets) == [again.fleet.artefact_hash]


def test_a_new_release_supersedes_the_one_before(control_plane: ScriptedControlPlane) -> None:
    """A release with a new channel ref supersedes the channel's rollout, which the log says first."""
    first = control_plane.publish("r1")
    rows = len(control_plane.log())
    control_plane.wait(minutes=1)
    second = control_plane.publish("r2")

    assert control_plane.rollout(first).state is RolloutState.SUPERSEDED
    assert control_plane.rollout(first).superseded_at == control_plane.now
    written = [each.entry for each in control_plane.log(rows)]
    superseded = RolloutMoved(SuccessorOpened(first, second, control_plane.now))
    assert written.index(superseded) < written.index(Planned(OpenRollout(second, "stable", "r2")))


def test_a_release_of_another_channel_supersedes_nobody(
    control_plane: ScriptedControlPlane,
) -> None:
    """Channels do not get into each other's way."""
    first = control_plane.publish("r1")
    control_plane.publish("r1", Layout(waves=(("db-01",),), channel="late"))

    assert control_plane.rollout(first).state is RolloutState.ACTIVE


# Refusals. Each is answered and logged in its own words, and nobody moves.


def _refused(control_plane: ScriptedControlPlane, release: ManifestsUpdated) -> str:
    """Offer a release that must be refused; return why, once it is certain that nothing else changed."""
    before = likeness(control_plane.state)
    rows = len(control_plane.log())
    outcome = control_plane.offer(release)
    assert outcome.taken == ()
    ((rollout_id, reason),) = outcome.refused
    (row,) = control_plane.log(rows)
    assert row.entry == ArtefactRefused(f"rollouts/{rollout_id}.json", reason)
    assert likeness(control_plane.state) == {**before, "head": rows + 1}
    return reason


def test_a_manifest_of_another_fleet_is_refused(control_plane: ScriptedControlPlane) -> None:
    """A manifest that is not anchored in the fleet it comes with is refused, with both hashes."""
    release = control_plane.ci.release(control_plane.layout, "r1", START)
    other = control_plane.ci.release(BIGGER, "r1", START)
    reason = _refused(control_plane, ManifestsUpdated(other.fleet, release.manifests))

    assert release.fleet.artefact_hash in reason
    assert other.fleet.artefact_hash in reason


def test_a_manifest_with_an_empty_wave_is_refused_by_its_number(
    control_plane: ScriptedControlPlane,
) -> None:
    """A rollout that would never get past a wave without hosts is not opened."""
    release = control_plane.ci.release(
        Layout(waves=(("web-01",), (), ("web-02",), ())), "r1", START
    )

    assert (
        _refused(control_plane, release) == "expected hosts in every wave, found none in wave 1, 3"
    )


def test_a_manifest_with_a_host_without_a_name_is_refused(
    control_plane: ScriptedControlPlane,
) -> None:
    """What is signed and makes no sense is refused with the reason, and stops nothing."""
    release = control_plane.ci.release(Layout(waves=(("",),)), "r1", START)

    reason = _refused(control_plane, release)

    assert reason == "RolloutTerms: targets: expected host names, found an empty string"


def test_a_manifest_without_hosts_is_refused(control_plane: ScriptedControlPlane) -> None:
    """A manifest that names no host is refused."""
    release = control_plane.ci.release(Layout(waves=()), "r1", START)

    assert _refused(control_plane, release) == "expected at least one host, found none"


def test_a_manifest_older_than_the_one_in_force_is_refused_with_both_times(
    control_plane: ScriptedControlPlane,
) -> None:
    """What CI signed earlier does not replace what it signed later."""
    older = control_plane.ci.release(control_plane.layout, "r0", START)
    control_plane.wait(minutes=1)
    control_plane.publish("r1")

    assert _refused(control_plane, older) == (
        "expected a manifest signed at 2026-05-16T01:01:00Z, as the one in force for channel stable, or later; "
        "found 2026-05-16T01:00:00Z"
    )


def test_a_manifest_with_other_terms_for_a_rollout_in_force_is_refused(
    control_plane: ScriptedControlPlane,
) -> None:
    """A rollout under way keeps the terms it was opened under; another declaration needs another ref."""
    control_plane.publish("r1")
    control_plane.wait(minutes=1)
    layout = evolve(BIGGER, soak_minutes=BIGGER.soak_minutes + 1)
    release = control_plane.ci.release(layout, "r1", control_plane.now)

    assert _refused(control_plane, release) == (
        "stable@r1 is in force with other terms: wave_soak_minutes: expected [5, 5], found [6, 6]. "
        "Under the same ref only hosts may be added or removed: expected that, or a new channel ref"
    )


def test_a_manifest_with_another_policy_for_a_rollout_in_force_is_refused(
    control_plane: ScriptedControlPlane,
) -> None:
    """Whether hosts roll back is a term of the rollout like any other."""
    control_plane.publish("r1")
    release = control_plane.ci.release(control_plane.layout, "r1", START)
    (manifest,) = release.manifests
    other = evolve(
        manifest.value, rollout_policy=evolve(manifest.value.rollout_policy, strategy="other")
    )
    changed = ManifestsUpdated(release.fleet, (control_plane.ci.manifest(other, START),))

    assert _refused(control_plane, changed) == (
        "stable@r1 is in force with other terms: rollout_policy.strategy: expected waves, found other. "
        "Under the same ref only hosts may be added or removed: expected that, or a new channel ref"
    )


def test_a_manifest_for_a_superseded_rollout_is_refused(
    control_plane: ScriptedControlPlane,
) -> None:
    """A rollout that was superseded does not come back under its old name."""
    control_plane.publish("r1")
    control_plane.publish("r2")
    release = control_plane.ci.release(control_plane.layout, "r1", START + timedelta(minutes=1))

    assert _refused(control_plane, release) == (f"stable@r1 was superseded: {NEW_REF}")


def test_a_refused_manifest_does_not_keep_the_others_of_its_release_out(
    control_plane: ScriptedControlPlane,
) -> None:
    """Of one release those manifests are taken that fit."""
    good = control_plane.ci.release(control_plane.layout, "r1", START)
    bad = control_plane.ci.release(Layout(waves=(("db-01",),), channel="late"), "r1", START)
    outcome = control_plane.ask_for(
        ManifestsOutcome, ManifestsUpdated(good.fleet, bad.manifests + good.manifests)
    )

    assert outcome.taken == ("stable@r1",)
    assert [rollout_id for rollout_id, _ in outcome.refused] == ["late@r1"]


def test_two_manifests_of_one_channel_in_one_release_leave_the_latter_in_force(
    control_plane: ScriptedControlPlane,
) -> None:
    """Of two manifests for one channel the last is in force, and of the other nothing is kept."""
    release = control_plane.ci.release(control_plane.layout, "r1", START)
    (first,) = release.manifests
    second = control_plane.ci.manifest(evolve(first.value, channel_ref="r2"), START)
    control_plane.offer(ManifestsUpdated(release.fleet, (first, second)))

    assert list(control_plane.state.manifests) == ["stable@r2"]
    assert list(control_plane.state.view.rollouts) == ["stable@r2"]
    assert control_plane.check_store().differences == ()


def test_an_artefact_that_did_not_verify_is_logged(control_plane: ScriptedControlPlane) -> None:
    """What the verifier refused leaves its trace in the log."""
    reply = control_plane.ask(ArtefactRejected("rollouts/stable@r1.json", "bad signature"))

    assert reply == (Done(),)
    assert control_plane.logged(ArtefactRefused) == [
        ArtefactRefused("rollouts/stable@r1.json", "bad signature")
    ]


def test_a_release_moves_on_from_a_halted_one(control_plane: ScriptedControlPlane) -> None:
    """A new release supersedes a rollout that was halted, and its hosts are dispatched anew."""
    first = control_plane.publish("r1")
    ScriptedHost(control_plane, first, "web-01").revert()
    second = control_plane.publish("r2")

    assert control_plane.rollout(first).state is RolloutState.SUPERSEDED
    assert control_plane.queued() == [("web-01", second)]
