"""Where the `nixfleet` script and `python -m nixfleet_cli` begin: also without the libraries that the command needs."""

from nixfleet_cli.shared.extras import exit_without


def run() -> None:
    """Run the command. Without its libraries, name the extra that brings them and exit with code 2."""
    try:
        from nixfleet_cli.main import main
    except ModuleNotFoundError as error:
        exit_without(error, "nixfleet")
    main(prog_name="nixfleet")


if __name__ == "__main__":
    run()
