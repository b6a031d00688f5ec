"""Decides whether a run kept its promises, with an independent model that shares no code with what it judges."""
