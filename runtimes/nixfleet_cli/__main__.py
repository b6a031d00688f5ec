"""`python -m nixfleet_cli`: the same as `nixfleet`, for where the script is not on the path."""

from nixfleet_cli.main import main

if __name__ == "__main__":
    main(prog_name="nixfleet")
