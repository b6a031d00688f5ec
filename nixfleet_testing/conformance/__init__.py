"""Checks implementations against recorded vectors. Takes vectors, returns differences as data; no test framework here.

One module per kind of vector (`host`, `rollout`, `planner`, `wire`): it reads a row and runs it. What they share:
`vector_file` reads lines, `reference_json` knows the recorder's names, `answer` compares. A checker takes the
function under test as an argument, so another implementation can be held to the same vectors.
"""
