"""Shared by both sides of the HTTP API: signatures, header names, bodies, problems. No sockets of its own, no
routes.
"""
