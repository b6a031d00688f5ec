"""`nixfleet notify`: what it checks, sends, shows and leaves for the process that runs."""

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from nixfleet_notify.delivery.engine import Save
from nixfleet_notify.delivery.sight import Outage, Sight
from nixfleet_notify.delivery.state import DeadLetter, HookState, Replay, Retry
from nixfleet_notify.files.stored import NotifierFiles
from nixfleet_notify.messages.message import Message
from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.storage.instance_lock import only_process_on
from tests.cli.conftest import Invoke
from tests.cli.test_json import error_in, require_json

AT = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
LETTER = DeadLetter(
    Message("abc.pager.17", "org.nixfleet.rollout.halted", '{"id":"17"}', 17, 17), 12, "no\x1b", AT
)
CONFIG = """
[control_plane]
url = "https://fleet.example.org"
operator = "bob"
key_file = "bob.key"
[files]
directory = "notifier"
[egress]
private_hosts = ["127.0.0.1"]
[hooks.pager]
kind = "webhook"
url = "{url}"
secret_file = "pager.secret"
[hooks.chat]
kind = "exec"
command = ["/bin/sh", "-c", "exit 3"]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A configuration with all that it names. Nobody listens at its webhook."""
    SigningKey.generate().save(tmp_path / "bob.key")
    secret = tmp_path / "pager.secret"
    secret.touch(mode=0o600)
    secret.write_text(f"whsec_{b64encode(b'k' * 32).decode()}")
    (tmp_path / "notify.toml").write_text(CONFIG.format(url="http://127.0.0.1:9"))
    return tmp_path


@pytest.fixture
def files(place: Path) -> NotifierFiles:
    """What a notifier has kept: the pager is done with row 17, which it gave up, and fails at row 20."""
    files = NotifierFiles(place / "notifier")
    files.prepare()
    sending = Message("abc.pager.20", "org.nixfleet.rollout.halted", '{"id":"20"}', 20, 20)
    state = HookState(
        cursor=19,
        sending=sending,
        attempts=2,
        failures=2,
        due_at=AT,
        problem="expected status 2xx, found 500",
        problem_at=AT,
        delivered=16,
    )
    files.save("pager", Save(state, dead=LETTER))
    files.save_sight(Sight(head=30, heard_at=AT, outage=Outage(AT, "connection refused")))
    return files


