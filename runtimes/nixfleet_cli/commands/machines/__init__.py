"""Commands for the machines that services run on."""
