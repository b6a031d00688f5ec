"""`nixfleet log`: the log of a control plane, read and checked. These commands write nothing."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click

from nixfleet_cli.commands.log_proofs import (
    CHECKPOINTS,
    make_checkpoint,
    make_proof,
    verified_checkpoint,
)
from nixfleet_cli.commands.logs.backtest import backtest_log
from nixfleet_cli.commands.logs.export import export_log
from nixfleet_cli.commands.logs.forecast import forecast_log
from nixfleet_cli.commands.logs.fork import fork_log
from nixfleet_cli.commands.logs.shadow import shadow_log
from nixfleet_cli.journals.opening import is_journal
from nixfleet_cli.journals.story import show_story
from nixfleet_cli.shared.arguments import load_trust, time
from nixfleet_cli.shared.commands import group
from nixfleet_cli.shared.database import DATABASE, reading, store_argument
from nixfleet_cli.shared.exports import exports_option, refusing_exports
from nixfleet_cli.shared.failures import Findings
from nixfleet_cli.shared.output import Output, note, printing
from nixfleet_cli.shared.progress import progress
from nixfleet_control_plane.config_store import StoreConfig
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.approvals import EarlierTrust, check_approvals
from nixfleet_control_plane.history.follower import AppliedEntry, Replay
from nixfleet_control_plane.history.narration import actor_of, line_of, told
from nixfleet_control_plane.history.proofs import LogDiffers, require_continues, row_hashes
from nixfleet_control_plane.history.shadow import line_of as difference_line
from nixfleet_control_plane.history.signatures import SignaturesReport, check_signatures
from nixfleet_control_plane.messages.entry_codec import entry_of, row_of
from nixfleet_control_plane.messages.log_entry import LoggedLine, lines_of
from nixfleet_control_plane.reading.stored_log import StoredLog
from nixfleet_runtime.documents.problems import unknown
from nixfleet_runtime.process import garbage
from nixfleet_runtime.process.progress import noting

_DIFFERENCES_SHOWN_MAX = 20
_PROBLEMS_SHOWN_MAX = 20


@group()
def log() -> None:
    """Read and check a control plane's log."""


log.add_command(make_checkpoint)
log.add_command(make_proof)
log.add_command(export_log)
log.add_command(forecast_log)
log.add_command(backtest_log)
log.add_command(fork_log)
log.add_command(shadow_log)


@log.command()
@store_argument
@click.option("--host", metavar="NAME", help="Only rows about this host.")
@click.option("--rollout", metavar="ID", help="Only rows about this rollout.")
@click.option(
    "--after",
    metavar="SEQ",
    type=click.IntRange(min=0),
    default=0,
    help="Only rows with a higher number.",
)
@click.option("--all", "with_routine", is_flag=True, help="Include repeated probe results.")
@printing(
    "one object a line, with seq, at, kind, rolloutId, host, actor, text, stateBefore, stateAfter and payload; "
    "of a journal: seq, at, kind, rolloutId, host, text, delivery, refusedReason and payload"
)
def show(
    output: Output,
    store: StoreConfig,
    host: str | None,
    rollout: str | None,
    after: int,
    with_routine: bool,
) -> None:
    """Print the log, one line for each fact and each other row.

    A line has the row's number, which facts of one request share, its time, the rollout, the actor (a host, an
    operator, or a part of the control plane: planner, rollout, verifier) and what happened, with the states before
    and after when they differ. DB is the database of a control plane.
    DB may also be an agent's journal: prints what its host lived, and which facts are not sent yet or were refused.

    Exit codes: 0 success; 1 a row is damaged, or no such host or rollout; 2 DB cannot be read.
    """
    if store.path is not None and is_journal(store.path):
        show_story(output, store.path, host, rollout, after, with_routine=with_routine)
        return
    left_out = 0
    hosts, rollouts = set[str](), set[str]()
    with reading(store, f"{DATABASE}, or an agent's journal") as stored:
        replay = Replay(stored.ask(lambda it: it.log_start()))
        for applied in _replayed(replay, stored):
            hosts.update(filter(None, (applied.host_id,)))
            rollouts.update(filter(None, (applied.rollout_id,)))
            if applied.logged.seq <= after or not _is_about(applied, host, rollout):
                continue
            if applied.is_routine and not with_routine:
                left_out += 1
                continue
            output.show(_value(applied) if output.as_json else None, [line_of(applied)])
    if rollout is not None and rollout not in rollouts:
        raise Findings(str(unknown("--rollout", "rollout", rollout, rollouts)))
    hosts |= _targets(replay.state)
    if host is not None and host not in hosts:
        raise Findings(str(unknown("--host", "host", host, hosts)))
    if left_out:
        note(f"({left_out} repeated probe results left out; --all shows them)")


