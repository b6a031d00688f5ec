"""The control plane's decisions, sans I/O: inputs in, one commit out. Nothing here awaits, reads a clock or opens a
file.
"""
