"""`nixfleet notify`: tells others what happens at a control plane, and shows and steers what it sends."""

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from nixfleet_cli.shared.clock_option import clock_option
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.failures import Findings, Unusable, lines_of
from nixfleet_cli.shared.output import Output, Row, printing, shown_time
from nixfleet_runtime.kernel.clock import Clock, SystemClock

if TYPE_CHECKING:  # They need the libraries of the extra `http`, and --help does not.
    from nixfleet_notify.config import NotifyConfig
    from nixfleet_notify.config_hooks import HookConfig
    from nixfleet_notify.delivery.state import DeadLetter, HookState, Request
    from nixfleet_notify.files.stored import NotifierFiles

T = TypeVar("T")

config_option = click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="The notifier's configuration (TOML).",
)
hook_option = click.option("--hook", metavar="NAME", required=True, help="The hook.")


@group()
def notify() -> None:
    """Tell others what happens: by webhooks and programs.

    It reads the log of a control plane over the network. Each row is told once, in order, however often a receiver or
    the notifier itself fails.
    """


@notify.command()
@config_option
@clock_option
def run(file: Path, clock: Clock) -> None:
    """Run the notifier until SIGTERM or SIGINT.

    It starts and waits while the control plane is down, and says so to every hook after a while. Logs JSON lines to
    standard error.

    Exit codes: 0 stopped; 2 FILE, or a file that it names, cannot be used.
    """
    import anyio

    from nixfleet_cli.shared.logging_setup import log_to_stderr
    from nixfleet_notify.main import run_notifier

    config = _loaded(file)
    log_to_stderr(config.log.level)
    try:
        anyio.run(run_notifier, config, clock)
    except Exception as error:
        raise _ending(error) from error


@notify.command()
@config_option
@printing("one object with side and options; of each path, value and source")
def check(output: Output, file: Path) -> None:
    """Show the effective configuration in FILE, or its problems.

    Examines the files that starting would, with your permissions, and sends nothing.

    Exit codes: 0 it can be used; 1 it cannot, with every problem.
    """
    from nixfleet_notify.config import NOTIFY
    from nixfleet_runtime.config.check import describe
    from nixfleet_runtime.config.options import ConfigError, load

    try:
        options = load(file, os.environ, NOTIFY.read).options
    except ConfigError as error:
        raise Findings(*lines_of(error)) from error
    shown = [{"path": it.path, "value": it.value, "source": it.source} for it in options]
    output.show(
        {"side": NOTIFY.name, "options": shown},
        [f"# {NOTIFY.name}: {file}", *describe(options)],
    )


@notify.command("test")
@config_option
@hook_option
@printing("one object with hook, id and type")
def send_sample(output: Output, file: Path, hook: str) -> None:
    """Send a sample to a hook, once, and say what it answered.

    It is sent as everything is: signed, within the egress rules and the time-out. A running notifier is not disturbed.

    Exit codes: 0 the hook took it; 1 it did not, or there is no such hook; 2 FILE, or a file that it names, cannot be
    used.
    """
    import anyio

    from nixfleet_notify.delivery.answers import Outcome
    from nixfleet_notify.delivery.notices import sample
    from nixfleet_notify.main import way_of
    from nixfleet_notify.messages.message import Origin, notice_message

    config = _loaded(file)
    named = _named(config, hook)
    clock = SystemClock()
    origin = Origin(config.control_plane.source, hook)
    message = notice_message(sample(clock.now()), origin)
    answer = anyio.run(way_of(named, config.egress, clock).send, message, 1)
    if answer.outcome is not Outcome.DELIVERED:
        raise Findings(f"hook {hook} did not take the sample: {answer.problem}")
    output.show(
        {"hook": hook, "id": message.id, "type": message.type},
        [f"hook {hook} took the sample {message.id}"],
    )


