"""`nixfleet log checkpoint|prove`, `log verify --checkpoint` and the verifier in examples/, another program."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from nixfleet_control_plane.messages.log_entry import chain_hash
from nixfleet_control_plane.store.sqlite_store import read_chain
from nixfleet_proto.codec import encode_trust_root
from nixfleet_proto.signing import SigningKey
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot
from tests.cli.conftest import Invoke
from tests.engines.small_fleet import SmallFleet

ROOT = Path(__file__).parents[2]
CI = SigningKey(b"c" * 32)
ADA = SigningKey(b"a" * 32)
VERIFIER = ROOT / "examples" / "verify_log_proof.py"


@frozen
class Office:
    """The files of the people around a log: keys and the trust file."""

    directory: Path
    nixfleet: Invoke

    def __attrs_post_init__(self) -> None:
        """Write them."""
        CI.save(self.directory / "ci.key")
        ADA.save(self.directory / "ada.key")
        self.believe(KeySlot(CI.public_key))

    def believe(self, ci_key: KeySlot) -> None:
        """Write the trust file, with CI's key."""
        operators = (Operator("ada", ADA.public_key, OperatorRole.OPERATE),)
        self.trust.write_bytes(encode_trust_root(TrustRoot(ci_key, None, operators)))

    @property
    def trust(self) -> Path:
        """The trust file."""
        return self.directory / "trust.json"

    def checkpoint(
        self, database: Path, name: str = "checkpoint.json", signer: str = "ada"
    ) -> Path:
        """Have a checkpoint signed; return its file."""
        file = self.directory / name
        key = self.directory / f"{signer}.key"
        made = self.nixfleet(
            "log", "checkpoint", database, "--key", key, "--signer", signer, "--to", file
        )
        assert made.exit_code == 0, made.output
        return file

    def prove(self, database: Path, checkpoint: Path, *arguments: str | Path) -> Path:
        """Have a proof made; return its file."""
        file = self.directory / "proof.json"
        made = self.nixfleet(
            "log", "prove", database, "--checkpoint", checkpoint, *arguments, "--to", file
        )
        assert made.exit_code == 0, made.output
        return file


@pytest.fixture
def office(tmp_path: Path, nixfleet: Invoke) -> Office:
    """Keys and a trust file."""
    directory = tmp_path / "office"
    directory.mkdir()
    return Office(directory, nixfleet)


