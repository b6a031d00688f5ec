"""The recipes of docs/how-to/recall-and-locks.md about locks: each program says what the page says that it does."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nixfleet_agent.engine.locks import ASK_AGAIN_DEFAULT, lock_answer
from nixfleet_agent.engine.state import LockAnswer
from nixfleet_agent.locks.lock import LockQuestion
from nixfleet_agent.locks.program import LockProgram
from nixfleet_proto.ids import RolloutId
from tests.docs.pages import blocks_of

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "recall-and-locks.md"
USER, BACKUP = (
    block.text for block in blocks_of(PAGE.read_text("utf-8")) if block.language == "sh"
)
PLACES = re.compile(r"/run/(?:lock/)?")


async def answer(directory: Path, recipe: str) -> LockAnswer:
    """Run a recipe whose files are in `directory`, as an agent does."""
    program = directory / "may-activate"
    program.write_text(PLACES.sub(f"{directory}/", recipe), encoding="utf-8")
    program.chmod(0o755)
    question = LockQuestion(RolloutId("stable@r1"), "closure", 1)
    outcome = await LockProgram((str(program),)).ask(question)
    return lock_answer(outcome, 1, ASK_AGAIN_DEFAULT, datetime.now(UTC))


async def test_a_user_who_does_nothing_special_lets_the_switch_begin(tmp_path: Path) -> None:
    """Neither file is there."""
    assert (await answer(tmp_path, USER)).may_begin


async def test_a_call_in_progress_postpones(tmp_path: Path) -> None:
    """With that reason, and no end of its own."""
    (tmp_path / "in-a-call").touch()
    said = await answer(tmp_path, USER)
    assert (said.may_begin, said.reason, said.is_broken) == (False, "a call is in progress", False)
    assert said.until - said.asked_at == ASK_AGAIN_DEFAULT


async def test_a_user_who_says_later_says_until_when(tmp_path: Path) -> None:
    """The time in the file is the end."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=5)
    (tmp_path / "remind-me-at").write_text(until.isoformat(), encoding="utf-8")
    said = await answer(tmp_path, USER)
    assert (said.reason, said.until) == ("the user asked for later", until)


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock of util-linux")
async def test_a_backup_postpones_while_it_runs(tmp_path: Path) -> None:
    """And not when it has ended; it is asked again in ten minutes."""
    import fcntl

    assert (await answer(tmp_path, BACKUP)).may_begin
    with (tmp_path / "backup").open("w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        said = await answer(tmp_path, BACKUP)
    assert (said.may_begin, said.reason) == (False, "the backup runs")
    assert timedelta(minutes=9) < said.until - said.asked_at <= timedelta(minutes=10)
