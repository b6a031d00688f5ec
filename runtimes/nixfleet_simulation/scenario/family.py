"""The kinds of faults, of which each can be left out."""

from enum import StrEnum


class Family(StrEnum):
    """The kind of a fault. `RELEASE` is not a fault: without releases nothing happens."""

    RELEASE = "release"
    OPERATOR = "operator"
    CI = "ci"
    NETWORK = "network"
    CLOCK = "clock"
    DISK = "disk"
    PROCESS = "process"
    HOST = "host"
    PROBE = "probe"
    TAKEOVER = "takeover"
    WIRE = "wire"
    PROXY = "proxy"
    IDENTITY = "identity"
    EXCHANGE = "exchange"
    ABSENCE = "absence"
    POLICY = "policy"
    STEERING = "steering"
    CALENDAR = "calendar"
    GUARDS = "guards"
    LEADERSHIP = "leadership"
