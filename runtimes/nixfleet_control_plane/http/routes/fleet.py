"""The routes of the fleet's lists: what is barred, refused, enrolled and silent; and manifests for those who read.

Source: docs/spec/wire.md, Operator calls.
"""

from datetime import datetime
from functools import partial
from typing import Final, TypeVar

from attrs import frozen
from starlette.requests import Request
from starlette.responses import Response

from nixfleet_control_plane.http.answers import bytes_answer, refusal
from nixfleet_control_plane.http.authentication import Authenticator
from nixfleet_control_plane.http.calls import Answer, Call, Caller, Endpoint
from nixfleet_control_plane.http.contacts import Contacts
from nixfleet_control_plane.http.query import AFTER, LIMIT, place_text
from nixfleet_control_plane.overview.fleet_lists import Place, enrollments, page_of
from nixfleet_control_plane.reading.queries import Queries
from nixfleet_control_plane.service import ControlPlaneService
from nixfleet_proto.codec.strict import Coder
from nixfleet_proto.trust import OperatorRole
from nixfleet_proto.wire import SignedArtefact
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.fleet_pages import (
    ENROLLMENT_PAGE,
    QUARANTINE_PAGE,
    REFUSAL_PAGE,
    SILENT_PAGE,
    EnrollmentPage,
    QuarantinePage,
    RefusalPage,
    SilentHost,
    SilentPage,
)
from nixfleet_runtime.http.listings import PAGE_LENGTH_MAX

T = TypeVar("T")


@frozen
class FleetRoutes:
    """The fleet's lists. queries: what the store has committed."""

    service: ControlPlaneService
    authenticator: Authenticator
    queries: Queries
    contacts: Contacts

    async def quarantines(self, request: Request) -> Response:
        """Every closure that is barred from a channel, by channel and closure."""
        await self.authenticator.operator(request, OperatorRole.READ)
        found = self.service.quarantines(await self.queries.quarantines())
        items, after = page_of(found, AFTER.of(request), _limit(request))
        return _shown(QUARANTINE_PAGE, QuarantinePage(items, _next(after)))

    async def refused(self, request: Request) -> Response:
        """What is refused now: artefacts, what agents do not act on, and events of hosts."""
        await self.authenticator.operator(request, OperatorRole.READ)
        items, after = page_of(self.service.refusals(), AFTER.of(request), _limit(request))
        return _shown(REFUSAL_PAGE, RefusalPage(items, _next(after)))

    async def enrollments(self, request: Request) -> Response:
        """Hosts that are enrolled or revoked, unused tokens and refused enrollments, by host."""
        await self.authenticator.operator(request, OperatorRole.READ)
        found = enrollments(
            self.service.ring(),
            self.service.awaited_tokens(),
            self.service.notices.refused_enrollments,
            self._heard_at,
        )
        items, after = page_of(found, AFTER.of(request), _limit(request))
        return _shown(ENROLLMENT_PAGE, EnrollmentPage(items, _next(after)))

    async def silent(self, request: Request) -> Response:
        """Hosts that were not heard of for three minutes, and since when, by name."""
        await self.authenticator.operator(request, OperatorRole.READ)
        ring, now = self.service.ring(), self.service.now()
        names = {*ring.enrolled, *ring.fleet_keys}
        found = (
            ((hostname, ""), partial(self._silent, hostname))
            for hostname in names
            if not ring.is_revoked(hostname) and self.contacts.is_silent(hostname, now)
        )
        hosts, after = page_of(found, AFTER.of(request), _limit(request))
        return _shown(SILENT_PAGE, SilentPage(hosts, self.contacts.since, _next(after)))

    async def rollout_manifest(self, request: Request) -> Response:
        """The manifest of a rollout, byte for byte as it was signed."""
        artefact = await self._manifest(request)
        return bytes_answer(artefact.body, "application/json")

    async def rollout_manifest_signature(self, request: Request) -> Response:
        """The 64 bytes of the signature of a rollout's manifest."""
        artefact = await self._manifest(request)
        return bytes_answer(artefact.signature, "application/octet-stream")

    async def _manifest(self, request: Request) -> SignedArtefact:
        await self.authenticator.operator(request, OperatorRole.READ)
        rollout_id: str = request.path_params["rollout_id"]
        artefact = await self.service.manifest(rollout_id)
        if artefact is None:
            detail = f"no manifest of {rollout_id!r} is in force"
            raise refusal("rollout-unknown", "The rollout is unknown", 404, detail)
        return artefact

    def _silent(self, hostname: str) -> SilentHost:
        return SilentHost(hostname, self._heard_at(hostname), self.service.rollouts_with(hostname))

    def _heard_at(self, hostname: str) -> datetime | None:
        contact = self.contacts.last(hostname)
        return None if contact is None else contact.at


def _limit(request: Request) -> int:
    return min(LIMIT.of(request), PAGE_LENGTH_MAX)


def _next(place: Place | None) -> str | None:
    return None if place is None else place_text(*place)


def _shown(coder: Coder[T], value: T) -> Response:
    return bytes_answer(coder.encode(value), "application/json")


def _list(
    path: str, endpoint: Endpoint[FleetRoutes], page: Coder[T], description: str
) -> Call[FleetRoutes]:
    answers = (Answer(200, f"{description}; `next` is present if there are more", page),)
    return Call("GET", path, endpoint, Caller.READER, answers, query=(AFTER, LIMIT))


_NO_MANIFEST = Answer(404, "no manifest of this rollout is in force")
_MANIFEST: Final = paths.ROLLOUTS + "/{rollout_id}/manifest"
FLEET_CALLS: Final[tuple[Call[FleetRoutes], ...]] = (
    _list(paths.QUARANTINES, FleetRoutes.quarantines, QUARANTINE_PAGE, "closures that are barred"),
    _list(paths.REFUSED, FleetRoutes.refused, REFUSAL_PAGE, "what is refused"),
    _list(paths.ENROLLMENTS, FleetRoutes.enrollments, ENROLLMENT_PAGE, "hosts and their keys"),
    _list(paths.SILENT, FleetRoutes.silent, SILENT_PAGE, "hosts that are not heard of"),
    Call(
        "GET",
        _MANIFEST,
        FleetRoutes.rollout_manifest,
        Caller.READER,
        (Answer(200, "the manifest", "application/json"), _NO_MANIFEST),
    ),
    Call(
        "GET",
        f"{_MANIFEST}/signature",
        FleetRoutes.rollout_manifest_signature,
        Caller.READER,
        (Answer(200, "64 bytes", "application/octet-stream"), _NO_MANIFEST),
    ),
)
