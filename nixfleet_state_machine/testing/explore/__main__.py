"""`python -m nixfleet_state_machine.testing.explore`. All else is in `command`, which processes can import."""

import sys

from nixfleet_state_machine.testing.explore.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
