"""Enrolls this host with its control plane, as soon as it has a token and the control plane answers, and anew when the
control plane does not know its key any more: it may have lost its database.

Sans I/O. Apart from the other workers, since its steps are its own: they need a token's file and the call to enroll.
"""

import logging
from collections.abc import Callable, Generator
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

from nixfleet_agent.network.enrollment import (
    EnrollmentRefused,
    OwnKey,
    WrongToken,
    enroll_request,
    how_to_get_a_token,
    mint_command,
)
from nixfleet_agent.workers.backoff import Backoff
from nixfleet_agent.workers.steps import Step, Wait, Wakeup
from nixfleet_agent.workers.trouble_log import Trouble
from nixfleet_proto.codec import DecodeError
from nixfleet_proto.enrollment import EnrollRequest, SignedToken
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.transport import TransportFailed

_log = logging.getLogger(__name__)


@frozen
class AskWhetherKnown(Step[bool]):
    """Ask the control plane whether it knows this host's key. Raises: TransportFailed."""


@frozen
class ReadToken(Step[SignedToken | None]):
    """Read the token in `file`; `None` when there is no file. Raises: DecodeError, OSError."""

    file: Path


@frozen
class Enroll(Step[None]):
    """Send `request`. Raises: EnrollmentRefused, TransportFailed."""

    request: EnrollRequest


EnrollmentStep: TypeAlias = Wait | AskWhetherKnown | ReadToken | Enroll


class EnrollmentWorker:
    """Keeps the host known. Whether it is, is asked of the control plane and stored nowhere.

    trust: returns the keys that are trusted now; the trust file may change while the agent runs.
    """

    def __init__(
        self,
        hostname: str,
        own: OwnKey,
        token_file: Path | None,
        trust: Callable[[], TrustRoot],
        now: Callable[[], datetime],
        backoff: Backoff,
        log: logging.Logger = _log,
    ) -> None:
        """trust: returns the keys that are trusted now: a token by a new org root key needs no restart."""
        self._hostname = hostname
        self._own = own
        self._token_file = token_file
        self._trust = trust
        self._now = now
        self._backoff = backoff
        self._log = log
        self._trouble = Trouble(log, "enrollment")
        self._not_known = Wakeup()

    def note_not_known(self) -> None:
        """An answer said that the control plane does not know this host's key."""
        self._not_known.set()

    def stay_known(self) -> Generator[EnrollmentStep, object, None]:
        """Enroll whenever the host is not known, without end."""
        while True:
            yield from self.run()
            self._not_known.clear()
            yield from Wait(None, self._not_known)
            self._log.warning(
                "the control plane does not know the key of %s any more", self._hostname
            )

    def run(self) -> Generator[EnrollmentStep, object, None]:
        """Return when the host is known."""
        while not (yield from self._is_done()):
            yield from self._backoff.pause()
        self._trouble.succeeded()
        self._backoff.reset()

    def _is_done(self) -> Generator[EnrollmentStep, object, bool]:
        try:
            return (yield from AskWhetherKnown()) or (yield from self._enroll())
        except TransportFailed as error:
            if error.was_answered:  # Without an answer the heartbeat fails as well, and says so.
                self._trouble.failed(error.kind, error)
        except EnrollmentRefused as error:
            self._trouble.failed(error.kind, error)
        except (WrongToken, DecodeError, OSError) as error:
            todo = mint_command(self._hostname, self._own)
            self._trouble.failed(str(error), f"{self._token_file}: {error}; a new token: {todo}")
        return False

    def _enroll(self) -> Generator[EnrollmentStep, object, bool]:
        file = self._token_file
        token = None if file is None else (yield from ReadToken(file))
        if token is None:
            todo = how_to_get_a_token(self._hostname, self._own, file)
            self._trouble.failed("no token", todo)
            return False
        yield from Enroll(
            enroll_request(token, self._hostname, self._own, self._trust(), self._now())
        )
        self._log.info("%s is enrolled with key %s", self._hostname, self._own.fingerprint)
        return True
