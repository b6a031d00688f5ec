"""Frozen data that both sides of a fleet exchange: facts, wire messages, fleets, manifests, trust.

Everything here but `codec` and `signing` needs attrs alone. Import from the modules.
"""
