"""From any exception to an outcome: what a person needs to read, and never an exception of ours."""

import asyncio
import linecache
import sqlite3
import sys
import textwrap
import traceback

import pytest

import handspan
from handspan import InvokeHandler
from handspan.outcome import OutcomeLimits, error_type_of, fail, message_of
from handspan.records import ListenerRegistration, Run

LIMITS = OutcomeLimits(max_message_chars=4_000, max_traceback_chars=32_000)
REGISTRATION = ListenerRegistration("app", 0, "on_light", "light", "on_light")


class ApplicationError(Exception):
    """An exception of somebody's module, not a builtin."""


class WithStr(Exception):
    """One that says it in its own words."""

    def __str__(self):
        return "in other words"


def caught(action):
    """The exception as the executor gets it: with a traceback."""
    try:
        action()
    except BaseException as error:
        return error
    pytest.fail("nothing was raised")


def raising(error):
    def action():
        raise BaseException.with_traceback(error, None)  # it may have been raised before

    return action


def outcome_of(error, *, deadline=None, limits=LIMITS):
    run = Run(None, 1, REGISTRATION, 0, 0)
    fail(run, error, limits, deadline=deadline)
    return run


# --- what a person reads ------------------------------------------------------------------------------


def chained_by_cause():
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("could not configure") from error


def chained_by_context():
    try:
        {}["missing"]
    except KeyError:
        raise ApplicationError("while handling")  # noqa: B904 - without `from`: the context is the point


def chain_suppressed():
    try:
        {}["missing"]
    except KeyError:
        raise ValueError("only this") from None


def noted():
    error = ValueError("broken")
    error.add_note("The bulb is in the kitchen.")
    error.add_note("Two\nlines.")
    raise error


def grouped():
    def one(error):
        return caught(raising(error))

    inner = ExceptionGroup("inner", [one(ValueError("a")), one(ApplicationError("b"))])
    raise ExceptionGroup("outer", [one(TypeError("c")), inner])


def syntax_error():
    compile("light on", "<automation>", "exec")


def recursion(depth=40):
    if depth:
        recursion(depth - 1)
    raise ValueError("at the bottom")


def in_a_subclass():
    class Local(ApplicationError):
        """Defined where it is raised."""

    raise Local("of a local class")


ORDINARY = [
    pytest.param(raising(ValueError("bad bulb")), id="builtin"),
    pytest.param(raising(ValueError()), id="without-message"),
    pytest.param(raising(ValueError("two\nlines")), id="message-of-two-lines"),
    pytest.param(raising(KeyError("light")), id="key-error"),
    pytest.param(raising(FileNotFoundError(2, "No such file", "/x")), id="os-error"),
    pytest.param(b"\xff".decode, id="unicode-error"),
    pytest.param(raising(ApplicationError("not found")), id="of-a-module"),
    pytest.param(raising(ApplicationError()), id="of-a-module-without-message"),
    pytest.param(raising(handspan.DependencyError("no state")), id="ours"),
    pytest.param(raising(WithStr("unused")), id="own-words"),
    pytest.param(in_a_subclass, id="local-class"),
    pytest.param(chained_by_cause, id="cause"),
    pytest.param(chained_by_context, id="context"),
    pytest.param(chain_suppressed, id="context-suppressed"),
    pytest.param(noted, id="notes"),
    pytest.param(grouped, id="groups-in-groups"),
    pytest.param(syntax_error, id="syntax-error"),
    pytest.param(recursion, id="recursion-of-forty"),
    pytest.param(raising(SystemExit(3)), id="system-exit"),
]


@pytest.mark.parametrize("action", ORDINARY)
async def test_the_view_shows_the_traceback_as_python_prints_it(make, rows, action):
    """``error_traceback`` is what a developer would have seen in the terminal, to the letter."""
    seen = []

    async def on_event(event):
        try:
            action()
        except BaseException as error:
            seen.append("".join(traceback.format_exception(error)))
            raise

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="app")
        try:
            await telemetry.execute(InvokeHandler(listener))
        except SystemExit:
            pass
    (row,) = rows("SELECT error_traceback FROM v_handler_invocations")
    assert row["error_traceback"].rstrip("\n") == seen[0].rstrip("\n")


