"""The verdict's rules, from figures alone: what is news, what is noise, and since when."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handspan.clock import instant_from_ns
from handspan.store.verdict.chance import SURPRISE, best_stretch, clears, surprise, usual_share
from handspan.store.verdict.habit import DAY, HOUR, Habit, against_the_past, last_streak, refined
from handspan.store.verdict.recording import GroupSeen, Happened, Lost, happened, kinds_of_errors, losses
from handspan.store.verdict.schedule import Due, Lives, Pauses, Skipped, is_news, longest_pause, overdue, quiet, skipped
from handspan.store.verdict.shapes import Bucket, Known, Looked, Verdict
from handspan.store.verdict.shifts import confirmed, suspect, timed
from handspan.store.verdict.telling import told
from handspan.store.verdict.thresholds import Thresholds
from handspan.store.verdict.young import edges, mixed, rise

NOW = 1_780_000_000
WINDOW = NOW // HOUR * HOUR - 24 * HOUR
AT = instant_from_ns(NOW * 10**9)
BAR = Thresholds().errors
LIGHTS = Known("handler", 1, "house", "lights", 0, "on_motion", WINDOW - 7 * DAY)
JOB = Known("job", 2, "house", "energy", 0, "sample", WINDOW - 7 * DAY)
HABIT = Habit(10_000, 40, WINDOW - 7 * DAY, enough=True)


def hours(*counts, start=WINDOW):
    """(runs, bad) of one hour after the other."""
    return [Bucket(start + i * HOUR, runs, bad) for i, (runs, bad) in enumerate(counts) if runs]


def week(runs=60, bad=0, days=7):
    """A habit by the hour, before the window."""
    return hours(*[(runs, bad)] * (24 * days), start=WINDOW - days * DAY)


# --- chance -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "runs", "speaks"),
    [
        pytest.param(1, 3, False, id="one of three"),
        pytest.param(2, 2, False, id="two of two"),
        pytest.param(5, 5, True, id="five of five"),
        pytest.param(3, 300, False, id="one in a hundred"),
        pytest.param(30, 300, True, id="one in ten"),
    ],
)
def test_how_many_failures_are_news(bad, runs, speaks):
    """Against a habit of 0.4 %: 1 of 3 is chance, 5 of 5 is not."""
    assert clears(bad, runs, surprise(bad, runs, HABIT.usual), HABIT.share, BAR) is speaks


@given(runs=st.integers(1, 400), usual=st.floats(0.001, 0.9), share=st.floats(0, 1))
def test_surprise_bounds_the_probability_of_chance(runs, usual, share):
    """exp(-surprise) is never below the binomial tail: nothing is called unlikely that is not."""
    bad = round(share * runs)
    tail = sum(math.comb(runs, k) * usual**k * (1 - usual) ** (runs - k) for k in range(bad, runs + 1))
    assert math.exp(-surprise(bad, runs, usual)) >= tail * (1 - 1e-9)


@given(runs=st.integers(1, 10_000), share=st.floats(0, 1))
def test_the_habit_is_taken_for_more_than_it_shows(runs, share):
    """Of few runs by much, of many by little; never for less."""
    bad = round(share * runs)
    assert bad / runs <= usual_share(bad, runs) + 1e-9
    assert usual_share(2 * bad, 2 * runs) <= usual_share(bad, runs)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=20), st.floats(0.01, 0.5))
def test_the_best_stretch_is_the_best_of_all(counts, usual):
    """No other range of the buckets surprises more."""
    buckets = [Bucket(i, runs, min(bad, runs)) for i, (runs, bad) in enumerate(counts)]
    found = best_stretch(buckets, usual)
    best = max(
        surprise(sum(b.bad for b in buckets[i:j]), sum(b.runs for b in buckets[i:j]), usual)
        for i in range(len(buckets)) for j in range(i + 1, len(buckets) + 1)
    )  # fmt: skip
    assert (found.surprise if found else 0.0) == pytest.approx(best, abs=1e-9)


# --- shares ------------------------------------------------------------------------------------------------


def judged(window, before, habit=HABIT, rule="error_rate"):
    each = suspect(rule, LIGHTS, window, habit, BAR)
    return each and confirmed(each, [*before, *window], min_runs=20)


def test_a_shift_is_found_with_its_beginning():
    """Sixty runs an hour, 20 % failing for the last three hours: since three hours ago, 0.4 % was the habit."""
    found = judged(hours(*[(60, 0)] * 21, *[(60, 12)] * 3), week())
    assert (found.since, found.until, found.runs, found.bad) == (WINDOW + 21 * HOUR, None, 180, 36)


def test_what_happens_every_night_is_the_habit():
    """The same hour of every day failing is nothing to look at; on the last day only, it is."""
    night = hours(*[(60, 0)] * 20, (60, 30), *[(60, 0)] * 3)
    every = [Bucket(b.start - day * DAY, b.runs, b.bad) for day in range(7, 0, -1) for b in night]
    habit = Habit(7 * 1440, 7 * 30, WINDOW - 7 * DAY, enough=True)
    assert judged(night, every, habit) is None
    found = judged(night, week())
    assert found.since == WINDOW + 20 * HOUR
    assert found.until == WINDOW + 21 * HOUR


def test_trouble_older_than_the_window_begins_when_it_began():
    """Three days of it are not the habit, although they are in the days before the window."""
    before = [*week(days=7)[:-48], *hours(*[(60, 12)] * 48, start=WINDOW - 2 * DAY)]
    habit = Habit(7 * 1440, 48 * 12, WINDOW - 7 * DAY, enough=True)
    found = judged(hours(*[(60, 12)] * 24), before, habit)
    assert found.since == WINDOW - 2 * DAY
    assert found.habit_bad == 0


def test_without_a_habit_only_most_runs_failing_speaks():
    """Half of at least five; less is silence, as there is nothing to compare with."""
    nothing = Habit(0, 0, WINDOW, enough=False)
    assert judged(hours((10, 4)), [], nothing) is None
    assert judged(hours((4, 4)), [], nothing) is None
    found = judged(hours((10, 6)), [], nothing)
    assert "there is no habit to compare with yet" in told(found, AT).words


def test_failing_always_is_said_even_if_it_is_the_habit():
    """Whoever fails most of its runs all week is not well, and says it as a notice."""
    habit = Habit(10_000, 9000, WINDOW - 7 * DAY, enough=True)
    found = told(judged(hours(*[(60, 54)] * 24), week(60, 54), habit), AT)
    assert found.severity == "notice"
    assert "fails 90 % of its runs" in found.words


def test_a_job_that_runs_once_a_day_fails_twice():
    """Too seldom for shares: two in a row, after a week without."""
    nights = [Bucket(WINDOW - day * DAY + HOUR, 1, 0) for day in range(7, 1, -1)]
    habit = Habit(7, 1, WINDOW - 7 * DAY, enough=False)
    last = [Bucket(WINDOW - DAY + HOUR, 1, 1)]
    found = judged(hours((0, 0), (1, 1)), [*nights, *last], habit)
    assert told(found, AT).words.startswith("lights.on_motion failed its last 2 runs, since ")
    assert judged(hours((0, 0), (1, 1)), [*nights, Bucket(WINDOW - DAY + HOUR, 1, 0)], habit) is None


def test_a_streak_ends_with_a_success():
    """Hours in which every run failed, up to the newest."""
    assert last_streak(hours((3, 0), (2, 2), (1, 1))).bad == 3
    assert last_streak(hours((3, 3), (2, 1))) is None
    assert last_streak(hours((3, 3))).before == 0


def test_it_began_in_the_minute_it_began():
    """Of the first hour's minutes, the one from which on it stands out most."""
    minutes = [Bucket(WINDOW + 60 * i, 2, 2 if i >= 37 else 0) for i in range(60)]
    assert refined(minutes, 100, 100, 0.01) == WINDOW + 37 * 60
    stray = [minutes[0]._replace(bad=1), *minutes[1:]]
    assert refined(stray, 100, 100, 0.01) == WINDOW + 37 * 60
    assert refined([], 100, 100, 0.01) is None


