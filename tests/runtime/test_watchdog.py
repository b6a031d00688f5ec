"""Signs of life for systemd: when they are sent, and what they say."""

import os

from nixfleet_runtime.process.service_manager import Watchdog


class Heard:
    """What systemd hears of a watchdog, and a clock that a test moves."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.messages: list[str] = []
        self.seconds = 0.0
        self.watchdog = Watchdog(
            environ=environ, send=self.messages.append, now=lambda: self.seconds
        )

    def beat_at(self, *seconds: float) -> int:
        """Let a batch end at each of these times; return how many messages that made."""
        before = len(self.messages)
        for self.seconds in seconds:
            self.watchdog.beat(1)
        return len(self.messages) - before


def test_batches_within_half_of_the_time_make_one_sign_of_life() -> None:
    """systemd asks for one in four seconds, and gets one in two, however many batches there are."""
    heard = Heard({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())})

    assert heard.beat_at(0, 0.1, 1.9) == 1
    assert heard.beat_at(2.0, 2.1) == 1


def test_a_watchdog_of_minutes_still_gets_a_status_of_seconds() -> None:
    """The line is what an operator reads in `systemctl status`; it is never older than ten seconds and a batch."""
    heard = Heard({"WATCHDOG_USEC": "180000000"})

    assert heard.beat_at(0, 9.9) == 1
    assert heard.beat_at(10.0) == 1


def test_a_watchdog_of_another_process_does_not_set_the_pace() -> None:
    """The variables are inherited; those of a parent say nothing about this process."""
    heard = Heard({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"})

    assert heard.beat_at(0, 5, 9) == 1


def test_a_watchdog_that_is_no_number_is_taken_for_none() -> None:
    """An environment that somebody wrote by hand does not end the service."""
    assert Heard({"WATCHDOG_USEC": "soon"}).beat_at(0, 9) == 1


def test_a_status_of_several_lines_is_one_line() -> None:
    """A closure's name from elsewhere cannot add an assignment, and a long one is cut."""
    heard = Heard({})
    heard.watchdog.status = lambda: "runs a\nMAINPID=1" + "x" * 300

    heard.beat_at(0)

    (message,) = heard.messages
    first, second = message.split("\n")
    assert first == "WATCHDOG=1"
    assert second.startswith("STATUS=runs a\\x0aMAINPID=1xx")
    assert len(second) == len("STATUS=") + 200
