"""Decides whether a run kept its promises, from a model of its own; shares no decision with what it judges."""