def test_the_end_is_told_to_the_minute_as_well():
    """An hour in which it broke and was mended."""
    found = judged(hours(*[(60, 0)] * 20, (60, 30), *[(60, 0)] * 3), week())
    minutes = [Bucket(WINDOW + 20 * HOUR + 60 * i, 1, int(10 <= i < 40)) for i in range(60)]
    found = timed(found, minutes, minutes, 0.004)
    assert (found.since, found.until) == (WINDOW + 20 * HOUR + 600, WINDOW + 20 * HOUR + 2400)
    assert (found.runs, found.bad, found.after_bad) == (30, 30, 0)


def test_minutes_that_contradict_their_hour_are_no_error():
    """In a file that lost pages more may have run in the minutes than in the hour they belong to."""
    series = hours(*[(60, 0)] * 23, (60, 30))
    found = judged(series, week())
    minutes = [Bucket(series[-1].start, 1, 1), Bucket(series[-1].start + 60, 500, 0)]
    assert found.until is None
    assert timed(found, [], minutes, 0.004).until == series[-1].start + 60


@pytest.mark.parametrize("errors", [0.0, 0.02, 0.3])
def test_chance_alone_is_seldom_news(errors):
    """A constant share of failures, whatever it is: at most one look in fifty would speak."""
    rng = random.Random(7)
    spoken = 0
    for _ in range(300):
        failing = [sum(rng.random() < errors for _ in range(20)) for _ in range(192)]
        series = [Bucket(WINDOW - 7 * DAY + i * HOUR, 20, bad) for i, bad in enumerate(failing)]
        before, window = series[:168], series[168:]
        habit = Habit(168 * 20, sum(b.bad for b in before), WINDOW - 7 * DAY, enough=True)
        spoken += judged(window, before, habit) is not None
    assert spoken <= 6


