"""Signs a warrant with the operator's key, here, and has the control plane relay it."""

import secrets
from datetime import timedelta
from typing import Final

import click

from nixfleet_cli.commands.steering.session import Session, rollout_ids, suggesting
from nixfleet_cli.shared.failures import Findings
from nixfleet_cli.shared.output import warn
from nixfleet_proto.codec import format_time
from nixfleet_proto.codec.warrant import encode_signed_warrant
from nixfleet_proto.ids import InvalidRolloutId, RolloutId
from nixfleet_proto.signing.warrant import sign_warrant
from nixfleet_proto.steering.warrant import LIFETIME_MAX, ClosureRule, Warrant
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.previews import ORDER, OrderBody
from nixfleet_runtime.kernel.clock import SystemClock
from nixfleet_state_machine.planner.passing_time import SILENT_AFTER

EXPIRES_MINUTES_DEFAULT: Final = 120
_EXPIRES_MINUTES_MAX: Final = int(LIFETIME_MAX / timedelta(minutes=1))

expiry_option = click.option(
    "--expires-minutes",
    metavar="N",
    type=click.IntRange(1, _EXPIRES_MINUTES_MAX),
    default=EXPIRES_MINUTES_DEFAULT,
    show_default=True,
    help="Hosts that hear of the order later do not obey it.",
)


_FREED_AFTER_MINUTES: Final = SILENT_AFTER // timedelta(minutes=1)


def warn_of_short_recall(expires_minutes: int) -> None:
    """Warn of a recall that expires before a silent host stops holding those that wait for it."""
    if expires_minutes <= _FREED_AFTER_MINUTES:
        warn(
            f"the order expires after {expires_minutes} min, and a host that is silent holds those of earlier waves "
            f"for {_FREED_AFTER_MINUTES}: those may never be told; give it more time with --expires-minutes"
        )


def send_warrant(
    session: Session,
    name: str,
    rule: ClosureRule,
    rollout: str,
    hosts: tuple[str, ...],
    reason: str,
    expires_minutes: int,
) -> None:
    """Sign an order to `hosts` of `rollout`, none named: all, and send it; with --preview, say what it would do.

    Raises: Findings.
    """
    try:
        rollout_id = RolloutId(rollout)
    except InvalidRolloutId as error:
        raise click.BadParameter(str(error), param_hint="ROLLOUT") from error
    if session.is_preview:
        order = OrderBody(rule, expires_minutes, tuple(sorted(set(hosts))))
        try:
            session.preview(paths.rollout_path(rollout, "/warrants"), ORDER.encode(order))
        except Findings as error:
            raise suggesting(error, rollout, rollout_ids(session)) from error
        return
    now = SystemClock().now()
    warrant = Warrant(
        order_id=secrets.token_hex(16),
        rollout_id=rollout_id,
        rule=rule,
        operator=session.operator_name,
        reason=reason,
        issued_at=now,
        expires_at=now + timedelta(minutes=expires_minutes),
        hosts=tuple(sorted(set(hosts))),
    )
    body = encode_signed_warrant(sign_warrant(warrant, session.key()))
    value = {
        "command": name,
        "rolloutId": rollout,
        "orderId": warrant.order_id,
        "hosts": warrant.hosts,
        "expiresAt": format_time(warrant.expires_at),
        "reason": reason,
    }
    whom = ", ".join(warrant.hosts) or "its hosts"
    said = f"{rollout}: {name} of {whom} is relayed, order {warrant.order_id}"
    try:
        session.command(paths.rollout_path(rollout, "/warrants"), body, value, said)
    except Findings as error:
        raise suggesting(error, rollout, rollout_ids(session)) from error