def _audit(proof: Path, *signers: tuple[str, SigningKey]) -> subprocess.CompletedProcess[str]:
    """Run the verifier, which must need nothing of nixfleet."""
    keys = [f"{name}={key.public_key.public_key}" for name, key in signers]
    code = (
        "import runpy, sys\n"
        f"sys.argv = {[str(VERIFIER), str(proof), *keys]!r}\n"
        "try:\n"
        f"    runpy.run_path({str(VERIFIER)!r}, run_name='__main__')\n"
        "finally:\n"
        "    assert not [name for name in sys.modules if name.startswith('nixfleet')]\n"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _edit(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        for each in ("update", "delete"):
            connection.execute(f"DROP TRIGGER IF EXISTS event_log_is_append_only_{each}")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def _write_anew(database: Path, seq: int = 7, **changes: Any) -> None:
    """Alter a row and make the chain right again, as everyone who holds the database can."""
    with closing(sqlite3.connect(database)) as connection:
        rows = list(read_chain(connection))
    head, statements = rows[seq - 2][2], list[str]()
    for row, _, _ in rows[seq - 1 :]:
        altered = changes if row.seq == seq else {}
        before, head = head, chain_hash(head, row._replace(**altered))
        texts = {name: f"'{text}'" for name, text in altered.items()}
        texts |= {"prev_hash": f"x'{before.hex()}'", "hash": f"x'{head.hex()}'"}
        values = ", ".join(f"{name} = {text}" for name, text in texts.items())
        statements.append(f"UPDATE event_log SET {values} WHERE seq = {row.seq}")
    _edit(database, *statements)


def _first_report(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        seqs = connection.execute("SELECT min(seq) FROM event_log WHERE kind = 'agent_events'")
        return int(seqs.fetchone()[0])


@pytest.mark.parametrize("signer", ["ada", "ci"])
def test_a_log_that_grew_continues_its_checkpoint(
    signer: str, office: Office, fleet: SmallFleet, nixfleet: Invoke
) -> None:
    """A checkpoint of an operator or of CI is good for every later time."""
    office.believe(KeySlot(CI.public_key, fleet.ci.trust.ci_release_key.current))
    checkpoint = office.checkpoint(fleet.database, signer=signer)
    fleet.publish("r3")

    verified = nixfleet(
        "log",
        "verify",
        fleet.database,
        "--trust",
        office.trust,
        "--checkpoint",
        checkpoint,
        "--json",
    )

    rows = json.loads(verified.stdout)
    assert rows["checkpoints"] == [json.loads(checkpoint.read_text())["checkpoint"]["rows"]]
    assert rows["checkpoints"][0] < rows["rows"]


def test_a_tail_that_was_cut_off_is_found_by_the_checkpoint_alone(
    office: Office, database: Path, nixfleet: Invoke
) -> None:
    """The chain of what is left holds; only the checkpoint tells that there was more."""
    checkpoint = office.checkpoint(database)
    _edit(database, "DELETE FROM event_log WHERE seq > 20")

    alone = nixfleet("log", "verify", database)
    verified = nixfleet(
        "log", "verify", database, "--trust", office.trust, "--checkpoint", checkpoint
    )

    assert alone.exit_code == 0
    assert verified.exit_code == 1
    assert "expected at least" in verified.stderr
    assert "rows, found 20; rows were cut off or rewritten after it was signed" in verified.stderr


def test_a_log_that_was_written_anew_is_found_by_the_checkpoint_alone(
    office: Office, database: Path, nixfleet: Invoke
) -> None:
    """A control plane can alter a row and make every hash after it right; not the one that was signed before."""
    checkpoint = office.checkpoint(database)
    _write_anew(database, ts="2020-01-01T00:00:00.000000Z")

    alone = nixfleet("log", "verify", database)
    verified = nixfleet(
        "log", "verify", database, "--trust", office.trust, "--checkpoint", checkpoint
    )

    assert alone.exit_code == 0
    assert verified.exit_code == 1
    assert "does not continue the checkpoint" in verified.stderr
    assert "expected head " in verified.stderr


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ('"signer":"ada"|"signer":"eve"', "found 'eve'"),
        ('"signer":"ada"|"signer":"ci"', "signed by none of the trusted keys"),
        ('"rows":|"rows":1', "signed by none of the trusted keys"),
        ('"root":"|"root":"x', "expected 64 lower-case hexadecimal digits"),
        ("{|[", "checkpoint.json"),
    ],
)
def test_a_checkpoint_that_was_changed_is_refused(
    change: str, why: str, office: Office, database: Path, nixfleet: Invoke
) -> None:
    """Its signer, its count and its root are signed, and its form is checked."""
    checkpoint = office.checkpoint(database)
    before, after = change.split("|")
    checkpoint.write_text(checkpoint.read_text().replace(before, after, 1))

    verified = nixfleet(
        "log", "verify", database, "--trust", office.trust, "--checkpoint", checkpoint
    )

    assert verified.exit_code == 1
    assert why in verified.stderr


def test_a_checkpoint_without_a_trust_file_is_a_usage_error(
    office: Office, database: Path, nixfleet: Invoke
) -> None:
    """Without one nobody knows who may sign it."""
    verified = nixfleet("log", "verify", database, "--checkpoint", office.checkpoint(database))

    assert verified.exit_code == 2
    assert "expected --trust" in verified.stderr


def test_a_checkpoint_of_an_operator_who_left_is_checked_by_the_trust_file_of_its_time(
    office: Office, fleet: SmallFleet, nixfleet: Invoke
) -> None:
    """It is good with the file from before, and with no other."""
    checkpoint = office.checkpoint(fleet.database)
    before = office.directory / "before.json"
    office.believe(KeySlot(CI.public_key, fleet.ci.trust.ci_release_key.current))
    office.trust.rename(before)
    office.trust.write_bytes(
        encode_trust_root(TrustRoot(KeySlot(CI.public_key, fleet.ci.trust.ci_release_key.current)))
    )
    verify = ["log", "verify", fleet.database, "--trust", office.trust, "--checkpoint", checkpoint]

    alone = nixfleet(*verify)
    with_both = nixfleet(*verify, "--trust-until", "2099-01-01T00:00:00Z", before)

    assert alone.exit_code == 1
    assert "found 'ada'" in alone.stderr
    assert with_both.exit_code == 0, with_both.output


def test_reports_are_checked_by_the_keys_of_their_hosts(
    office: Office, fleet: SmallFleet, nixfleet: Invoke
) -> None:
    """A fleet in one process signs nothing; a report with a signature that no host made is found."""
    office.believe(KeySlot(CI.public_key, fleet.ci.trust.ci_release_key.current))
    verify = ["log", "verify", fleet.database, "--trust", office.trust, "--signatures"]
    honest = nixfleet(*verify)
    fleet.store.close()
    row = _first_report(fleet.database)
    _write_anew(fleet.database, row, signature="0" * 128)

    forged = nixfleet(*verify)

    assert honest.exit_code == 0, honest.output
    assert "facts signed by their hosts: 0; " in honest.stdout
    assert forged.exit_code == 1
    assert f"row {row}: the report of web-01 is not proved: " in forged.stderr
    assert nixfleet(*verify[:3]).exit_code == 0
    assert nixfleet(*verify[:3], "--signatures").exit_code == 2


def test_of_many_problems_people_are_shown_twenty_and_json_has_all(
    office: Office, fleet: SmallFleet, nixfleet: Invoke
) -> None:
    """A log in which no report is good does not fill a terminal."""
    office.believe(KeySlot(CI.public_key, fleet.ci.trust.ci_release_key.current))
    fleet.publish("r3")
    fleet.pass_time(minutes=15)
    fleet.store.close()
    for row in _reports(fleet.database)[:30]:
        _write_anew(fleet.database, row, signature="0" * 128)
    verify = ["log", "verify", fleet.database, "--trust", office.trust, "--signatures"]

    text, as_json = nixfleet(*verify), nixfleet(*verify, "--json")

    error = json.loads(as_json.stdout)["error"]
    everything = [error["message"], *error["details"]]
    assert len(everything) > 25
    *shown, last = text.stderr.splitlines()
    assert [line.removeprefix("Error: ") for line in shown] == everything[:20]
    assert last == f"and {len(everything) - 20} more; --json has all"


def _reports(database: Path) -> list[int]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT seq FROM event_log WHERE kind = 'agent_events'")
        return [seq for (seq,) in rows]


def test_no_checkpoint_is_made_of_a_log_that_is_broken(
    office: Office, database: Path, nixfleet: Invoke
) -> None:
    """A signature under damage would make it look right."""
    _edit(database, "UPDATE event_log SET ts = '2020-01-01T00:00:00.000000Z' WHERE seq = 7")
    file = office.directory / "new.json"

    made = nixfleet(
        *("log", "checkpoint", database, "--signer", "ada", "--to", file),
        *("--key", office.directory / "ada.key"),
    )

    assert made.exit_code == 1
    assert "the chain breaks at row 7" in made.stderr
    assert not file.exists()


def test_a_stranger_verifies_rows_and_history_with_public_keys_alone(
    office: Office, fleet: SmallFleet
) -> None:
    """The proof holds for another program, which has neither the log nor nixfleet."""
    earlier = office.checkpoint(fleet.database, "earlier.json")
    fleet.publish("r3")
    fleet.pass_time(minutes=10)
    checkpoint = office.checkpoint(fleet.database, signer="ci")
    size = json.loads(checkpoint.read_text())["checkpoint"]["rows"]
    proof = office.prove(
        fleet.database, checkpoint, "--row", "1", "--row", str(size), "--earlier", earlier
    )

    audited = _audit(proof, ("ci", CI), ("ada", ADA))

    assert audited.returncode == 0, audited.stderr
    lines = audited.stdout.splitlines()
    assert lines[0].startswith("'ci' vouched at ")
    assert lines[1] == "row 1 stands in it:"
    assert lines[2].startswith("  ts: '20")
    assert f"row {size} stands in it:" in lines
    assert lines[-1].endswith(", unchanged")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rows", 0, "text"), "1:1"),
        (("rows", 0, "seq"), 6),
        (("rows", 0, "prevHash"), "00" * 32),
        (("rows", 0, "path", 0), "00" * 32),
        (("rows", 0, "path"), []),
        (("continued",), []),
        (("continued", 0), "00" * 32),
        (("checkpoint", "checkpoint", "rows"), 7),
        (("checkpoint", "signature"), "00" * 64),
        (("earlier", "checkpoint", "root"), "00" * 32),
    ],
)
def test_a_proof_with_anything_changed_does_not_hold(
    path: tuple[str | int, ...], value: object, office: Office, fleet: SmallFleet
) -> None:
    """Every part of it counts."""
    earlier = office.checkpoint(fleet.database, "earlier.json")
    fleet.publish("r3")
    checkpoint = office.checkpoint(fleet.database)
    proof = office.prove(fleet.database, checkpoint, "--row", "7", "--earlier", earlier)
    content = json.loads(proof.read_text())
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    assert inner[path[-1]] != value
    inner[path[-1]] = value
    proof.write_text(json.dumps(content))

    audited = _audit(proof, ("ada", ADA))

    assert audited.returncode == 1
    assert "the proof does not hold" in audited.stderr