@notify.command()
@config_option
@printing(
    "one object a line, with hook, cursor, behind, sending, attempts, dueAt, failures, deadLetters, disabled, "
    "delivered, deliveredAt, problem, problemAt, head, heardAt and silentSince"
)
def status(output: Output, file: Path) -> None:
    """Show how far each hook is, and what keeps it from going on.

    As of the files: a running notifier writes them as it goes, what it knows of the log at most every ten seconds.

    Exit codes: 0 shown; 2 FILE, or a file that it names, cannot be used.
    """
    from nixfleet_notify.delivery.engine import behind

    config = _loaded(file)
    files = _files(config)
    sight = _usable(files.sight)
    silent_since = sight.outage.since if sight.is_silent and sight.outage is not None else None
    values, rows = list[Mapping[str, object]](), list[Row]()
    for name in config.hooks:
        state = _usable(partial(files.hook, name))
        dead = len(_usable(partial(files.dead_ids, name)))
        values.append(
            {
                "hook": name,
                "cursor": state.cursor,
                "behind": behind(state, sight),
                "sending": None if state.sending is None else state.sending.id,
                "attempts": state.attempts,
                "dueAt": state.due_at,
                "failures": state.failures,
                "deadLetters": dead,
                "disabled": state.disabled or None,
                "delivered": state.delivered,
                "deliveredAt": state.delivered_at,
                "problem": state.problem or None,
                "problemAt": state.problem_at,
                "head": sight.head,
                "heardAt": sight.heard_at,
                "silentSince": silent_since,
            }
        )
        cursor = "" if state.cursor is None else str(state.cursor)
        rows.append((name, cursor, str(behind(state, sight)), str(dead), _condition(state)))
    if not output.as_json:
        output.show(None, _about_log(sight.heard_at, silent_since))
    output.rows(values, rows, ("hook", "row", "behind", "dead", "condition"))


def _about_log(heard_at: datetime | None, silent_since: datetime | None) -> Iterator[str]:
    if silent_since is not None:
        yield f"the control plane is silent since {shown_time(silent_since)}"
    elif heard_at is not None:
        yield f"the control plane answered at {shown_time(heard_at)}"
    else:
        yield "the control plane has never answered"


def _condition(state: "HookState") -> str:
    if state.disabled:
        return f"disabled: {state.disabled}"
    if state.sending is not None and state.attempts:
        when = "" if state.due_at is None else f", again at {shown_time(state.due_at)}"
        return f"attempt {state.attempts} of {state.sending.id} failed{when}: {state.problem}"
    if state.sending is not None:
        return f"sends {state.sending.id}"
    return "waits" if state.cursor is not None else "has not begun"


@notify.command()
@config_option
@click.option("--hook", metavar="NAME", help="Only of this hook.")
@printing(
    "one object a line, with hook, id, type, firstSeq, attempts, problem, at and event, which is the CloudEvent"
)
def dead(output: Output, file: Path, hook: str | None) -> None:
    """Show the dead letters: messages that were given up.

    Exit codes: 0 shown; 1 there is no such hook; 2 FILE, or a file that it names, cannot be used.
    """
    from nixfleet_proto.codec import parse_json

    config = _loaded(file)
    files = _files(config)
    names = tuple(config.hooks) if hook is None else (_named(config, hook).name,)
    values, rows = list[Mapping[str, object]](), list[Row]()
    for name, letter in _letters(files, names):
        message = letter.message
        values.append(
            {
                "hook": name,
                "id": message.id,
                "type": message.type,
                "firstSeq": message.first_seq or None,
                "attempts": letter.attempts,
                "problem": letter.problem,
                "at": letter.at,
                "event": parse_json(message.body.encode()),
            }
        )
        rows.append((name, message.id, message.type, shown_time(letter.at), letter.problem))
    output.rows(values, rows, ("hook", "id", "type", "given up at", "problem"))


def _letters(files: "NotifierFiles", names: tuple[str, ...]) -> "Iterator[tuple[str, DeadLetter]]":
    for name in names:
        for each in _usable(partial(files.dead_ids, name)):
            letter = _usable(partial(files.dead, name, each))
            if letter is not None:
                yield name, letter


