"""Where the `nixfleet` script and `python -m nixfleet_cli` begin: also without the libraries that the command needs."""

import sys
from importlib.metadata import version

from nixfleet_cli.shared.extras import exit_without, missing_extra


def run() -> None:
    """Run the command. Without its libraries, name the extra that brings them and exit with code 2.

    --version and --help need no library and exit with code 0.
    """
    try:
        from nixfleet_cli.main import main
    except ModuleNotFoundError as error:
        _answer_alone(error, sys.argv[1:])
        exit_without(error, "nixfleet")
    main(prog_name="nixfleet")


def _answer_alone(error: ModuleNotFoundError, arguments: list[str]) -> None:
    line = missing_extra(error, "nixfleet")
    if line is None:
        return
    if arguments == ["--version"]:
        sys.stdout.write(f"nixfleet {version('nixfleet')}\n")
    elif arguments in (["--help"], ["-h"]):
        sys.stdout.write(f"Usage: nixfleet [OPTIONS] COMMAND [ARGS]...\n\n{line}\n")
    else:
        return
    sys.exit(0)


if __name__ == "__main__":
    run()
