"""`python -m nixfleet_testing.explore`. All else is in `command`, which processes can import."""

import sys

from nixfleet_testing.explore.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
