"""A forecast in lines for people. Times are in UTC; a range is from P10 to P90, with P50 between.

Source: docs/spec/forecast.md, What is shown.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from nixfleet_control_plane.overview.words import hosts_words
from nixfleet_runtime.http.forecasts import (
    Forecast,
    RolloutForecast,
    SlowHost,
    Span,
    StageKnown,
    WaveForecast,
)

_AT: Final = "%Y-%m-%d %H:%MZ"
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE


def forecast_lines(forecast: Forecast) -> Iterator[str]:
    """Yield a forecast, a line at a time."""
    if not forecast.rollouts:
        yield "nothing is to come: no rollout is under way"
    for number, rollout in enumerate(forecast.rollouts):
        if number:
            yield ""
        yield from _rollout(forecast, rollout)
    if forecast.slow:
        yield ""
        yield "takes longer than usual"
        yield from (f"  {_slow(it, forecast.at)}" for it in forecast.slow)
    yield ""
    yield "known of this fleet's stages"
    yield from (f"  {_stage(it)}" for it in forecast.stages)
    calibration = forecast.calibration
    if calibration is not None:
        yield (
            f"of the last {calibration.ranges} rollouts that ended, {calibration.held} ended within the range that "
            "would have been given when they were opened"
        )
    if forecast.runs:
        yield f"{forecast.runs} runs; assumed: {'; '.join(forecast.assumptions)}"


def headline(forecast: Forecast, rollout: RolloutForecast) -> str:
    """Return when a rollout ends, in one sentence."""
    if forecast.unknown is not None:
        return f"when it ends is not known: {forecast.unknown}"
    if not rollout.done.runs:
        return "it does not end by itself"
    most, done = (span_words(it, forecast.runs) for it in (rollout.most, rollout.done))
    return f"95 of 100 hosts are done {most}; it ends {done}"


def _rollout(forecast: Forecast, rollout: RolloutForecast) -> Iterator[str]:
    yield f"{rollout.rollout_id}  {rollout.state}, {rollout.settled} of {rollout.hosts} hosts are settled"
    yield f"  {headline(forecast, rollout)}"
    yield from (f"  {_wave(it, forecast.runs)}" for it in rollout.waves)
    for title, lines in (
        (
            "comes by the clock",
            [f"{span_words(it.at, forecast.runs)}: {it.text}" for it in rollout.edges],
        ),
        (
            "likely the last",
            [f"{it.host}: {it.why}; {_done(it.done, forecast.runs)}" for it in rollout.stragglers],
        ),
        ("does not end by itself", rollout.waits),
    ):
        yield from _listed(title, lines)


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"  {title}"
        yield from (f"    {line}" for line in lines)


def _wave(wave: WaveForecast, runs: int) -> str:
    text = f"wave {wave.wave} ({hosts_words(wave.hosts)}): "
    if wave.ended_at is not None:
        return f"{text}done {wave.ended_at:{_AT}}"
    begins = (
        f"began {wave.began_at:{_AT}}"
        if wave.began_at is not None
        else f"begins {span_words(wave.begins, runs)}"
    )
    return f"{text}{begins}, ends {span_words(wave.ends, runs)}"


def _done(span: Span, runs: int) -> str:
    return f"converges {span_words(span, runs)}" if span.runs else "no run sees it converge"


def span_words(span: Span | None, runs: int) -> str:
    """Return a range in words: `between … and …, half of the runs by …`. runs: how many there were."""
    if span is None or (span.p10 is None and not span.runs):
        return "at no known time"
    if span.p10 is None or span.p50 is None:
        return f"in {span.runs} of {runs} runs only"
    if span.p90 is None:
        return f"from {span.p10:{_AT}}, half of the runs by {span.p50:{_AT}}, {runs - span.runs} of {runs} not at all"
    early, late = f"{span.p10:{_AT}}", f"{span.p90:{_AT}}"
    return (
        early
        if early == late
        else f"between {early} and {late}, half of the runs by {span.p50:{_AT}}"
    )


def _slow(slow: SlowHost, at: datetime) -> str:
    took = _seconds((at - slow.since) // timedelta(seconds=1))
    usual = _seconds(slow.p95_seconds)
    return (
        f"{slow.host} in {slow.rollout_id}: {slow.stage} for {took}; 95 of 100 took at most {usual}"
    )


def _stage(known: StageKnown) -> str:
    if known.p50_seconds is None or known.p95_seconds is None:
        return f"{known.stage}: never observed"
    return (
        f"{known.stage}: half took at most {_seconds(known.p50_seconds)}, 95 of 100 at most "
        f"{_seconds(known.p95_seconds)} ({known.observations} observed)"
    )


def _seconds(seconds: int) -> str:
    if seconds < 2 * _MINUTE:
        return f"{seconds} s"
    if seconds < 2 * _HOUR:
        return f"{seconds // _MINUTE} min"
    return f"{seconds // _HOUR} h {seconds % _HOUR // _MINUTE} min"
