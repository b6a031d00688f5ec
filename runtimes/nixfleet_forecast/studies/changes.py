"""What a release changed against the one before of its channel, and how many hosts it touches and may cost.

The comparison is that of `nixfleet release diff`. Source: docs/spec/studies.md, What a release changed.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from nixfleet_control_plane.reading.stored_log import StoredLog
from nixfleet_forecast.studies.published import Published, releases_in
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_release.publish.changes import ReleaseContent, blast_radii, changes
from nixfleet_runtime.http.studies import ChangedSection, ReleaseChanges, TouchedWave

LINES_MAX: Final = 200
"""Of one sort of changes: every host may be one."""


def changes_of(log: StoredLog, rollout_id: RolloutId) -> ReleaseChanges:
    """Return what a release of the log changed. Raises: StudyRefused, DamagedRow."""
    releases = releases_in(log.rows(log.ask(lambda it: it.log_start()).first_seq - 1))
    new, before = releases.of(rollout_id), releases.before(rollout_id)
    old = None if before is None else releases.of(before)
    lines = () if old is None else changes(_content(old), _content(new), lambda _: None)
    radius = blast_radii(_content(new))[rollout_id]
    waves = tuple(_touched(None if old is None else old.manifest, new.manifest))
    return ReleaseChanges(
        rollout_id,
        before,
        len(new.manifest.host_set),
        sum(wave.touched for wave in waves),
        waves,
        radius.worst,
        radius.tolerated,
        f"{radius}",
        tuple(_sections(lines)),
    )


def _content(published: Published) -> ReleaseContent:
    manifest = published.manifest
    return ReleaseContent(published.fleet, {manifest.rollout_id: manifest}, {}, {})


def _touched(old: RolloutManifest | None, new: RolloutManifest) -> Iterator[TouchedWave]:
    known = {} if old is None else {it.hostname: it.target_closure for it in old.host_set}
    hosts = Counter(it.wave_index for it in new.host_set)
    touched = Counter(
        it.wave_index for it in new.host_set if known.get(it.hostname) != it.target_closure
    )
    for wave in sorted(hosts):
        yield TouchedWave(wave, hosts[wave], touched[wave])


def _sections(lines: Sequence[str]) -> Iterator[ChangedSection]:
    heading, found = "", list[str]()
    for line in (*lines, "end"):
        if line.startswith("  "):
            found.append(line[2:])
            continue
        if found:
            shown = tuple(found[:LINES_MAX])
            yield ChangedSection(heading, shown, len(found) - len(shown))
        heading, found = line, []
