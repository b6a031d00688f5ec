"""`[hooks.NAME]` of a notifier's configuration: who is told of what, and how.

Secrets are in files or in credentials of the service manager; options name where they are.
"""

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeAlias, assert_never
from urllib.parse import urlsplit

from attrs import frozen

from nixfleet_notify.config_secrets import read_secret
from nixfleet_notify.delivery.needs import ENDED, NEED_TYPES, severity_of_type
from nixfleet_notify.messages.filters import HookFilter
from nixfleet_notify.messages.signing import EXPECTED, MalformedSecret, secret_of
from nixfleet_notify.ways.egress import EgressRefused, EgressRules
from nixfleet_notify.ways.secret import Secret
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.steering.guards import NAME_EXPECTED, is_name
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.config.path_checks import readable_file
from nixfleet_runtime.config.sections import is_loopback
from nixfleet_runtime.documents.problems import closest, quoted
from nixfleet_runtime.http.line_types import LineType, Severity

COALESCE_SECONDS: Final = 60.0
COALESCE_SECONDS_MAX: Final = 3600.0
TIMEOUT_SECONDS: Final = 15.0
TIMEOUT_SECONDS_MAX: Final = 300.0
LOG_KINDS: Final = (
    "agent_event",
    "fact_refused",
    "rollout_event",
    "plan_action",
    "gate_decision",
    "operator_command",
    "artefact_accepted",
    "artefact_refused",
    "host_enrolled",
    "identity_forked",
)
"""The kinds of lines that the feed has."""


class HookKind(StrEnum):
    """How a hook is told."""

    WEBHOOK = "webhook"
    EXEC = "exec"


@frozen
class WebhookConfig:
    """A webhook. secrets: that sign, the current one first."""

    url: str
    secrets: tuple[Secret, ...] = ()
    token: Secret | None = None
    ca_certificate_file: Path | None = None


@frozen
class ExecConfig:
    """A program and its arguments; no shell."""

    command: tuple[str, ...]


@frozen
class HookConfig:
    """`[hooks.NAME]`. coalesce_seconds: lines of so many seconds are one message; 0: each row is one."""

    name: str
    target: WebhookConfig | ExecConfig
    wants: HookFilter
    coalesce_seconds: float = COALESCE_SECONDS
    timeout_seconds: float = TIMEOUT_SECONDS


Hooks: TypeAlias = Mapping[str, HookConfig]


def read_hooks(root: Section, egress: EgressRules) -> Hooks:
    """Return the hooks by name, at least one."""
    root.require("hooks", "[hooks.NAME], at least one")
    found: dict[str, HookConfig] = {}
    for name, section in root.sections("hooks").items():
        if not is_name(name):
            root.section("hooks").refuse(name, "not a name", NAME_EXPECTED, quoted(name))
        kind = section.required_choice("kind", HookKind)
        if kind is None:
            section.accept_unknown_keys()
            continue
        match kind:
            case HookKind.WEBHOOK:
                target: WebhookConfig | ExecConfig = _webhook(section, egress)
            case HookKind.EXEC:
                section.require("command", "a program and its arguments")
                target = ExecConfig(section.texts("command") or ())
            case _:
                assert_never(kind)
        found[name] = HookConfig(
            name,
            target,
            _filter(section),
            section.seconds_or_none(
                "coalesce_seconds", COALESCE_SECONDS, at_most=COALESCE_SECONDS_MAX
            ),
            section.seconds("timeout_seconds", TIMEOUT_SECONDS, at_most=TIMEOUT_SECONDS_MAX),
        )
    return FrozenMap(found)


def _webhook(section: Section, egress: EgressRules) -> WebhookConfig:
    url = section.text("url")
    plain = section.flag("plain_http_beyond_loopback")
    if url:
        _check_url(section, url, egress, plain_is_permitted=plain)
    current, earlier = read_secret(section, "secret"), read_secret(section, "previous_secret")
    if earlier is not None and current is None:
        section.refuse(
            "previous_secret_file",
            "there is no current secret",
            "secret_file or secret_credential",
            "neither",
        )
    for key, secret in (("secret_file", current), ("previous_secret_file", earlier)):
        if secret is not None:
            _check_secret(section, key, secret)
    return WebhookConfig(
        url,
        tuple(it for it in (current, earlier) if it is not None),
        read_secret(section, "token"),
        section.optional_path("ca_certificate_file", readable_file),
    )


def _check_url(
    section: Section, url: str, egress: EgressRules, *, plain_is_permitted: bool
) -> None:
    expected = "https:// and a host, without a user or a fragment"
    try:
        parts = urlsplit(url)
        is_fit = parts.port is None or parts.port > 0
    except ValueError:
        section.refuse("url", "not a URL", expected, quoted(url))
        return
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or not is_fit:
        section.refuse("url", "not a URL", expected, quoted(url))
    elif parts.username is not None or parts.fragment or not url.isascii():
        section.refuse("url", "cannot be used", expected, quoted(host))
    elif parts.scheme == "http" and not is_loopback(host) and not plain_is_permitted:
        section.refuse(
            "url",
            "plain HTTP beyond loopback",
            "https://, or plain_http_beyond_loopback = true",
            quoted(host),
        )
    elif not egress.permits(host):
        section.refuse("url", "host is not named", "one of egress.hosts", quoted(host))
    else:
        _check_address(section, host, egress)


def _check_address(section: Section, host: str, egress: EgressRules) -> None:
    """An address is judged now, since every attempt would be refused. A name may lead elsewhere by then."""
    try:
        ip_address(host)
    except ValueError:
        return
    try:
        egress.require(host, host)
    except EgressRefused as error:
        section.refuse("url", "address may not be called", error.expected, quoted(error.found))


def _check_secret(section: Section, key: str, secret: Secret) -> None:
    try:
        secret_of(secret.text())
    except MalformedSecret:
        section.refuse(key, "is no secret of a webhook", EXPECTED, "something else")
    except (OSError, UnicodeError):
        return  # Reported already, by where it is.


def _filter(section: Section) -> HookFilter:
    types = section.texts("types") or ()
    severity = section.choice("severity", Severity.ROUTINE if types else Severity.ACT)
    known = {it.value: it.severity for it in LineType}
    known |= {name: severity_of_type(name) for name in (*NEED_TYPES, ENDED)}
    for name in types:
        if name not in known:
            meant = closest(name, known)
            expected = "types of docs/spec/notifications.md" + (
                f", such as {meant}" if meant else ""
            )
            section.refuse("types", "unknown type", expected, quoted(name))
        elif known[name].rank < severity.rank:
            section.refuse(
                "severity",
                f"leaves {name} out",
                f"{known[name]} or less, or other types",
                str(severity),
            )
    kinds = section.texts("kinds") or ()
    for name in kinds:
        if name not in LOG_KINDS:
            section.refuse("kinds", "unknown kind", f"one of {', '.join(LOG_KINDS)}", quoted(name))
    return HookFilter(
        severity, types, kinds, section.texts("channels") or (), section.texts("rollouts") or ()
    )
