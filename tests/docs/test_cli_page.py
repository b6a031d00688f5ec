"""docs/reference/cli.md is what the command itself says."""

from nixfleet_cli.shared.reference import reference
from tests.docs.pages import DOCS


def test_the_page_is_generated_from_the_command() -> None:
    """After a change to a help text, write the page again; the message has the command."""
    assert (DOCS / "reference" / "cli.md").read_text("utf-8").strip() == reference().strip(), (
        "write it again: .venv/bin/python -m nixfleet_cli.shared.reference > docs/reference/cli.md"
    )
