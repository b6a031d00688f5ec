"""A control plane's life in steps, with something of everything in it: for what must hold after each of them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Self, TypeAlias

from nixfleet_control_plane.messages.inputs import (
    ArtefactRejected,
    FlushRecords,
    PlanTick,
    RelayWarrant,
    RetireQuarantine,
)
from nixfleet_control_plane.messages.key_ring import EnrolledHost, SignedByAnother, WrongFingerprint
from nixfleet_proto.agent_event import DispatchAck, ProbeMode, ProbeStatus, ProbeSubResult
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.enrollment import Revocation
from nixfleet_proto.fleet import Edge
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Recall, RolloutPolicy
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.signing.warrant import sign_warrant
from nixfleet_proto.steering.warrant import ClosureRule, Warrant
from nixfleet_runtime.transport import EventRefused
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.releases import OPERATOR_KEY, Layout, Publisher, token_for
from tests.engines.scripted_host import ScriptedHost

LAYOUT = Layout(
    waves=(("web-01",), ("web-02", "web-03", "web-04")),
    max_in_flight=2,
    # More than ever begin at once, so that it holds nobody.
    max_per_minute=100,
    edges=(Edge("web-02", "web-03"),),
)
LATE = Layout(waves=(("db-01", "db-02"),), channel="late", after=("stable",), closure="same")
OWN = Layout(waves=(("app-01",),), channel="own", policy=RolloutPolicy(recall=Recall.OPERATOR))
RETENTION_MINUTES = 72 * 60


class Story:
    """The hosts of a control plane whose life is told step by step."""

    def __init__(self, control_plane: ScriptedControlPlane) -> None:
        self.control_plane = control_plane
        self._hosts: dict[tuple[str, str], ScriptedHost] = {}

    @classmethod
    def within(cls, directory: Path, ci: Publisher | None = None) -> Self:
        """Return a story whose control plane has its database in `directory`."""
        return cls(ScriptedControlPlane(directory, LAYOUT, ci))

    def close(self) -> None:
        """Let go of the database."""
        self.control_plane.close()

    def host(self, rollout_id: str, hostname: str) -> ScriptedHost:
        key = rollout_id, hostname
        if key not in self._hosts:
            self._hosts[key] = ScriptedHost(self.control_plane, RolloutId(rollout_id), hostname)
        return self._hosts[key]


Step: TypeAlias = Callable[[Story], object]


def _wait(minutes: float) -> Step:
    def step(story: Story) -> None:
        story.control_plane.wait(minutes=minutes)
        story.control_plane.tick()

    return step


def _publish(channel_ref: str, layout: Layout | None = None) -> Step:
    return lambda story: story.control_plane.publish(channel_ref, layout)


def _sign_again(rollout_id: str) -> Step:
    def step(story: Story) -> None:
        control_plane = story.control_plane
        release = control_plane.released[RolloutId(rollout_id)]
        again = control_plane.ci.signed_again(release, control_plane.now)
        assert control_plane.offer(again).refused == ()

    return step


def _refuse(channel_ref: str) -> Step:
    def step(story: Story) -> None:
        control_plane = story.control_plane
        release = control_plane.ci.release(LAYOUT, channel_ref, control_plane.now)
        assert control_plane.offer(release).taken == ()

    return step


def _host(rollout_id: str, hostname: str, what: Callable[[ScriptedHost], object]) -> Step:
    return lambda story: what(story.host(rollout_id, hostname))


def _pause(scope: str) -> Step:
    return lambda story: story.control_plane.pause(scope)


def _resume(scope: str) -> Step:
    return lambda story: story.control_plane.resume(scope)


def _report_failing_controls(host: ScriptedHost) -> None:
    host.probe(
        ProbeStatus.FAIL,
        ProbeMode.ENFORCE,
        ProbeSubResult("4.1", ProbeStatus.FAIL, "nis2"),
        ProbeSubResult("4.1", ProbeStatus.FAIL, "iso-27001"),
        ProbeSubResult("4.2", ProbeStatus.FAIL, "nis2", effective_mode=ProbeMode.OBSERVE),
    )


def _report_fewer_failing_controls(host: ScriptedHost) -> None:
    host.probe(
        ProbeStatus.PASS,
        ProbeMode.ENFORCE,
        ProbeSubResult("4.1", ProbeStatus.PASS, "nis2"),
        ProbeSubResult("4.1", ProbeStatus.FAIL, "iso-27001"),
    )


def _fail_and_roll_back(host: ScriptedHost) -> None:
    host.soak()
    host.fail()
    host.roll_back()


def _retire(closure: str) -> Step:
    return lambda story: story.control_plane.command(
        RetireQuarantine("stable", closure, "ada", "was the disk")
    )


def recall_another(story: Story) -> None:
    """Release on a channel of its own, and have an operator recall that."""
    rollout_id = story.control_plane.publish("r1", OWN)
    now = story.control_plane.now
    warrant = Warrant(
        f"order of {rollout_id}",
        rollout_id,
        ClosureRule.PRIOR,
        "ada",
        "now, please",
        now,
        now + timedelta(hours=1),
    )
    text = encode_signed_warrant(sign_warrant(warrant, OPERATOR_KEY)).decode()
    command = RelayWarrant(warrant.rollout_id, text, "ada", warrant.reason)
    assert story.control_plane.command(command).refusal is None


def _enroll(hostname: str, nonce: str) -> Step:
    def step(story: Story) -> None:
        # The same in every life, so that lives can be compared.
        key, another = (SigningKey(sha256((nonce + it).encode()).digest()) for it in ("", "!"))
        control_plane = story.control_plane
        token = token_for(hostname, key, control_plane.now, nonce)
        control_plane.publish_lists(revoked=_revoked(control_plane.now), tokens=(token,))
        assert isinstance(control_plane.enroll(token, key), EnrolledHost)
        assert isinstance(control_plane.enroll(token, another), SignedByAnother | WrongFingerprint)

    return step


def _revoked(now: datetime) -> tuple[Revocation, ...]:
    return (Revocation("web-02", now, "stolen"), Revocation("web-03", now))


def _report_what_cannot_be(host: ScriptedHost) -> None:
    outcome = host.tell(lambda seq: DispatchAck("release-0", host.now, seq))
    assert isinstance(outcome.stopped_by, EventRefused)


def _several_at_once(story: Story) -> None:
    story.control_plane.ask(
        PlanTick(), ArtefactRejected("rollouts/stable@r7.json", "bad signature"), FlushRecords(2)
    )


STEPS: tuple[Step, ...] = (
    _publish("r1"),
    _publish("r1", LATE),
    _host("stable@r1", "web-01", ScriptedHost.acknowledge),
    _host("stable@r1", "web-01", ScriptedHost.start),
    _host("stable@r1", "web-01", ScriptedHost.complete),
    _host("stable@r1", "web-01", ScriptedHost.declare),
    _host("stable@r1", "web-01", _report_failing_controls),
    _pause("stable"),
    _enroll("web-01", "n-1"),
    _host("stable@r1", "web-01", _report_what_cannot_be),
    _sign_again("stable@r1"),
    _host("stable@r1", "web-01", _report_fewer_failing_controls),
    _wait(5),
    _enroll("web-02", "n-2"),
    _host("stable@r1", "web-01", _report_what_cannot_be),
    _host("stable@r1", "web-01", ScriptedHost.converge),
    _resume("stable"),
    lambda story: story.control_plane.flush(limit=2),
    _publish("r2"),
    _host("stable@r2", "web-01", ScriptedHost.finish),
    _host("stable@r2", "web-02", ScriptedHost.acknowledge),
    _pause("stable@r2"),
    _wait(90),
    _enroll("web-01", "n-3"),
    _host("stable@r2", "web-02", _report_what_cannot_be),
    _host("stable@r2", "web-04", ScriptedHost.acknowledge),
    _several_at_once,
    _resume("stable@r2"),
    _host("stable@r2", "web-04", ScriptedHost.defer),
    _host("stable@r2", "web-02", ScriptedHost.break_down),
    _host("stable@r2", "web-02", ScriptedHost.roll_back),
    _refuse("r1"),
    lambda story: story.control_plane.clear(RolloutId("stable@r2")),
    _retire("r2-web-02"),
    _host("stable@r2", "web-04", ScriptedHost.complete),
    _wait(1),
    _publish("r3"),
    _host("stable@r3", "web-01", _fail_and_roll_back),
    lambda story: story.control_plane.flush(),
    _publish("r4"),
    _host("stable@r4", "web-01", ScriptedHost.finish),
    _host("stable@r4", "web-02", ScriptedHost.finish),
    _host("stable@r4", "web-03", ScriptedHost.finish),
    lambda story: story.control_plane.flush(limit=3),
    _host("stable@r4", "web-04", ScriptedHost.finish),
    _host("late@r1", "db-01", ScriptedHost.acknowledge),
    _wait(RETENTION_MINUTES),
    _sign_again("stable@r4"),
    _host("late@r1", "db-01", ScriptedHost.break_down),
    _wait(RETENTION_MINUTES),
    _refuse("r1"),
    _publish("r5"),
    _wait(RETENTION_MINUTES),
)
"""Waves, budgets, edges of hosts and of channels, failures of all kinds, operators, and what is forgotten."""
