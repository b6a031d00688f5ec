"""Performs the acts of attackers, proxies and careless copiers, and those that change who a host is."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final, TypeAlias, assert_never

from nixfleet_proto.enrollment import SignedToken
from nixfleet_simulation.run.world import World
from nixfleet_simulation.scenario.acts import (
    AlterRequests,
    AnswerBadly,
    BorrowName,
    HalfExchanged,
    NewKey,
    NewToken,
    PutOlderBack,
    ReplayRequests,
    StealToken,
)
from nixfleet_simulation.scenario.randomness import stream

HostileAct: TypeAlias = (
    ReplayRequests
    | BorrowName
    | AlterRequests
    | AnswerBadly
    | NewKey
    | NewToken
    | StealToken
    | HalfExchanged
    | PutOlderBack
)

OPERATORS_LOOK_SECONDS: Final = 600.0
"""How often operators look which hosts try to enroll, and bring them tokens."""
TOKEN_SECONDS: Final = 3600.0
FIRST_TOKEN_SECONDS: Final = (900.0, 3600.0, 6 * 3600.0, 30 * 86_400.0)
FIRST_TOKEN_AFTER_SECONDS: Final = (0.0, 600.0)
BACK_WITH_NEW_KEY_SECONDS: Final = 30.0

Later: TypeAlias = Callable[..., None]


class HostileActs:
    """Performs acts. later: calls in so many seconds. note_signing: CI signed. start: starts a node that is down."""

    def __init__(
        self,
        world: World,
        later: Later,
        note_signing: Callable[[], None],
        start: Callable[[str], None],
    ) -> None:
        self._world = world
        self._later = later
        self._note_signing = note_signing
        self._start = start
        self._faults_are_over = False

    def schedule(self) -> None:
        """Bring every host that enrolls its first token, and have operators look regularly."""
        for host in self._world.scenario.enrolling:
            rng = stream(self._world.scenario.seed, "token", host)
            after = rng.uniform(*FIRST_TOKEN_AFTER_SECONDS)
            self._later(after, self._bring_token, host, rng.choice(FIRST_TOKEN_SECONDS))
        if self._world.scenario.enrolling:
            self._later(OPERATORS_LOOK_SECONDS, self._look)

    def end_faults(self) -> None:
        """End all faults."""
        self._faults_are_over = True
        self._world.interference.end_all()
        self._world.exchange.end()

    def do(self, act: HostileAct) -> None:
        """Perform `act`."""
        world = self._world
        match act:
            case ReplayRequests() | BorrowName() | AlterRequests() | AnswerBadly():
                world.interference.begin(act)
                self._later(act.for_seconds, world.interference.end, act)
            case NewKey():
                self._make_new_key(act)
            case NewToken():
                self._bring_token(act.host, act.valid_seconds)
            case StealToken():
                token = world.hosts[act.host].identity.token
                if token is not None and act.by != act.host:
                    world.interference.ask_with_token_of(token, act.by)
            case HalfExchanged():
                world.exchange.half += 1
                self._later(act.for_seconds, self._complete)
            case PutOlderBack():
                world.exchange.going_back.append(act.back)
                self._later(act.for_seconds, self._put_latest_back, act.back)
            case _:
                assert_never(act)

    def _complete(self) -> None:
        if not self._faults_are_over:
            self._world.exchange.half -= 1

    def _put_latest_back(self, back: int) -> None:
        if not self._faults_are_over:
            self._world.exchange.going_back.remove(back)

    # Identities.

    def _look(self) -> None:
        for host in self._world.scenario.enrolling:
            if self._world.hosts[host].identity.is_enrolling:
                self._bring_token(host, TOKEN_SECONDS)
        self._later(OPERATORS_LOOK_SECONDS, self._look)

    def _bring_token(self, hostname: str, valid_seconds: float) -> None:
        """Mint a token for the key that the host has now, publish the list, and bring the token to the host."""
        world = self._world
        if hostname not in world.scenario.enrolling:
            return
        key = world.hosts[hostname].identity.key.public_key
        now = world.agenda.time
        token = world.ci.mint(hostname, key, now, timedelta(seconds=valid_seconds))
        world.checker.minted.note(token.token)
        self._note_signing()
        world.trace.narrate(hostname, f"gets the token {token.token.nonce}")
        self._put(hostname, token)

    def _put(self, hostname: str, token: SignedToken) -> None:
        self._world.hosts[hostname].identity.token = token

    def _make_new_key(self, act: NewKey) -> None:
        host = self._world.hosts[act.host]
        if act.host not in self._world.scenario.enrolling or not host.is_up:
            return
        host.die()
        host.identity.make_new_key()
        self._later(BACK_WITH_NEW_KEY_SECONDS, self._start, act.host)
        self._later(act.token_after_seconds, partial(self._bring_token, act.host), TOKEN_SECONDS)