@contextmanager
def _listening(place: Path, status: int) -> Iterator[list[str]]:
    """Let the webhook answer with a status; yield the ids that it gets."""
    ids = list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            ids.append(self.headers["webhook-id"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        (place / "notify.toml").write_text(
            CONFIG.format(url=f"http://127.0.0.1:{server.server_port}/hook")
        )
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield ids
        finally:
            server.shutdown()
            thread.join()


def _on(place: Path, *arguments: str) -> list[str | Path]:
    name, *rest = arguments
    return ["notify", name, "--config", place / "notify.toml", *rest]


def test_check_shows_every_option_with_its_source(place: Path, nixfleet: Invoke) -> None:
    """As text, and as JSON; nothing is made."""
    shown = nixfleet(*_on(place, "check"))
    assert shown.exit_code == 0, shown.output
    assert 'hooks.pager.severity = "act"' in shown.stdout
    assert not (place / "notifier").exists()
    require_json("notify check", nixfleet(*_on(place, "check", "--json")))


def test_check_shows_every_problem_at_once(place: Path, nixfleet: Invoke) -> None:
    """Each with its path; a secret is never among what was found."""
    (place / "pager.secret").write_text("hunter2")
    (place / "bob.key").chmod(0o644)
    (place / "notify.toml").write_text(
        CONFIG.format(url="http://hooks.example.org/T0KEN")
        .replace("private_hosts =", 'hosts = ["10.1.2.3"]\nprivate_hosts =')
        .replace(
            'command = ["/bin/sh", "-c", "exit 3"]',
            'severity = "dire"\ntypes = ["rollout.halt"]\nkinds = ["gossip"]\ncoalesce_seconds = -1\n'
            'previous_secret_file = "pager.secret"',
        )
        + '[hooks."Bad Name"]\nkind = "exec"\n[hooks.fourth]\nkind = "pigeon"\n[hooks.third]\nkind = "webhook"\nurl = "https://other.example.org"\n'
        'types = ["rollout.complete"]\nseverity = "act"\nsecret_credential = "x"\n'
        '[hooks.fifth]\nkind = "webhook"\nurl = "https://10.1.2.3"\n'
    )
    shown = nixfleet(*_on(place, "check"))

    assert shown.exit_code == 1
    for path, words in (
        ("control_plane.key_file", "is accessible to other users"),
        ('hooks."Bad Name"', "not a name"),
        ("hooks.fourth.kind", "unknown value"),
        ("hooks.chat.coalesce_seconds", "out of range"),
        ("hooks.chat.command", "missing"),
        ("hooks.chat.kinds", "unknown kind"),
        ("hooks.chat.previous_secret_file", "unknown"),
        ("hooks.chat.severity", "unknown value"),
        ("hooks.chat.types", "such as rollout.halted"),
        ("hooks.pager.secret_file", "is no secret of a webhook"),
        ("hooks.pager.url", "plain HTTP beyond loopback"),
        ("hooks.third.secret_credential", "there are no credentials here"),
        ("hooks.third.severity", "leaves rollout.complete out"),
        ("hooks.third.url", "host is not named"),
        ("hooks.fifth.url", "egress.private_hosts"),
    ):
        assert any(
            line.strip().startswith(f"{path}: ") and words in line
            for line in " ".join(shown.stderr.split())
            .replace(" hooks.", "\n hooks.")
            .replace(" control_plane.", "\n control_plane.")
            .splitlines()
        ), (path, words, shown.stderr)
    assert "hunter2" not in shown.output
    assert "T0KEN" not in shown.output


def test_the_key_of_the_operator_is_a_file_or_a_credential(
    place: Path, nixfleet: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A credential may be readable for others as a file, since its directory is not; one of both is needed."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place))
    (place / "bob.key").chmod(0o440)
    written = (place / "notify.toml").read_text()
    for key, words in (
        ("", "control_plane.key_file: missing"),
        ('key_credential = "absent"', "control_plane.key_credential: does not exist"),
        ('key_credential = "../bob.key"', "control_plane.key_credential: not a name"),
        ('key_file = "bob.key"\nkey_credential = "bob.key"', "key_credential: set twice"),
        ('key_credential = "bob.key"', ""),
    ):
        (place / "notify.toml").write_text(written.replace('key_file = "bob.key"', key))
        shown = nixfleet(*_on(place, "check"))
        assert shown.exit_code == (1 if words else 0), shown.output
        assert words in " ".join(shown.stderr.split())


def test_a_sample_is_sent_once_and_its_answer_is_shown(place: Path, nixfleet: Invoke) -> None:
    """Delivered, refused, or nobody there."""
    with _listening(place, 204) as ids:
        (value,) = require_json(
            "notify test", nixfleet(*_on(place, "test", "--hook", "pager", "--json"))
        )
        assert [value["id"]] == ids
        assert nixfleet(*_on(place, "test", "--hook", "pager")).stdout.startswith("hook pager took")
    with _listening(place, 500) as ids:
        refused = nixfleet(*_on(place, "test", "--hook", "pager"))
        assert (refused.exit_code, len(ids)) == (1, 1)
        assert "did not take the sample: expected status 2xx, found 500" in refused.stderr
    failed = nixfleet(*_on(place, "test", "--hook", "chat", "--json"))
    assert "found 3" in str(error_in(failed)["message"])
    unknown = nixfleet(*_on(place, "test", "--hook", "pagr"))
    assert "did you mean pager?" in unknown.stderr


def test_status_shows_how_far_each_hook_is(
    place: Path, files: NotifierFiles, nixfleet: Invoke
) -> None:
    """What is under way, when it is tried again and why it failed; and that the control plane is silent."""
    shown = nixfleet(*_on(place, "status"))
    assert shown.exit_code == 0, shown.output
    assert "the control plane is silent since 2026-05-16 01:00:00Z" in shown.stdout
    assert (
        "pager\t19\t11\t1\tattempt 2 of abc.pager.20 failed, again at 2026-05-16 01:00:00Z: "
        "expected status 2xx, found 500" in shown.stdout
    )
    assert "chat\t\t0\t0\thas not begun" in shown.stdout
    pager, chat = require_json("notify status", nixfleet(*_on(place, "status", "--json")))
    assert (pager["behind"], pager["deadLetters"], chat["cursor"]) == (11, 1, None)

    files.save("pager", Save(HookState(cursor=19, disabled="status 410")))
    assert "disabled: status 410" in nixfleet(*_on(place, "status")).stdout


def test_dead_letters_are_shown_with_their_events(
    place: Path, files: NotifierFiles, nixfleet: Invoke
) -> None:
    """What the receiver said is escaped."""
    assert files.dead_ids("pager") == ("abc.pager.17",)
    shown = nixfleet(*_on(place, "dead"))
    assert "abc.pager.17" in shown.stdout
    assert r"no\x1b" in shown.stdout
    values = require_json("notify dead", nixfleet(*_on(place, "dead", "--hook", "pager", "--json")))
    assert [value["event"] for value in values] == [{"id": "17"}]
    assert nixfleet(*_on(place, "dead", "--hook", "chat")).stdout == ""


def test_a_retry_and_a_replay_are_left_for_the_process_that_runs(
    place: Path, files: NotifierFiles, nixfleet: Invoke
) -> None:
    """Also while it runs: these commands need no lock. What makes no sense is refused at once."""
    with only_process_on(files.directory / "notifier"):
        for arguments in (
            ("retry", "--hook", "chat"),
            ("retry", "--hook", "pager", "--dead", "abc.pager.17"),
            ("retry", "--hook", "pager", "--all-dead"),
            ("replay", "--hook", "pager", "--from", "18"),
        ):
            done = nixfleet(*_on(place, *arguments, "--json"))
            require_json(f"notify {arguments[0]}", done)
    unreadable = list[Path]()
    left = [
        (name, request)
        for _, name, request in files.requests(lambda path, _: unreadable.append(path))
    ]
    assert not unreadable
    assert sorted(left, key=repr) == sorted(
        [
            ("chat", Retry()),
            ("pager", Retry(("abc.pager.17",))),
            ("pager", Retry(("abc.pager.17",))),
            ("pager", Replay(18)),
        ],
        key=repr,
    )
    unknown = nixfleet(*_on(place, "retry", "--hook", "pager", "--dead", "abc.pager.18"))
    assert "has no dead letter abc.pager.18" in unknown.stderr
    ahead = nixfleet(*_on(place, "replay", "--hook", "pager", "--from", "20"))
    assert "expected a row up to 19" in ahead.stderr


def test_a_notifier_does_not_start_where_another_one_runs(
    place: Path, files: NotifierFiles, nixfleet: Invoke
) -> None:
    """Two would send everything twice."""
    with only_process_on(files.directory / "notifier"):
        refused = nixfleet(*_on(place, "run"))
    assert refused.exit_code == 2
    assert "is in use" in refused.stderr


def test_files_of_another_format_are_refused_and_left_as_they_are(
    place: Path, files: NotifierFiles, nixfleet: Invoke
) -> None:
    """And so are files that cannot be read: each says which one, and what to do."""
    for name, content, words in (
        ("format.json", '{"format":2}', "expected files of format 1, found format 2"),
        ("hooks/pager.json", "{", "hooks/pager.json"),
    ):
        file = files.directory / name
        before = file.read_bytes()
        file.write_text(content)
        for command in ("run", "status"):
            refused = nixfleet(*_on(place, command))
            assert refused.exit_code == 2, refused.output
            assert words in " ".join(refused.stderr.split()).replace(" ", "") or words in " ".join(
                refused.stderr.split()
            )
        assert file.read_text() == content
        file.write_bytes(before)


def test_a_state_survives_its_file(files: NotifierFiles) -> None:
    """Every field of a hook, of a dead letter and of what is known of the log."""
    assert files.hook("pager").attempts == 2
    assert files.dead("pager", "abc.pager.17") == LETTER
    assert files.sight().outage == Outage(AT, "connection refused")
    assert files.hook("new") == HookState()
    stored = json.loads((files.directory / "hooks" / "pager.json").read_text())
    assert stored["dueAt"] == "2026-05-16T01:00:00Z"
    assert (files.directory / "hooks" / "pager.json").stat().st_mode & 0o777 == 0o600