@pytest.mark.parametrize("action", ORDINARY)
def test_equal_stacks_are_equal_texts(action):
    """The text above the message line does not depend on the message: an error storm stores it once."""
    first, second = outcome_of(caught(action)), outcome_of(caught(action))
    assert first.error_traceback == second.error_traceback
    assert first.error_traceback is not None


def test_another_message_is_the_same_stack():
    """Ten thousand different messages from one line are one traceback."""
    texts = {outcome_of(caught(raising(ValueError(f"bulb {number}")))).error_traceback for number in range(10)}
    assert len(texts) == 1


def test_another_line_is_another_stack():
    """The same function failing elsewhere is told apart."""

    def fails(where):
        if where:
            raise ValueError("here")
        raise ValueError("there")

    assert (
        outcome_of(caught(lambda: fails(True))).error_traceback
        != outcome_of(caught(lambda: fails(False))).error_traceback
    )


@pytest.mark.parametrize(
    ("error", "short", "qualified", "message"),
    [
        pytest.param(ValueError("x"), "ValueError", "ValueError", "x", id="builtin"),
        pytest.param(ApplicationError("x"), "ApplicationError", f"{__name__}.ApplicationError", "x", id="module"),
        pytest.param(KeyError("x"), "KeyError", "KeyError", "'x'", id="key-error"),
        pytest.param(ValueError(), "ValueError", "ValueError", "", id="empty"),
        pytest.param(
            handspan.DependencyError(), "DependencyError", "handspan.errors.DependencyError",
            "A parameter of a handler could not be supplied.", id="default-message",
        ),
        pytest.param(sqlite3.OperationalError("locked"), "OperationalError", "sqlite3.OperationalError", "locked",
                     id="extension-module"),
    ],
)  # fmt: skip
def test_type_and_message_are_told_apart(error, short, qualified, message):
    """The row has the short class name, the span the qualified one, both the plain message."""
    run = outcome_of(error)
    assert (run.status, run.error_type, run.exception_type, run.error_message) == ("error", short, qualified, message)
    assert error_type_of(type(error)) == qualified


@pytest.mark.parametrize("error", [asyncio.CancelledError("stop"), GeneratorExit()], ids=["cancelled", "loop-gone"])
def test_a_cancellation_is_no_error(error):
    """Cancelled: no type, no message, no traceback."""
    run = outcome_of(caught(raising(error)))
    assert (run.status, run.error_type, run.error_message, run.error_traceback) == ("cancelled", None, None, None)


def test_our_own_deadline_says_which():
    """A deadline is a TimeoutError with the seconds in it, whatever the exception that carried it says."""
    run = outcome_of(caught(raising(TimeoutError())), deadline=1.5)
    assert (run.status, run.error_type, run.error_message) == ("error", "TimeoutError", "The deadline of 1.5 s passed.")
    assert "raising" in run.error_traceback or "action" in run.error_traceback


# --- bounds -----------------------------------------------------------------------------------------------


def test_a_megabyte_of_message_is_cut_and_says_so():
    """Neither the row nor the log gets a megabyte; what was cut is counted."""
    run = outcome_of(caught(raising(ValueError("x" * 1_000_000))))
    assert run.error_message == "x" * 4_000 + " ... (996000 characters cut by handspan)"
    assert len(run.error_traceback) < 5_000


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(lambda: outer_with(ValueError("x" * 1_000_000)), id="in-a-cause"),
        pytest.param(raising(ExceptionGroup("g", [ValueError("x" * 1_000_000)])), id="in-a-group"),
        pytest.param(lambda: with_note("x" * 1_000_000), id="in-a-note"),
        pytest.param(raising(SyntaxError("x" * 1_000_000)), id="in-a-syntax-error"),
    ],
)
def test_a_megabyte_hidden_elsewhere_is_cut_too(action):
    """Causes, groups and notes are texts as well: everything that is kept is bounded."""
    run = outcome_of(caught(action))
    assert len(run.error_traceback) <= LIMITS.max_traceback_chars + 100
    assert len(run.exception_tail or "") <= LIMITS.max_message_chars + 100


def outer_with(cause):
    raise ApplicationError("outer") from cause


def with_note(note):
    error = ValueError("noted")
    error.add_note(note)
    raise error


