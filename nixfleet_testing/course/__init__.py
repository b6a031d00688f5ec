"""The simplest control plane: reducers and planner, called in the order in which the engine calls them.

The exploration and the state machines for Hypothesis share it. Nothing is decided here.
"""
