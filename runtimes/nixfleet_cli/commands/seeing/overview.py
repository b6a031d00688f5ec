"""`nixfleet operator overview` and `host`: how the rollouts stand, and everything about one host."""

from urllib.parse import quote

import click

from nixfleet_cli.commands.seeing.overview_lines import host_lines, overview_lines
from nixfleet_cli.commands.steering.session import Session, asks
from nixfleet_cli.shared.commands import command
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.host_pages import HOST_WHOLE
from nixfleet_runtime.http.overview import OVERVIEW


@command()
@click.argument("rollout", metavar="[ROLLOUT]", required=False)
@asks(
    "one object with head, headAt, now, leader (of several: url, epoch), you (name, role), "
    "fleet (enrolled, declared, silent, refusing, knocking), "
    "needsYou and rollouts (of each rolloutId, headline, course, percent, states, standings, waves, needsYou, waits, "
    "risk, next and more, as GET /v1/overview has them)"
)
def overview(session: Session, rollout: str | None) -> None:
    """Show how the current rollouts stand.

    For each: a headline, its waves, what needs a person and which command answers it, why hosts wait, what would be
    lost if it went wrong now, and what comes next. ROLLOUT is a rollout, or a channel for its current one.
    """
    about = ""
    if rollout is not None:
        about = f"?rollout={quote(session.current_rollout(rollout), safe='@')}"
    found = session.read(f"{paths.OVERVIEW}{about}", OVERVIEW)
    session.output.show(OVERVIEW.to_json(found), overview_lines(found))


@command()
@click.argument("host", metavar="HOST")
@asks(
    "one object with hostname, now, head, lines, explained (as `explain` prints it) and records (of each rolloutId, "
    "headline, state, standing, attempt, wave, runs, shouldRun, ranBefore, isDrifted, gates, moments, probes, failure "
    "and rows)"
)
def host(session: Session, host: str) -> None:
    """Show everything about HOST.

    Where it stands; every gate that holds it, and what ends that; what it runs and should run; when it did what; its
    probes; why it failed, with all that its switch wrote; and its latest rows of the log.
    """
    found = session.read(paths.host_path(host, ""), HOST_WHOLE)
    session.output.show(HOST_WHOLE.to_json(found), host_lines(found))
