"""A back-test of a release's policy: what its waves, tolerances and budgets would have done to the other releases.

Source: docs/spec/studies.md, Back-tests.
"""

from attrs import evolve

from nixfleet_control_plane.engine.state import fleet_name
from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.messages.log_entry import ArtefactTaken
from nixfleet_control_plane.reading.stored_log import StoredLog
from nixfleet_forecast.backtest.backtest import Play, RolloutCourse
from nixfleet_forecast.backtest.recording import Recording
from nixfleet_forecast.backtest.words import ASSUMPTIONS, Tested, differing
from nixfleet_forecast.studies.published import Releases
from nixfleet_proto.codec import decode_fleet, decode_manifest, encode_fleet, encode_manifest
from nixfleet_proto.fleet import FleetResolved
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing import artefact_hash
from nixfleet_release.build.project import project_channel
from nixfleet_runtime.http.studies import BackTestReport, TestedPolicy, TestedRollout
from nixfleet_runtime.releases.layout import FLEET_FILE
from nixfleet_state_machine.planner.holds.calendar import Zones

RECORDED = "recorded"


def back_tested(log: StoredLog, rollout_id: RolloutId, zones: Zones) -> BackTestReport:
    """Return what the policy of `rollout_id` would have done. Raises: StudyRefused, DamagedRow."""
    start = log.ask(lambda it: it.log_start())
    releases, recording = Releases(), Recording(Replay(start))
    for row in log.rows(start.first_seq - 1):
        releases.take(row)
        recording.take(row)
    policy = PolicyOf(rollout_id, releases.of(rollout_id).fleet)
    recorded = Tested(RECORDED, Play(recording, Replay(start).state, zones, lambda it: it).run())
    other = Tested(str(rollout_id), Play(recording, Replay(start).state, zones, policy).run())
    return BackTestReport(
        rollout_id,
        recording.state.head_seq,
        (_policy(recorded), _policy(other)),
        ASSUMPTIONS,
        differing(recording, recorded.played),
        tuple(f"{it} keeps its own: {why}" for it, why in policy.kept.items()),
    )


class PolicyOf:
    """Gives what CI would have published under the policy of one release. kept: the rollouts that keep their own.

    Waves, budgets, tolerances, deadlines, guards and calendar are the release's; hosts, closures and refs are those of
    the record. The time of a wave is of that release alone, and is left out.
    """

    def __init__(self, rollout_id: RolloutId, fleet: FleetResolved) -> None:
        self.kept: dict[str, str] = {}
        self._rollout_id = rollout_id
        self._fleet = fleet
        self._fleets: dict[str, FleetResolved] = {}

    def __call__(self, taken: tuple[ArtefactTaken, ...]) -> tuple[ArtefactTaken, ...]:
        """Return what would have been taken in place of `taken`."""
        return tuple(each for entry in taken for each in self._instead(entry))

    def _instead(self, entry: ArtefactTaken) -> tuple[ArtefactTaken, ...]:
        if entry.rollout_id is None:
            if entry.name.startswith(FLEET_FILE):
                body = entry.body.encode()
                self._fleets[artefact_hash(body)] = decode_fleet(body)
            return (entry,)
        manifest = decode_manifest(entry.body.encode())
        if manifest.rollout_id == self._rollout_id or manifest.channel != self._rollout_id.channel:
            return (entry,)
        strange = [it.hostname for it in manifest.host_set if it.hostname not in self._fleet.hosts]
        if strange:
            self.kept[entry.rollout_id] = f"{self._rollout_id} has no host {strange[0]}"
            return (entry,)
        other = self._under_policy(self._fleets[manifest.fleet_resolved_hash], manifest)
        body = encode_fleet(other)
        name, hash_ = fleet_name(artefact_hash(body)), artefact_hash(body)
        made = project_channel(other, manifest.channel, manifest.channel_ref, hash_)
        closures = {it.hostname: it.target_closure for it in manifest.host_set}
        told = evolve(
            made,
            meta=manifest.meta,
            host_set=tuple(
                evolve(it, target_closure=closures[it.hostname])
                for it in made.host_set
                if it.hostname in closures
            ),
        )
        fleet = evolve(entry, name=name, rollout_id=None, body=body.decode())
        return fleet, evolve(entry, body=encode_manifest(told).decode())

    def _under_policy(self, was: FleetResolved, manifest: RolloutManifest) -> FleetResolved:
        """Return the fleet of the record with the policy of the release, for the hosts of `manifest`."""
        closures = {it.hostname: it.target_closure for it in manifest.host_set}
        hosts = {
            name: evolve(host, enabled=name in closures, closure_hash=closures.get(name))
            if host.channel == manifest.channel
            else host
            for name, host in self._fleet.hosts.items()
        }
        waves = {
            channel: tuple(
                evolve(
                    wave,
                    hosts=tuple(it for it in wave.hosts if it in closures),
                    not_before=None,
                )
                for wave in waves
            )
            if channel == manifest.channel
            else waves
            for channel, waves in self._fleet.waves.items()
        }
        return evolve(self._fleet, hosts=FrozenMap(hosts), waves=FrozenMap(waves), meta=was.meta)


def _policy(tested: Tested) -> TestedPolicy:
    played = tested.played
    return TestedPolicy(
        tested.policy,
        tested.harmed,
        round(tested.hours * 3600),
        tested.in_flight_max,
        tested.ended,
        played.invented,
        tuple(map(_rollout, played.rollouts)),
        tuple(played.notes),
    )


def _rollout(course: RolloutCourse) -> TestedRollout:
    return TestedRollout(
        course.rollout_id,
        course.state,
        course.hosts,
        len(course.harmed),
        course.in_flight_max,
        course.opened_at,
        course.ended_at,
    )
