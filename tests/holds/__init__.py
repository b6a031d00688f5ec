"""Holds, windows and freezes."""