def test_against_the_past_needs_no_hours():
    """Hours are kept ninety days, and a file may have lost them: the sums of the days do."""
    window = hours((60, 30))
    found = against_the_past(window, WINDOW, WINDOW + HOUR, HABIT, min_runs=20)
    assert (found.habit_runs, found.habit_bad) == (10_000, 40)
    assert found.surprise > SURPRISE


NOTHING = Habit(0, 0, WINDOW, enough=False)


def minutes(*counts, start=WINDOW):
    """(runs, bad) of one minute after the other."""
    return [Bucket(start + i * 60, runs, bad) for i, (runs, bad) in enumerate(counts) if runs]


def risen(series, habit=NOTHING, coarse=()):
    return rise("error_rate", LIGHTS, series, coarse, habit, BAR)


@pytest.mark.parametrize(
    ("series", "bad", "runs", "before"),
    [
        pytest.param([(100, 0), (75, 50), (75, 50)], 100, 150, 100, id="two thirds of 150 after 100 good runs"),
        pytest.param([(100, 0), (75, 39), (75, 39)], 78, 150, 100, id="52 % of 150 after 100 good runs"),
        pytest.param([(50, 2), (54, 1), (0, 0), (76, 41), (77, 42)], 83, 153, 104, id="83 of 153 after 3 of 104"),
        pytest.param([(104, 3), *[(30, 15)] * 9, (32, 17)], 152, 302, 104, id="152 of 302 after 3 of 104"),
        pytest.param([(100, 0), (5, 3)], 3, 5, 100, id="3 of 5 after 100 good runs"),
        pytest.param([(8, 0), (6, 6)], 6, 6, 8, id="6 of 6 after 8 good runs"),
    ],
)
def test_a_young_registration_that_begins_to_fail_speaks(series, bad, runs, before):
    """Minutes after good ones, where the hour as a whole is below half; no habit is claimed."""
    found = risen(minutes(*series))
    assert (found.bad, found.runs, found.habit_runs, found.until) == (bad, runs, before, None)
    words = told(found, AT).words
    assert f"of {before} runs before, " in words
    assert "habit" not in words


@pytest.mark.parametrize(
    "series",
    [
        pytest.param([(3, 1)], id="1 of 3"),
        pytest.param([(4, 2)], id="2 of 4"),
        pytest.param([(100, 0), (3, 1)], id="1 of 3 after 100 good runs"),
        pytest.param([(100, 0), (4, 2)], id="2 of 4 after 100 good runs"),
        pytest.param([(4, 4), (100, 0)], id="only the first few"),
        pytest.param([(60, 18)] * 5, id="always 30 %"),
    ],
)
def test_a_young_registration_is_not_accused_early(series):
    """Few failures, those of the start, and a share that never was another."""
    assert risen(minutes(*series)) is None