@notify.command()
@config_option
@hook_option
@click.option(
    "--dead", "ids", metavar="ID", multiple=True, help="Send this dead letter again; repeatable."
)
@click.option("--all-dead", is_flag=True, help="Send every dead letter again.")
@printing("one object with hook and dead, the ids that are sent again")
def retry(output: Output, file: Path, hook: str, ids: tuple[str, ...], all_dead: bool) -> None:
    """Let a hook try again now, also if it is disabled.

    The running notifier takes the request within seconds; otherwise it is taken at the next start. A dead letter is
    sent once, and stays one if that fails.

    Exit codes: 0 asked for; 1 there is no such hook or dead letter; 2 FILE, or a file that it names, cannot be used.
    """
    from nixfleet_notify.delivery.state import Retry

    config = _loaded(file)
    _named(config, hook)
    files = _files(config)
    known = _usable(partial(files.dead_ids, hook))
    unknown = [each for each in ids if each not in known]
    if unknown:
        raise Findings(
            *(f"hook {hook} has no dead letter {each}" for each in unknown),
            f"`nixfleet notify dead --config {file} --hook {hook}` lists them",
        )
    asked = known if all_dead else ids
    _request(files, hook, Retry(asked))
    again = f", and sends {len(asked)} dead letters again" if asked else ""
    output.show({"hook": hook, "dead": asked}, [f"hook {hook} tries again{again}"])


@notify.command()
@config_option
@hook_option
@click.option(
    "--from",
    "from_seq",
    metavar="SEQ",
    type=click.IntRange(min=1),
    required=True,
    help="The first row.",
)
@printing("one object with hook and from")
def replay(output: Output, file: Path, hook: str, from_seq: int) -> None:
    """Send everything from a row on again.

    A message that is made of the same rows has the same id as before, so a receiver that has it may leave it out. The
    running notifier takes the request within seconds; otherwise it is taken at the next start.

    Exit codes: 0 asked for; 1 there is no such hook, or it is not done with SEQ yet; 2 FILE, or a file that it names,
    cannot be used.
    """
    from nixfleet_notify.delivery.state import Replay

    config = _loaded(file)
    _named(config, hook)
    files = _files(config)
    cursor = _usable(partial(files.hook, hook)).cursor or 0
    if from_seq > cursor:
        raise Findings(
            f"expected a row up to {cursor}, the last one that hook {hook} is done with, found {from_seq}"
        )
    _request(files, hook, Replay(from_seq))
    output.show(
        {"hook": hook, "from": from_seq}, [f"hook {hook} sends everything from row {from_seq} on"]
    )


def _usable(work: Callable[[], T]) -> T:
    """Return the result of `work` on files. Raises: Unusable."""
    from nixfleet_notify.files.stored import UnusableFiles

    try:
        return work()
    except (UnusableFiles, OSError) as error:
        raise Unusable(*lines_of(error)) from error


def _request(files: "NotifierFiles", hook: str, request: "Request") -> None:
    _usable(partial(files.request, hook, request, SystemClock().now()))


def _loaded(file: Path) -> "NotifyConfig":
    from nixfleet_notify.config import load_notify_config
    from nixfleet_runtime.config.options import ConfigError

    try:
        return load_notify_config(file, os.environ)
    except ConfigError as error:
        raise Unusable(*lines_of(error)) from error


def _files(config: "NotifyConfig") -> "NotifierFiles":
    """Return the files of a notifier, which may be running."""
    from nixfleet_notify.files.stored import NotifierFiles

    files = NotifierFiles(config.files.directory)
    _usable(files.prepare)
    return files


def _named(config: "NotifyConfig", hook: str) -> "HookConfig":
    from nixfleet_runtime.documents.problems import closest

    found = config.hooks.get(hook)
    if found is None:
        meant = closest(hook, config.hooks)
        guess = "" if meant is None else f"; did you mean {meant}?"
        raise Findings(f"expected one of {', '.join(config.hooks)}, found {hook!r}{guess}")
    return found


def _ending(error: Exception) -> Exception:
    """Return the failure that a start ended with; an error that is a bug of ours as it is."""
    from nixfleet_notify.files.stored import UnusableFiles
    from nixfleet_proto.signing import InsecureKeyFile, MalformedKeyFile
    from nixfleet_runtime.storage.instance_lock import DatabaseInUse

    cause: BaseException = error
    while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
        cause = cause.exceptions[0]
    if isinstance(
        cause, (UnusableFiles, DatabaseInUse, InsecureKeyFile, MalformedKeyFile, OSError)
    ):
        return Unusable(*lines_of(cause))
    return error