@pytest.mark.parametrize("limit", [1, 2, 10, 500])
def test_a_long_traceback_is_cut_in_the_middle(limit):
    """Where it began and where it ended stay; the setting is honoured down to one character."""
    run = outcome_of(caught(recursion), limits=OutcomeLimits(4_000, limit))
    assert len(run.error_traceback) <= limit + 60
    assert "characters cut by handspan" in run.error_traceback


def deep(levels, error):
    """Raises under ``levels`` frames that are all different, as through a stack of middleware."""
    source = "".join(f"def f{n}(error):\n    f{n + 1}(error)\n\n" for n in range(levels))
    source += f"def f{levels}(error):\n    innermost(error)\n"
    names = {"innermost": raise_it}
    linecache.cache["<deep>"] = (len(source), None, source.splitlines(keepends=True), "<deep>")
    exec(compile(source, "<deep>", "exec"), names)
    names["f0"](error)


def raise_it(error):
    raise error


def raise_chained(error):
    raise error from KeyError("cause")


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(lambda: ValueError("x"), id="plain"),
        pytest.param(lambda: KeyError("x"), id="own-words"),
        pytest.param(lambda: with_cause(ValueError("x")), id="with-a-cause"),
        pytest.param(lambda: with_added_note(ValueError("x")), id="with-a-note"),
    ],
)
def test_of_a_deep_stack_the_first_and_the_last_frames_stay(error):
    """The innermost frame is where the bug is: it is never among those that are cut."""
    text = outcome_of(caught(lambda: deep(200, error()))).error_traceback
    assert "in raise_it" in text
    assert "in f0" in text
    assert "in f100" not in text
    assert "frames cut by handspan" in text


def with_cause(error):
    error.__cause__ = KeyError("cause")
    return error


def with_added_note(error):
    error.add_note("note")
    return error


def test_a_recursion_error_is_short_and_readable():
    """A thousand frames of one line become a few lines, quickly."""

    def down():
        down()

    run = outcome_of(caught(down))
    assert (run.error_type, run.error_message.startswith("maximum recursion depth exceeded")) == (
        "RecursionError",
        True,
    )
    assert run.error_traceback.count("\n") < 200
    assert "in down" in run.error_traceback


def test_an_exception_without_a_traceback_has_a_type_and_a_message():
    """One that was never raised: a result handed over by somebody else."""
    run = outcome_of(ValueError("never raised"))
    assert (run.error_type, run.error_message, run.error_traceback) == ("ValueError", "never raised", None)


# --- hostile ones -------------------------------------------------------------------------------------------


class LyingText(str):
    """A text that cannot be measured or cut."""

    __slots__ = ()

    def __len__(self):
        raise RuntimeError("no length")

    def __getitem__(self, _):
        raise RuntimeError("no parts")

    def __format__(self, _):
        raise RuntimeError("no format")


class BadMeta(type):
    """A metaclass that does not even tell the name."""

    def __getattribute__(cls, name):
        if name in ("__name__", "__qualname__", "__module__"):
            raise RuntimeError("no name")
        return super().__getattribute__(name)


def hostile(name, **members):
    return type(name, (Exception,), members)


def raises(error):
    def method(*_):
        raise error

    return method


def cycle():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def endless_chain():
    error = ValueError(0)
    for number in range(1, 3_000):
        outer = ValueError(number)
        outer.__context__, error = error, outer
    return error


def deep_group():
    error = ValueError("innermost")
    for _ in range(2_000):
        error = ExceptionGroup("level", [error])
    return error


