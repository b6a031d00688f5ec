"""Shows what was committed, in buckets: the dispatches that wait, and read models for others. Nothing reads them here.

A bucket may lose everything: it is written again from the control plane's state at each connection, and compared now
and then. A value is published without waiting for JetStream: hosts get it from the subject, and the next comparison
finds what was not stored.
Source: docs/spec/nats.md, Buckets.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import anyio

from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.messages.writes import (
    PutDispatch,
    RemoveDispatch,
    RemoveHostRecords,
    Write,
)
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_nats.buckets import Buckets
from nixfleet_nats.callout import Session
from nixfleet_nats.errors import NatsUnusable
from nixfleet_nats.names import Bucket, name_of, token_of
from nixfleet_nats.positions import Desired, Position, encode_desired
from nixfleet_nats.read_models import encode_heartbeat, encode_info, encode_state, state_key
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.kernel.clock import Clock

Value: TypeAlias = Callable[[], bytes | None]
"""Makes a value when it is shown; `None`: the key goes."""
COMPARED_SECONDS: Final = 60.0
_log = logging.getLogger(__name__)


class Projection:
    """Writes the buckets. clock: the machine's."""

    def __init__(self, buckets: Buckets, service: ControlPlaneService, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._buckets = buckets
        self._dispatched: set[str] = set()
        self._changed: dict[tuple[Bucket, str], Value] = {}
        self._woken = anyio.Event()

    def position(self) -> Position:
        """Return where the log is."""
        return Position(self._service.epoch, self._service.feed.head)

    async def prepare(self) -> None:
        """Make the buckets, or check those that are there. Raises: NatsUnusable."""
        await self._buckets.prepare()

    def committed(self, writes: Sequence[Write]) -> None:
        """Note what a commit changed: it is durable, and the state is that of the commit.

        Values are encoded later: the commit's posters wait for their answers.
        """
        for write in writes:
            match write:
                case PutDispatch():
                    self._note_dispatch(write.dispatch.hostname)
                    self._note_state(write.dispatch.rollout_id, write.dispatch.hostname)
                case RemoveDispatch():
                    self._note_dispatch(write.hostname)
                case LogRow(host_id=str(hostname), rollout_id=str(rollout_id)):
                    self._note_state(rollout_id, hostname)
                case RemoveHostRecords(rollout_id, str(hostname)):
                    self._note(Bucket.DEVICE_STATE, state_key(hostname, rollout_id), _nothing)
                case _:
                    pass  # Records of a rollout that is pruned go with the next comparison.

    def admitted(self, session: Session) -> None:
        """Note who connected."""
        if session.hostname is not None:
            info = partial(encode_info, session.hostname, session.key, self._clock.now())
            self._note(Bucket.DEVICE_INFO, token_of(session.hostname), info)

    def heard(self, hostname: str) -> None:
        """Note a heartbeat."""
        heartbeat = partial(encode_heartbeat, self._clock.now())
        self._note(Bucket.DEVICE_HEARTBEAT, token_of(hostname), heartbeat)

    async def run(self) -> None:
        """Show what changes, without end."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._compare_now_and_then)
            while True:
                await self._woken.wait()
                self._woken = anyio.Event()
                try:
                    await self._show()
                except NatsUnusable as error:
                    _log.warning("what was committed is not shown: %s", error)

    async def _show(self) -> None:
        """Show dispatches, for which hosts wait; then the rest."""
        dispatched, self._dispatched = self._dispatched, set()
        for hostname in dispatched:
            value = self._dispatch_of(hostname)
            await self._buckets.put(Bucket.DESIRED_STATE, token_of(hostname), value)
        changed, self._changed = self._changed, {}
        for (bucket, key), made in changed.items():
            await self._buckets.put(bucket, key, made())

    def _note(self, bucket: Bucket, key: str, value: Value) -> None:
        self._changed[bucket, key] = value
        self._woken.set()

    def _note_dispatch(self, hostname: str) -> None:
        self._dispatched.add(hostname)
        self._woken.set()

    def _note_state(self, rollout_id: str, hostname: str) -> None:
        record = self._service.host_record(RolloutId(rollout_id), hostname)
        if record is not None:
            value = partial(encode_state, self.position(), record)
            self._note(Bucket.DEVICE_STATE, state_key(hostname, rollout_id), value)

    def _dispatch_of(self, hostname: str) -> bytes | None:
        waiting = self._service.waiting_dispatches.last(hostname)
        if waiting is None:
            return None
        at = Position(self._service.epoch, waiting.event_log_seq)
        return encode_desired(Desired(at, waiting.dispatch))

    async def _compare_now_and_then(self) -> None:
        problem = ""
        while True:
            try:
                await self._compare()
                problem = ""
            except NixfleetError as error:  # NATS, or a control plane that is closing
                if str(error) != problem:
                    _log.warning("the buckets could not be compared: %s", error)
                problem = str(error)
            await anyio.sleep(COMPARED_SECONDS)

    async def _compare(self) -> None:
        await self._buckets.prepare()  # They may have been removed.
        waiting = self._service.waiting_dispatches
        stored = await self._buckets.all(Bucket.DESIRED_STATE)
        # Without a wait from here on: what is committed meanwhile would be taken back.
        wanted = {token_of(name): self._dispatch_of(name) for name in waiting}
        for key in stored.keys() | wanted.keys():
            if stored.get(key) != wanted.get(key):
                hostname = name_of(key)
                if hostname is None:
                    self._note(Bucket.DESIRED_STATE, key, _nothing)
                else:
                    self._note_dispatch(hostname)
        await self._compare_states()

    async def _compare_states(self) -> None:
        """Show every host whose state is not shown as it is, and nothing of a rollout that is pruned."""
        stored = await self._buckets.all(Bucket.DEVICE_STATE)
        seen: set[str] = set()
        after: tuple[str, str] | None = None
        while True:
            page = (await self._service.host_records(after)).records
            for record in page:
                key = state_key(record.hostname, record.rollout_id)
                seen.add(key)
                value = partial(encode_state, self.position(), record)
                is_noted = (Bucket.DEVICE_STATE, key) in self._changed
                if not is_noted and _state_in(stored.get(key)) != _state_in(value()):
                    self._note(Bucket.DEVICE_STATE, key, value)
            if not page:
                break
            after = page[-1].rollout_id, page[-1].hostname
        for key in stored.keys() - seen:
            if (Bucket.DEVICE_STATE, key) not in self._changed:
                self._note(Bucket.DEVICE_STATE, key, _nothing)


def _nothing() -> None:
    """The value of a key that is to go."""


def _state_in(value: bytes | None) -> bytes:
    """Return a value of `device-state` without its position, which every comparison would change."""
    return b"" if value is None else value.partition(b',"hostname":')[2]