@log.command()
@store_argument
@click.option(
    "--trust",
    "trust_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Check operators' statements against this trust file too.",
)
@click.option(
    "--trust-until",
    "earlier_trust",
    metavar="TIME FILE",
    type=(time, click.Path(path_type=Path)),
    multiple=True,
    help="The trust file that was in force until TIME, for the rows before; may be repeated. With --trust.",
)
@click.option(
    "--signatures",
    "with_signatures",
    is_flag=True,
    help="Also check every report of a host by the key that it had then. With --trust.",
)
@CHECKPOINTS
@exports_option
@printing(
    "one object with rows, firstRow (left in the database), headHash, statements (null without --trust), "
    "checkpoints (the rows of each) and facts (null without --signatures): proved, unsigned and earlier"
)
def verify(
    output: Output,
    store: StoreConfig,
    trust_file: Path | None,
    earlier_trust: tuple[tuple[datetime, Path], ...],
    with_signatures: bool,
    checkpoints: tuple[Path, ...],
    exports: Path | None,
) -> None:
    """Check that no row was altered, removed or moved.

    Rows cut off at the end leave no trace in the log itself: give the checkpoints that were signed earlier. With
    --trust, every approval, denial, promotion and warrant must be signed by its operator, and every fleet and manifest
    by CI; no wave may have begun, and no host been dispatched, without the approvals that the manifest asks for.
    With --signatures every fact must be signed with the key that its host had then, and every key be declared in a
    fleet that CI signed, or enrolled with a token of the organisation. A statement, checkpoint or report is checked
    against the trust file of its time: where an operator left, or a key was changed, give the file from before with
    --trust-until. Of a log whose beginning was exported and dropped, --exports checks that too; without it the check
    begins at the first row that is left. Of many problems the first twenty are printed; --json has all.
    DB is the database of a control plane.

    Exit codes: 0 the chain holds; 1 it is broken, or a statement is not good, and where; 2 a file cannot be read.
    """
    if earlier_trust and trust_file is None:
        raise click.UsageError("--trust-until needs --trust, the trust file that is in force now")
    trust = None if trust_file is None else load_trust(trust_file)
    earlier = tuple(EarlierTrust(until, load_trust(file)) for until, file in earlier_trust)
    if trust is None and (checkpoints or with_signatures):
        raise click.UsageError(
            "expected --trust, which tells whose signatures are good, found none"
        )
    signed = (
        []
        if trust is None
        else [(file, verified_checkpoint(file, trust, earlier)) for file in checkpoints]
    )
    name = store.where
    with reading(store) as stored, refusing_exports(name):
        start = stored.ask(lambda it: it.log_start())
        total = stored.ask(lambda it: it.head()) - start.first_seq + 1
        with progress(output, "verifying the chain", "rows", total) as bar:
            report = stored.ask(lambda it: it.verify(bar.noted))
        if report.problem is not None:
            where = f"the chain breaks at row {report.broken_at}"
            raise Findings(f"{name}: {where}: {report.problem}")
        if exports is not None:
            for _ in stored.rows_before(exports):
                pass
        hashes: tuple[bytes, ...] = ()
        if signed:
            with progress(output, "hashing the rows", "rows", total) as bar:
                hashes = row_hashes(noting(stored.whole_log(exports), bar.noted))
        for file, checkpoint in signed:
            try:
                require_continues(hashes, checkpoint)
            except LogDiffers as error:
                raise Findings(f"{name}: {file}: {error}") from error
        stated = said = None
        if trust is not None:
            with progress(output, "checking statements", "lines") as bar:
                read = noting(_lines(stored, exports), bar.noted)
                stated = check_approvals(read, trust, earlier)
        if trust is not None and with_signatures:
            with progress(output, "checking signatures", "rows", total) as bar:
                rows_read = noting(stored.whole_log(exports), bar.noted)
                said = check_signatures(map(entry_of, rows_read), trust, earlier)
    problems = [
        f"{name}: row {it.seq}: {it.problem}"
        for report_of in (stated, said)
        if report_of is not None
        for it in report_of.problems
    ]
    if problems:
        raise Findings(*problems, shown_max=_PROBLEMS_SHOWN_MAX)
    begins = report.first_seq if exports is None else 1
    rows = f"{report.rows} rows" if begins == 1 else f"rows {begins} to {report.rows}"
    lines = [f"the chain holds: {rows}, head {report.head_hash.hex()}"]
    if not report.is_kept:
        lines = [
            f"every row can be read and replayed: {rows}, head {report.head_hash.hex()}",
            f"{name} keeps no chain of hashes: give a checkpoint that was signed earlier to find out what was altered",
        ]
    if stated is not None:
        lines.append(f"operators' statements are good: {stated.statements}")
    lines += [
        f"the log continues {file}: {checkpoint.rows} rows, signed by {checkpoint.signer}"
        for file, checkpoint in signed
    ]
    if said is not None:
        lines.append(_told_of_facts(said))
    output.show(
        {
            "rows": report.rows,
            "firstRow": report.first_seq,
            "headHash": report.head_hash,
            "checkpoints": [checkpoint.rows for _, checkpoint in signed],
            "statements": None if stated is None else stated.statements,
            "facts": None
            if said is None
            else {"proved": said.proved, "unsigned": said.unsigned, "earlier": said.earlier},
        },
        lines,
    )