def test_what_rose_and_went_is_over():
    """A bad five minutes of a young file are told as past."""
    found = risen(minutes(*[(20, 0)] * 10, *[(20, 15)] * 5, *[(20, 0)] * 10))
    assert (found.since, found.until) == (WINDOW + 600, WINDOW + 900)
    assert (found.after_runs, found.after_bad) == (200, 0)
    assert told(found, AT).severity == "notice"


def test_hours_are_looked_into_where_a_rise_may_begin():
    """The hour that stands out and the one before it: trouble began at two minutes to the hour."""
    by_hour = hours(*[(60, 0)] * 5, (60, 4), (90, 50))
    wanted = edges(by_hour)
    assert {WINDOW + 5 * HOUR, WINDOW + 6 * HOUR} <= wanted
    fine = minutes(*[(1, 0)] * 56, *[(1, 1)] * 4, *[(2, 1)] * 30, start=WINDOW + 5 * HOUR)
    series = mixed(by_hour, fine)
    assert [bucket.start for bucket in series[:6]] == [*(WINDOW + i * HOUR for i in range(5)), WINDOW + 5 * HOUR]
    assert risen(series).since == WINDOW + 5 * HOUR + 56 * 60
    assert risen(by_hour, coarse={bucket.start for bucket in by_hour}).since == WINDOW + 6 * HOUR
    assert edges(hours((250, 78))) == {WINDOW}


@pytest.mark.parametrize("errors", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("runs", [1, 20])
def test_chance_alone_is_seldom_a_rise(errors, runs):
    """A constant share in a young file, twenty hours and three of minutes: at most one look in fifty would speak."""
    rng = random.Random(11)
    spoken = 0
    for _ in range(200):
        counts = [(runs, sum(rng.random() < errors for _ in range(runs))) for _ in range(200)]
        series = [*hours(*counts[:20]), *minutes(*counts[20:], start=WINDOW + 20 * HOUR)]
        spoken += risen(series) is not None
    assert spoken <= 4


# --- what did not happen ---------------------------------------------------------------------------------------


def skips(reason="missed", count=1, runs=10, before=0):
    return Skipped(reason, count, WINDOW, WINDOW, runs, before, 1.0, 7.0)


@pytest.mark.parametrize(
    ("found", "news"),
    [
        pytest.param(skips(), True, id="the first missed run"),
        pytest.param(skips(runs=2880), False, id="one of thousands"),
        pytest.param(skips(before=3), False, id="now and then"),
        pytest.param(skips("down", 1, 1, 7), False, id="a restart every night"),
        pytest.param(skips(count=20, before=3), True, id="many more than ever"),
        pytest.param(skips("overlapped", 1), False, id="one overlap"),
        pytest.param(skips("overlapped", 5), True, id="it overlaps"),
    ],
)
def test_which_skipped_runs_are_news(found, news):
    """The first of its kind, or far more than usual."""
    assert is_news(found) is news


@pytest.mark.parametrize(
    ("days", "age", "words", "habit"),
    [
        pytest.param(7.4, 9 * DAY, "which it never did in the 7 days before.", 0.0, id="a week"),
        pytest.param(5 / 24, DAY, "which it never did in the 5 h before.", 0.0, id="hours"),
        pytest.param(0.0, 120, "it was registered 2 m ago, so there is no habit yet.", None, id="two minutes old"),
    ],
)
@pytest.mark.parametrize("reason", ["missed", "down", "overlapped"])
def test_no_habit_is_claimed_that_there_was_no_time_for(days, age, words, habit, reason):
    """A job registered two minutes ago has no day before in which it never missed a run."""
    found = replace(skips(reason, 5), habit_days=days)
    told_of = skipped(replace(JOB, registered_at=float(NOW - age)), found, AT)
    assert told_of.words.endswith(words)
    assert (told_of.habit and told_of.habit.value) == habit


def test_overdue_says_what_it_waits_for():
    """A minute of grace; then what still runs is the reason, or when it ran last."""
    assert overdue(JOB, Due(NOW - 59, None, None), AT, NOW) is None
    assert "it last ran at" in overdue(JOB, Due(NOW - 3600, NOW - 7200, None), AT, NOW).words
    assert "still runs (2 h)" in overdue(JOB, Due(NOW - 3600, NOW - 7200, NOW - 7200), AT, NOW).words


def test_silence_counts_while_a_process_lives():
    """A house that was switched off for a weekend has not gone quiet."""
    lives = Lives([(0, 100 * HOUR), (50 * HOUR, 60 * HOUR), (200 * HOUR, 210 * HOUR)])
    assert lives.between(90 * HOUR, 205 * HOUR) == 15 * HOUR
    active = [(hour * HOUR, 1) for hour in range(0, 100, 4)]
    pauses = longest_pause(active, 97 * HOUR, 208 * HOUR, lives)
    assert (pauses.longest, pauses.silent) == (4 * HOUR, 11 * HOUR)
    assert quiet(JOB, pauses, 97 * HOUR, AT, 2.0) is not None
    assert quiet(JOB, Pauses(4 * HOUR, 7 * HOUR, 25), 97 * HOUR, AT, 2.0) is None
    assert longest_pause(active[:19], 97 * HOUR, 208 * HOUR, lives) is None


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8), st.integers(0, 50), st.integers(0, 50))
def test_seconds_lived_are_counted_once(intervals, start, end):
    """However sessions overlap."""
    start, end = min(start, end), max(start, end)
    wanted = sum(any(a <= second < b for a, b in intervals) for second in range(start, end))
    assert Lives(intervals).between(start, end) == wanted


