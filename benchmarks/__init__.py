"""What it carries, measured beside its peers and the limits of the machine. One file per workload.

A workload is a module with `figures(scale)`; it says in its docstring what is measured and what is not. `harness`
measures, `report` and `picture` show, `__main__` runs each workload in a process of its own.
"""
