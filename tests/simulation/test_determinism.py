"""The same seed gives the same trace, whatever the process."""

import os
import subprocess
import sys

from nixfleet_simulation.run.run import run
from nixfleet_simulation.scenario.generate import draw

SEED = 3
PROGRAM = f"""
from nixfleet_simulation.scenario.generate import draw
from nixfleet_simulation.run.run import run
print(run(draw({SEED}, 4, 0.05)).trace.digest())
"""


def _digest_in_a_process(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


def test_a_seed_that_is_run_again_in_another_process_gives_the_same_trace() -> None:
    """Neither hashes of text nor addresses decide anything."""
    assert _digest_in_a_process("1") == _digest_in_a_process("2")


def test_other_seeds_give_other_traces() -> None:
    """The seed decides."""
    digests = {run(draw(seed, 3, 0.02)).trace.digest() for seed in (1, 2, 3)}

    assert len(digests) == 3


def test_kept_lines_are_what_was_hashed() -> None:
    """Keeping the text changes nothing."""
    scenario = draw(SEED, 3, 0.02)
    kept = run(scenario, keeps_lines=True)

    assert kept.trace.digest() == run(scenario).trace.digest()
    assert kept.trace.lines
