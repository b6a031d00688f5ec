"""A notifier as a process: builds its parts from the configuration, and runs until it is stopped by a signal.

The composition root. No policy, and nothing that a test of an engine or of the service would need.
"""

import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import assert_never

import anyio

from nixfleet_notify.config import NotifyConfig
from nixfleet_notify.config_hooks import ExecConfig, HookConfig, WebhookConfig
from nixfleet_notify.delivery.engine import HookEngine
from nixfleet_notify.files.stored import NotifierFiles, UnusableFiles
from nixfleet_notify.metrics import write_metrics
from nixfleet_notify.service import Hook, NeedsSource, Notifier, Way
from nixfleet_notify.ways.egress import EgressRules
from nixfleet_notify.ways.feed import Feed
from nixfleet_notify.ways.overview import OverviewReader
from nixfleet_notify.ways.program import Program
from nixfleet_notify.ways.webhook import Webhook
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.client import signed_client, tls_context
from nixfleet_runtime.http.line_types import Severity
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.kernel.clock import Clock, SystemClock
from nixfleet_runtime.process.service_manager import notify
from nixfleet_runtime.storage.instance_lock import only_process_on

_log = logging.getLogger(__name__)


async def run_notifier(config: NotifyConfig, clock: Clock) -> None:
    """Run the notifier of `config` until SIGTERM or SIGINT.

    Raises: UnusableFiles, DatabaseInUse (the directory is another process's), InsecureKeyFile, MalformedKeyFile,
    OSError.
    """
    with opened(config) as files:
        async with _notifier(config, files, clock) as notifier, anyio.create_task_group() as tasks:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                tasks.start_soon(notifier.run)
                _log.info(
                    "telling %s what happens at %s",
                    ", ".join(config.hooks),
                    config.control_plane.url,
                )
                notify("READY=1")
                async for number in signals:
                    _log.info("%s: stopping; what is under way is sent again", number.name)
                    notify("STOPPING=1")
                    tasks.cancel_scope.cancel()
                    break


@contextmanager
def opened(config: NotifyConfig) -> Iterator[NotifierFiles]:
    """Yield the files of a notifier, which are for this process alone meanwhile.

    Raises: UnusableFiles, DatabaseInUse, OSError.
    """
    files = NotifierFiles(config.files.directory)
    try:
        files.prepare()
    except OSError as error:
        advice = "this user must be able to write in files.directory"
        raise UnusableFiles(files.directory, str(error), advice) from error
    with only_process_on(files.directory / "notifier"):
        yield files


def way_of(hook: HookConfig, egress: EgressRules, clock: Clock) -> Way:
    """Return how a hook is told."""
    match hook.target:
        case WebhookConfig() as target:
            return Webhook(
                target.url,
                egress,
                clock,
                hook.timeout_seconds,
                target.secrets,
                target.token,
                partial(tls_context, target.ca_certificate_file),
            )
        case ExecConfig() as target:
            return Program(hook.name, target.command, hook.timeout_seconds)
        case _:
            assert_never(hook.target)


@asynccontextmanager
async def _notifier(
    config: NotifyConfig, files: NotifierFiles, clock: Clock
) -> AsyncIterator[Notifier]:
    source = config.control_plane
    key = SigningKey.load(source.key.path, directory_is_private=source.key.is_credential)
    async with signed_client(
        source.url,
        operator_key_id(source.operator),
        key,
        SystemClock(),
        tls=tls_context(source.ca_certificate_file),
    ) as client:
        least = min((hook.wants.severity for hook in config.hooks.values()), key=_rank)
        textfile, needs = config.metrics.textfile, config.needs
        yield Notifier(
            Feed(client, least),
            files,
            {name: _hook(config, hook, files, clock) for name, hook in config.hooks.items()},
            files.sight(),
            clock,
            source.silent_after,
            needs=NeedsSource(OverviewReader(client), needs.poll_seconds, needs.decided_after),
            write_metrics=None if textfile is None else partial(write_metrics, textfile),
        )


def _hook(config: NotifyConfig, hook: HookConfig, files: NotifierFiles, clock: Clock) -> Hook:
    engine = HookEngine(
        hook.name,
        config.control_plane.source,
        hook.wants,
        hook.coalesce_seconds,
        files.hook(hook.name),
        len(files.dead_ids(hook.name)),
    )
    return Hook(hook.name, engine, way_of(hook, config.egress, clock))


def _rank(severity: Severity) -> int:
    return severity.rank