def test_a_proof_of_another_signer_does_not_hold(office: Office, database: Path) -> None:
    """The auditor's own keys decide."""
    proof = office.prove(database, office.checkpoint(database), "--row", "7")

    assert _audit(proof, ("ci", CI)).returncode == 1
    assert _audit(proof).returncode == 2
    assert _audit(office.directory / "none.json", ("ada", ADA)).returncode == 2


def test_a_checkpoint_that_a_signer_made_in_the_name_of_another_does_not_hold(
    office: Office, database: Path
) -> None:
    """Each key that the auditor has is one person's."""
    file = office.directory / "forged.json"
    key = office.directory / "ada.key"
    made = office.nixfleet(
        "log", "checkpoint", database, "--key", key, "--signer", "ci", "--to", file
    )
    assert made.exit_code == 0

    audited = _audit(office.prove(database, file, "--row", "7"), ("ci", CI), ("ada", ADA))

    assert audited.returncode == 1
    assert "no key that was given for 'ci' signed the checkpoint" in audited.stderr


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"checkpoint": 7}',
        '{"checkpoint": {"checkpoint": {"signer": "ada"}, "signature": 7}}',
        "[" * 100_000,
        "{",
    ],
)
def test_what_is_no_proof_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    """Whatever is in the file: it comes from those who are audited."""
    proof = tmp_path / "proof.json"
    proof.write_text(text)

    audited = _audit(proof, ("ada", ADA))

    assert audited.returncode in (1, 2)
    assert len(audited.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["", 7, "-", "9", None])
