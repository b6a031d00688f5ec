"""`nixfleet demo --ui`: the story of the demonstration on the page, until the one who looks on has seen enough."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2

from nixfleet_cli.demo.page import OVER
from nixfleet_ui.admission import TOKEN_HEADER

ENDS_WITHIN_SECONDS = 30


def test_the_demonstration_is_shown_on_the_page(tmp_path: Path) -> None:
    """Its rollouts are there, signed by ada; ^C after the story ends it as a demonstration that went well."""
    runtime = tmp_path / "run"
    runtime.mkdir()
    command = (sys.executable, "-m", "nixfleet_cli", "demo", "--ui", "--hosts", "3")
    with subprocess.Popen(
        (*command, "--speed", "600"),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "BROWSER": "true", "XDG_RUNTIME_DIR": str(runtime)},
    ) as process:
        assert process.stdout is not None
        told = list[str]()
        for line in process.stdout:
            told.append(line)
            if OVER in line:
                break
        assert OVER in told[-1], told
        (file,) = runtime.glob("*/open.html")
        address = re.search(r"(http://[0-9.:]+)/#([\w-]+)", file.read_text())
        assert address
        overview = _asked(address[1], address[2], "/v1/overview")
        (rollout,) = overview["rollouts"]
        assert rollout["course"] == "complete"
        assert overview["you"]["name"] == "ada"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=ENDS_WITHIN_SECONDS)
        assert process.returncode == 0, rest
    assert list(runtime.iterdir()) == []


def _asked(origin: str, token: str, path: str) -> Any:
    headers = {
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Mode": "cors",
        TOKEN_HEADER: token,
    }
    answer = httpx2.get(f"{origin}{path}", headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()
