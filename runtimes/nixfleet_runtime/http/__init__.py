"""What both sides of the HTTP surface must agree on: signatures, header names, problems. No sockets, no routes."""
