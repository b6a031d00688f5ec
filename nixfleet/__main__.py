"""`python -m nixfleet`: the command `nixfleet`. Imports nothing of it: the library does not need its packages."""

from importlib import import_module

if __name__ == "__main__":
    import_module("nixfleet_cli.__main__").run()
