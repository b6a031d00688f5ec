"""Hooks that do not tell what they should, as sentences for people. Reads a notifier's files, and writes none.

Source: docs/spec/notifications.md, Files.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from attrs import frozen

from nixfleet_notify.files.stored import NotifierFiles


@frozen
class HookTrouble:
    """What is wrong with a hook. text: that, a sentence. answer: what to do. since: `None`: not known.

    dead_letters: how many it has. problem: what was said at the last attempt; of the receiver, so hostile.
    """

    hook: str
    text: str
    answer: str
    since: datetime | None
    dead_letters: int
    problem: str


def troubles(files: NotifierFiles, hooks: Iterable[str]) -> Iterator[HookTrouble]:
    """Yield the hooks that are disabled, or have dead letters. Blocks. Raises: OSError, UnusableFiles."""
    for name in hooks:
        state, dead = files.hook(name), files.dead_ids(name)
        last = files.dead(name, dead[-1]) if dead else None
        count = f"{len(dead)} dead letter{'' if len(dead) == 1 else 's'}"
        if state.disabled:
            has = f" It has {count}." if dead else ""
            yield HookTrouble(
                name,
                f"Hook {name} is disabled: {state.disabled}. Nothing is told by it.{has}",
                "Mend what it tells, and let it try again.",
                state.problem_at,
                len(dead),
                state.problem,
            )
        elif last is not None:
            yield HookTrouble(
                name,
                f"Hook {name} has {count}: messages that were given up after {last.attempts} attempts.",
                "Mend what it tells, and send them again.",
                last.at,
                len(dead),
                last.problem,
            )
