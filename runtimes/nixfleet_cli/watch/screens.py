"""Where `nixfleet watch` shows: a picture that lives in a terminal, lines in a pipe, objects for programs."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live

from nixfleet_cli.commands.operator_log import cells
from nixfleet_cli.shared.output import Output, note
from nixfleet_cli.watch.following import Look, Screen
from nixfleet_cli.watch.picture import NO_ROLLOUT, Size, picture
from nixfleet_runtime.http.listings import ListedRow
from nixfleet_runtime.http.overview import OVERVIEW
from nixfleet_runtime.kernel.clock import Clock
from nixfleet_runtime.kernel.visible import visible

_REDRAWS_PER_SECOND: Final = 4
_LINES_KEPT: Final = 100
_ROUTINE: Final = "routine"


class LivePicture:
    """For terminals. Between two answers the picture is drawn anew, for its times go on."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._look: Look | None = None
        self._behind = timedelta()
        self._silence: str | None = None
        self._lines = deque[ListedRow](maxlen=_LINES_KEPT)

    def show(self, look: Look) -> None:
        self._look, self._silence = look, None
        # Spans are the control plane's, and this machine's clock may be off.
        self._behind = look.overview.now - self._clock.now()
        self._lines.extend(look.lines)

    def show_silence(self, why: str) -> None:
        self._silence = why

    def drawn(self) -> RenderableType:
        """Return the picture of now."""
        if self._look is None:
            return ""
        now, (width, height) = self._clock.now() + self._behind, self._console.size
        return picture(self._look, tuple(self._lines), now, self._silence, Size(width, height))


class Lines:
    """For pipes and files: the headlines when they change, and lines of the log that are no routine."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._headlines: tuple[str, ...] = ()

    def show(self, look: Look) -> None:
        for line in look.lines:
            if line.severity != _ROUTINE:
                self._print("  ".join(filter(None, cells(line))))
        headlines = tuple(each.headline for each in look.overview.rollouts)
        for headline in headlines or (NO_ROLLOUT,):
            if headline not in self._headlines:
                self._print(headline)
        self._headlines = headlines or (NO_ROLLOUT,)

    def show_silence(self, why: str) -> None:
        note(f"no answer, asked again: {why}")

    def _print(self, text: str) -> None:
        self._console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


class Objects:
    """For programs: an overview whenever it has changed, one a line."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._head: int | None = None

    def show(self, look: Look) -> None:
        if look.overview.head != self._head:
            self._head = look.overview.head
            self._output.rows([OVERVIEW.spelling.converter.unstructure(look.overview)], (), ())

    def show_silence(self, why: str) -> None:
        note(f"no answer, asked again: {why}")


@contextmanager
def screen_for(output: Output, console: Console, clock: Clock) -> Iterator[Screen]:
    """Yield the screen that suits where is printed, for as long as the context is open."""
    if output.as_json:
        yield Objects(output)
    elif not console.is_terminal:
        yield Lines(console)
    else:
        screen = LivePicture(console, clock)
        live = Live(
            console=console,
            get_renderable=screen.drawn,
            refresh_per_second=_REDRAWS_PER_SECOND,
            vertical_overflow="crop",
        )
        with live:
            yield screen
