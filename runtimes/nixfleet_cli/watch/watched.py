"""What is watched: one rollout, a channel's current rollout, or those of all channels. Pure."""

from urllib.parse import urlencode

from attrs import evolve, frozen

from nixfleet_runtime.http import paths
from nixfleet_runtime.http.listings import ListedRow
from nixfleet_runtime.http.overview import Overview


@frozen
class Watched:
    """What is watched. name: a rollout's id or a channel; `None`: every channel."""

    name: str | None = None

    @property
    def is_rollout(self) -> bool:
        """Whether one rollout is watched, whatever follows it on its channel."""
        return self.name is not None and "@" in self.name

    @property
    def overview_path(self) -> str:
        """Where its overview is."""
        asked = {"rollout": self.name} if self.is_rollout else {}
        return f"{paths.OVERVIEW}?{urlencode(asked)}" if asked else paths.OVERVIEW

    def log_path(self, after: int, wait_seconds: int) -> str:
        """Where the lines of the log after a row are. wait_seconds: for one, if there is none."""
        asked: dict[str, object] = {"after": after, "wait": wait_seconds}
        if self.is_rollout:
            asked["rollout"] = self.name
        return f"{paths.LOG}?{urlencode(asked)}"

    def of(self, overview: Overview) -> Overview:
        """Return what of it is watched. Needs of the whole fleet are no channel's."""
        if self.name is None or self.is_rollout:
            return overview
        wanted = tuple(each for each in overview.rollouts if each.channel == self.name)
        return evolve(overview, rollouts=wanted, needs_you=())

    def has(self, line: ListedRow) -> bool:
        """Whether a line of the log is about it."""
        if self.name is None or line.rollout_id == self.name:
            return True
        is_of_channel = (line.rollout_id or "").startswith(f"{self.name}@")
        return not self.is_rollout and is_of_channel
