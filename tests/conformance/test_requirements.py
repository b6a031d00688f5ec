"""What the checkers need: no test framework, so that any project can run the vectors."""

import subprocess
import sys

WITHOUT_HYPOTHESIS = """
import sys
sys.modules["hypothesis"] = sys.modules["pytest"] = None
import nixfleet_testing.conformance.host
import nixfleet_testing.conformance.rollout
import nixfleet_testing.conformance.vector_file
"""


def test_importing_the_checkers_without_a_test_framework_succeeds() -> None:
    """Host and rollout checkers import where neither Hypothesis nor pytest can be."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HYPOTHESIS], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
