"""What is to come: the production engine run forward on a copy of a fleet, under durations of its own log.

Pure: a state comes in, a forecast goes out. Time and the seed of chance are arguments; nothing is written.
Source: docs/spec/forecast.md.
"""