def test_a_row_that_is_no_row_is_refused_in_one_line(
    text: object, office: Office, database: Path
) -> None:
    """Under a checkpoint that is good."""
    proof = office.prove(database, office.checkpoint(database), "--row", "7")
    said = json.loads(proof.read_text())
    said["rows"][0]["text"] = text
    proof.write_text(json.dumps(said))

    audited = _audit(proof, ("ada", ADA))

    assert audited.returncode == 1
    assert len(audited.stderr.splitlines()) == 1


def test_a_key_without_its_signer_is_a_usage_error(tmp_path: Path) -> None:
    """The line says what is expected."""
    audited = _audit(tmp_path / "proof.json", ("", ADA))

    assert audited.returncode == 2
    assert "expected SIGNER=PUBLIC_KEY" in audited.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [((), "expected what to prove"), (("--row", "9999"), "expected a row from 1 to ")],
)
def test_a_proof_of_nothing_or_of_no_row_is_refused(
    arguments: tuple[str, ...], why: str, office: Office, database: Path, nixfleet: Invoke
) -> None:
    """Each has its own error."""
    file, checkpoint = office.directory / "proof.json", office.checkpoint(database)

    made = nixfleet("log", "prove", database, "--checkpoint", checkpoint, *arguments, "--to", file)

    assert made.exit_code in (1, 2)
    assert why in made.stderr
    assert not file.exists()
