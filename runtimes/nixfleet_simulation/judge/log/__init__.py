"""Reads the control plane's log, its stored views and its answers, and compares them with the model."""
