"""The release directory while files in it are exchanged: what a reader finds at each moment.

`nixfleet_release` exchanges whole directories; who copies files into one by hand or with a tool does not. So a reader
may find some files of one release and some of another, signatures without their files, or an older release.
"""

from collections.abc import Mapping

import orjson

from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.releases.layout import (
    FLEET_FILE,
    NONCES_FILE,
    REVOCATIONS_FILE,
    manifest_file,
)
from nixfleet_simulation.nodes.ci import Published, ReleaseDirectory
from nixfleet_simulation.scenario.randomness import Seed, stream


class ReleaseExchange:
    """What the control plane finds in the release directory.

    going_back: the numbers of releases to go back, of the exchanges that put an older one there; the last one counts.
    half: the number of exchanges that are under way.
    """

    def __init__(self, seed: Seed, directory: ReleaseDirectory) -> None:
        self.going_back: list[int] = []
        self.half = 0
        self._rng = stream(seed, "exchange")
        self._directory = directory
        self._files: tuple[Published | None, dict[str, SignedArtefact]] = (None, {})

    def end(self) -> None:
        """End all exchanges: the directory has what CI published last."""
        self.going_back.clear()
        self.half = 0

    def files(self) -> Mapping[str, SignedArtefact] | None:
        """Return the artefacts by file name; `None` if the release cannot be read now, or there is none."""
        published = self._directory.published
        if published is None:
            return None
        earlier = self._directory.signed_before
        if self.going_back and earlier:
            published = earlier[max(0, len(earlier) - self.going_back[-1])]
        files = self._files_of(published)
        if self.half > 0 and earlier:
            return self._mixed(_files_of(earlier[-1]), files)
        return files

    def _files_of(self, published: Published) -> dict[str, SignedArtefact]:
        if self._files[0] is not published:
            self._files = published, _files_of(published)
        return self._files[1]

    def _mixed(
        self, before: Mapping[str, SignedArtefact], after: Mapping[str, SignedArtefact]
    ) -> Mapping[str, SignedArtefact] | None:
        """Return some files of each, bodies and signatures apart; `None` if one is there without the other."""
        if self._rng.random() < 0.2:
            return None
        mixed: dict[str, SignedArtefact] = {}
        for name in sorted(before.keys() | after.keys()):
            old, new = before.get(name), after.get(name)
            body, signature = (self._rng.random() < 0.5 for _ in range(2))
            body_of, signature_of = (new if body else old), (new if signature else old)
            if body_of is None and signature_of is None:
                continue
            if body_of is None or signature_of is None:
                return None
            mixed[name] = SignedArtefact(body_of.body, signature_of.signature)
        return mixed if FLEET_FILE in mixed else None


def _files_of(published: Published) -> dict[str, SignedArtefact]:
    files = {
        FLEET_FILE: published.fleet,
        REVOCATIONS_FILE: published.revocations,
    }
    if published.nonces is not None:
        files[NONCES_FILE] = published.nonces
    for channel, manifest in published.manifests:
        # A manifest's file is named after its rollout.
        ref = str(orjson.loads(manifest.body)["channelRef"])
        files[manifest_file(RolloutId.of(channel, ref))] = manifest
    return files