# --- recording ------------------------------------------------------------------------------------------------


def test_losses_are_told_by_stage():
    """One sentence for the store, one for each destination, with the reason most were lost for."""
    found = losses(
        [
            Lost("store", "queue_full", 12, NOW - 7200, NOW - 3600, 0),
            Lost("store", "shutdown", 2, NOW - 3600, NOW - 3600, 1),
            Lost("tempo", "rejected", 1, NOW - 3600, NOW - 3600, 0),
        ],
        AT,
    )
    assert [each.words.split(" since")[0] for each in found] == [
        "14 records did not reach the store", "1 record did not reach tempo",
    ]  # fmt: skip
    assert "most for queue_full" in found[0].words


def test_a_suspended_journal_is_an_alarm_while_its_session_lives():
    """Afterwards it is history."""
    incident = Happened(1, 4, "house", "journal_suspended", NOW - 600.0, None, "No space left", None)
    (found,) = happened([incident], frozenset({4}), AT)
    assert (found.rule, found.severity) == ("journal", "alarm")
    assert happened([incident], frozenset(), AT) == []


def test_new_errors_speak_where_there_is_a_habit():
    """A kind that was resolved and is back always speaks."""
    seen = GroupSeen(12, "handler", 1, "KeyError", "'x'", 9, NOW - 600.0, float(NOW), None)
    known = {("handler", 1): LIGHTS}
    (found,) = kinds_of_errors([seen], known, {("handler", 1): True}, AT)
    assert (found.rule, found.see) == ("new_error", "handspan error 12")
    assert kinds_of_errors([seen], known, {("handler", 1): False}, AT) == []
    back = GroupSeen(12, "handler", 1, "KeyError", "'x'", 1, 0.0, float(NOW), NOW - 60.0)
    (found,) = kinds_of_errors([back], known, {}, AT)
    assert found.rule == "regressed"


@pytest.mark.parametrize(
    ("began", "words", "basis"),
    [
        (None, "Nothing needs a look since ", "against the 7 days before."),
        (AT, "Nothing needs a look since this file began, at ", "when this file began: there is no habit yet."),
    ],
    ids=["an older file", "a file of seconds"],
)
def test_a_young_file_says_since_when_there_is_anything(began, words, basis):
    """Not since yesterday, of which it knows nothing."""
    day_ago = instant_from_ns(WINDOW * 10**9)
    found = Verdict([], 0, [], Looked(3, 0, 750, day_ago, AT, 7, began))
    assert found.words.startswith(words)
    assert (" today." in found.words) is (began is not None)
    assert found.basis.endswith(basis)


# --- silence by choice --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "silent"),
    [("lights.on_motion", True), ("on_motion", True), ("lights.*", True), ("slower", True), ("slower:lights.*", True),
     ("house/lights.*", True), ("error_rate", False), ("error_rate:lights.*", False), ("light", False)],
)  # fmt: skip
def test_what_is_ignored(pattern, silent):
    """Names, rules, and rules of names."""
    assert Thresholds(ignore=(pattern,)).silences("slower", LIGHTS) is silent
