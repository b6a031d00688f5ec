"""One module per command: arguments in, a call into a package below, text or JSON out."""
