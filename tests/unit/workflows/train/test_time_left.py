"""How long a training still takes: against a simulation of the run, epoch by epoch."""

from __future__ import annotations

import itertools

import pytest

from dpf.workflows.train.time_left import Pace, duration, seconds_left


def simulated(pace, wells, epochs, member, done, elapsed, limit):
    """The seconds that a run takes which behaves as `dpf train` does."""
    now = elapsed
    for number in range(member, len(wells)):
        share = limit * (number + 1) / len(wells)
        if number == member and limit and now > share:
            continue  # it has just been told
        for _ in range(done if number == member else 0, epochs):
            now += pace * wells[number]
            if limit and now > share:
                break
    return now - elapsed


@pytest.mark.parametrize("limit", [0.0, 7.3, 40.1, 61.7, 1e6])
@pytest.mark.parametrize("elapsed", [0.0, 13.4, 55.5, 300.0])
def test_it_is_what_the_run_will_take(limit, elapsed):
    for member, done in itertools.product(range(3), range(6)):
        given = (0.1, [20, 30, 25], 5, member, min(done, 5))
        expected = simulated(*given, elapsed, limit)
        assert seconds_left(*given, elapsed=elapsed, limit=limit) == pytest.approx(expected)


def test_nothing_is_left_after_the_last_epoch():
    assert seconds_left(0.5, [10, 10], 4, 1, 4) == 0
    assert seconds_left(0.5, [10, 10], 4, 0, 4) == 20
    assert seconds_left(0.0, [10], 4, 0, 1, elapsed=5, limit=10) == 0  # before there is a pace


def test_the_pace_is_that_of_the_last_epochs():
    times = iter([0.0, *range(100, 1100, 100), *range(1020, 1220, 20)])
    pace = Pace(lambda: next(times))
    assert pace.seconds_per_well == 0
    for _ in range(10):
        pace.epoch(50)
    assert pace.seconds_per_well == 2
    for _ in range(10):  # the machine has become five times faster
        pace.epoch(50)
    assert pace.seconds_per_well == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (45, "45 s"), (720, "12 min"), (12_000, "3 h 20 min"), (99.4, "99 s")]
)
def test_durations_are_said_as_one_says_them(seconds, text):
    assert duration(seconds) == text