HOSTILE = [
    pytest.param(hostile("E", __str__=raises(ValueError("no"))), id="str-raises"),
    pytest.param(hostile("E", __str__=raises(RecursionError())), id="str-recurses"),
    pytest.param(hostile("E", __str__=raises(SystemExit(1))), id="str-raises-system-exit"),
    pytest.param(hostile("E", __str__=raises(asyncio.CancelledError())), id="str-raises-cancelled"),
    pytest.param(hostile("E", __str__=lambda _: 5), id="str-is-no-text"),
    pytest.param(hostile("E", __str__=lambda _: LyingText("x" * 9_000)), id="str-is-a-lying-text"),
    pytest.param(lambda: hostile("E", __repr__=raises(ValueError("no")))("x"), id="repr-raises"),
    pytest.param(lambda: KeyError(hostile("E", __repr__=raises(ValueError("no")))()), id="repr-of-an-argument-raises"),
    pytest.param(lambda: hostile("E", __getattr__=raises(ValueError("no")))("x"), id="getattr-raises"),
    pytest.param(hostile("E", __class__=property(lambda _: asyncio.CancelledError)), id="class-lies"),
    pytest.param(hostile("E", __class__=property(raises(ValueError("no")))), id="class-raises"),
    pytest.param(hostile("E", __notes__=property(raises(ValueError("no")))), id="notes-raise"),
    pytest.param(hostile("E", __notes__=5), id="notes-are-a-number"),
    pytest.param(hostile("E", __notes__=[5, None]), id="notes-of-numbers"),
    pytest.param(hostile("E", __cause__=property(raises(ValueError("no")))), id="cause-raises"),
    pytest.param(hostile(""), id="no-name"),
    pytest.param(lambda: hostile("a.b\n…")("x"), id="weird-name"),
    pytest.param(hostile("E", __module__=None), id="module-is-none"),
    pytest.param(lambda: BadMeta("E", (Exception,), {})("x"), id="metaclass-raises"),
    pytest.param(lambda: ValueError("lone \ud800 surrogate, \0 NUL"), id="surrogate-and-nul"),
    pytest.param(cycle, id="causes-in-a-circle"),
    pytest.param(endless_chain, id="three-thousand-contexts"),
    pytest.param(deep_group, id="two-thousand-groups"),
    pytest.param(lambda: SyntaxError("x", ("f", "one", 2, 3)), id="syntax-error-of-nonsense"),
    pytest.param(lambda: SyntaxError("x", (None, None, None, None)), id="syntax-error-of-nothing"),
]


@pytest.mark.parametrize("make_error", HOSTILE)
def test_no_exception_is_too_hostile_to_be_an_outcome(make_error):
    """Whatever it does when asked, it becomes an error with a type; nothing of ours raises."""
    error, escaped = caught(raising(make_error())), None
    try:
        run = outcome_of(error)
    except BaseException as raised:
        escaped = type(raised)  # the exception itself would break pytest's own report
    assert escaped is None
    assert run.status == "error"
    assert type(run.error_type) is type(run.exception_type) is type(run.error_message) is str


@pytest.mark.parametrize("make_error", HOSTILE)
async def test_a_hostile_exception_is_recorded_and_swallowed_like_any_other(make, rows, caplog, make_error):
    """Through the whole way: execute() returns, and the row is in the file as an error."""
    error = make_error()

    async def on_event(event):
        raise error

    caplog.set_level("CRITICAL")  # logging a hostile exception is the logging module's own business
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="app")
        escaped = None
        try:
            result = await telemetry.execute(InvokeHandler(listener))
        except BaseException as raised:
            escaped = type(raised)  # the exception itself would break pytest's own report
        assert escaped is None
    assert result.status == "error"
    (row,) = rows("SELECT status, error_type FROM v_handler_invocations")
    assert row["status"] == "error"
    assert row["error_type"] is not None


def test_a_message_that_cannot_be_had_says_why():
    """Better than nothing: the kind of exception that ``str()`` ended in."""
    error = hostile("E", __str__=raises(ZeroDivisionError()))()
    assert message_of(error) == "<str() of this exception raised ZeroDivisionError>"


def test_a_source_that_changed_does_not_break_the_traceback(tmp_path):
    """The file of a frame may be gone or another by now: the frame is still named."""
    path = tmp_path / "gone.py"
    path.write_text(textwrap.dedent("def fails():\n    raise ValueError('x')\n"))
    names = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    path.unlink()
    linecache.checkcache()
    text = outcome_of(caught(names["fails"])).error_traceback
    assert f'File "{path}", line 2, in fails' in text


def test_a_failure_does_not_keep_its_frames_alive():
    """The cache of stack texts holds code, never frames: no local variable outlives its run."""

    class Big:
        """Something a handler had in a local variable."""

    import weakref

    def fails():
        big = Big()
        kept.append(weakref.ref(big))
        raise ValueError("x")

    kept = []
    outcome_of(caught(fails))
    assert kept[0]() is None
    assert sys.exc_info() == (None, None, None)
