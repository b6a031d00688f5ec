"""The words of one scenario command, read from left to right. An error names file, line and what was expected."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from nixfleet_runtime.documents.problems import closest

ValueT = TypeVar("ValueT")

_DURATION = re.compile(r"(\d+)(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@frozen
class Place:
    """A line of a scenario file; lines count from 1."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class ScenarioError(Exception):
    """The scenario is not what it should be. problem: what was expected and what was found."""

    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


class Words:
    """The words of one command that are still to be read."""

    def __init__(self, place: Place, text: str) -> None:
        self.place = place
        self._left = text.split()

    def __bool__(self) -> bool:
        return bool(self._left)

    def error(self, expected: str, found: str | None) -> ScenarioError:
        """Return the error of a word that is not what was expected."""
        end = "the end of the command" if found is None else repr(found)
        return ScenarioError(self.place, f"expected {expected}, found {end}")

    def word(self, expected: str) -> str:
        """Return the next word. Raises: ScenarioError, if there is none."""
        if not self._left:
            raise self.error(expected, None)
        return self._left.pop(0)

    def peek(self) -> str | None:
        """Return the next word without reading it, if there is one."""
        return self._left[0] if self._left else None

    def rest(self) -> str:
        """Return all words that are left, as text."""
        text = " ".join(self._left)
        self._left.clear()
        return text

    def one_of(self, expected: str, known: Collection[str]) -> str:
        """Return the next word, which is one of `known`. Raises: ScenarioError, with the word that was meant."""
        word = self.word(expected)
        if word not in known:
            meant = closest(word, known)
            hint = f"; did you mean {meant}?" if meant else ""
            one_of = f"{expected}: one of {', '.join(sorted(known))}"
            raise ScenarioError(self.place, f"expected {one_of}, found {word!r}{hint}")
        return word

    def optional(self, keyword: str) -> bool:
        """Read `keyword` if it is the next word; return whether it was."""
        if self._left and self._left[0] == keyword:
            self._left.pop(0)
            return True
        return False

    def names_until(self, keywords: Collection[str], expected: str) -> list[str]:
        """Return at least one word, up to the next of `keywords`."""
        names = [self.word(expected)]
        while self._left and self._left[0] not in keywords:
            names.append(self._left.pop(0))
        return names

    def number(self, expected: str) -> int:
        """Return the next word as a number."""
        word = self.word(expected)
        if not word.isdecimal():
            raise self.error(expected, word)
        return int(word)

    def numbers(self, expected: str) -> list[int]:
        """Return at least one number, up to the next word that is none."""
        numbers = [self.number(expected)]
        while self._left and self._left[0].isdecimal():
            numbers.append(self.number(expected))
        return numbers

    def seconds(self) -> int:
        """Return the next word, a duration like 30s, 5m or 73h, in seconds."""
        expected = "a duration like 30s, 5m or 2h"
        word = self.word(expected)
        match = _DURATION.fullmatch(word)
        if match is None or int(match[1]) == 0:
            raise self.error(expected, word)
        return int(match[1]) * _SECONDS[match[2]]

    def end(self) -> None:
        """Raises: ScenarioError, if a word is left."""
        if self._left:
            raise self.error("the end of the command", self._left[0])