def _told_of_facts(said: SignaturesReport) -> str:
    text = f"facts signed by their hosts: {said.proved}"
    if said.unsigned:
        text += f"; {said.unsigned} of hosts that have no key"
    if said.earlier:
        text += f"; {said.earlier} in rows of format 1, which do not have what was signed"
    return text


@log.command()
@store_argument
@click.option("--check", is_flag=True, required=True, help="Compare only; required.")
@exports_option
@printing("one object with entries")
def rebuild(output: Output, store: StoreConfig, check: bool, exports: Path | None) -> None:
    """Rebuild every view from the log and compare them.

    Of a log whose beginning was exported and dropped, begins with the views that are kept in its place; with --exports
    begins with the first row. Nothing is written: the stored views stay as they are. Of many differences the first
    twenty are printed; --json has all. DB is the database of a control plane.

    Exit codes: 0 all are equal; 1 some differ, and where; 2 DB cannot be read.
    """
    garbage.collect_rarely()
    with reading(store) as stored, refusing_exports(store.where):
        exported = None if exports is None else stored.rows_before(exports)
        total = stored.ask(lambda it: it.head())
        with progress(output, "replaying the log", "rows", total) as bar:
            report = stored.ask(lambda it: it.rebuild(exported, bar.noted))
    if report.differences:
        found = f"{store.where}: {len(report.differences)} row(s) of the views differ from the log:"
        lines = [f"  {difference_line(each)}" for each in report.differences]
        raise Findings(found, *lines, shown_max=1 + _DIFFERENCES_SHOWN_MAX)
    output.show(
        {"entries": report.entries},
        [f"the stored views equal those rebuilt from {report.entries} log entries"],
    )


def _replayed(replay: Replay, stored: StoredLog) -> Iterator[AppliedEntry]:
    for row in stored.rows(replay.state.head_seq):
        yield from replay.take(row)


def _lines(stored: StoredLog, exports: Path | None) -> Iterator[LoggedLine]:
    """Yield the lines of the log one by one: of a long one not all fit in memory."""
    rows = stored.rows() if exports is None else stored.whole_log(exports)
    return (line for row in rows for line in lines_of(entry_of(row)))


def _is_about(applied: AppliedEntry, host: str | None, rollout: str | None) -> bool:
    return host in (None, applied.host_id) and rollout in (None, applied.rollout_id)


def _targets(state: State) -> set[str]:
    """Hosts that a rollout has, and that the log may not name yet."""
    live = (each for each in state.view.rollouts if each in state.manifests)
    return {host for rollout_id in live for host in state.view.terms(rollout_id).targets}


def _value(applied: AppliedEntry) -> object:
    logged = applied.logged
    row = row_of(logged.seq, logged.at, logged.entry)
    return {
        "seq": logged.seq,
        "at": logged.at,
        "kind": row.kind,
        "rolloutId": applied.rollout_id,
        "host": applied.host_id,
        "actor": actor_of(logged.entry),
        "text": told(logged.entry),
        "stateBefore": applied.state_before or None,
        "stateAfter": applied.state_after or None,
        "payload": json.loads(row.payload),
    }
