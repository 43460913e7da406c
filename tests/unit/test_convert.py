"""Spans to records: nothing OpenTelemetry said is lost, and both ways of reading a command agree."""

import asyncio
import itertools
import json
import traceback

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from whenever import Instant

from handspan import ExecuteJob, InvokeHandler
from handspan.recording.convert import foreign_record, inferred_registration
from handspan.redaction import Redactor
from handspan.serialize import attributes_from_json, attributes_json
from handspan_exporters.sqlite import SQLiteSpanExporter

UNREDACTED = Redactor(())
START, END = 1_700_000_000_123_456_789, 1_700_000_001_123_456_790


class CountingIds(IdGenerator):
    """Ids a person can read in a failure."""

    def __init__(self):
        self._counter = itertools.count(1)

    def generate_trace_id(self):
        return next(self._counter)

    def generate_span_id(self):
        return next(self._counter)


@pytest.fixture
def provider():
    found = TracerProvider(
        id_generator=CountingIds(), resource=Resource.create({"service.name": "house"}), shutdown_on_exit=False
    )
    yield found
    found.shutdown()


@pytest.fixture
def tracer(provider):
    return provider.get_tracer("their.library", "1.2", "https://schema", {"scope.kind": b"\x00"})


def context_of(trace_id=0xABC, span_id=0xDEF, *, remote=False, flags=1, state=None):
    return SpanContext(trace_id, span_id, remote, TraceFlags(flags), TraceState(state or []))


def ended(span):
    span.end(END)
    return foreign_record(span, 0, UNREDACTED)


# --- any other span ------------------------------------------------------------------------------------


def test_a_plain_span_is_kept_whole(tracer):
    """Ids, name, kind, nanoseconds and scope: to the last digit."""
    record = ended(tracer.start_span("GET /", kind=SpanKind.CLIENT, start_time=START))
    assert (record.trace_id, record.span_id) == ((1).to_bytes(16, "big"), (2).to_bytes(8, "big"))
    assert (record.name, record.kind, record.status) == ("GET /", 2, "unset")
    assert (record.start_ns, record.duration_ns) == (START, END - START)
    assert record.extra["scope"] == ["their.library", "1.2", "https://schema", {"scope.kind": b"\x00"}]


@pytest.mark.parametrize("kind", list(SpanKind), ids=lambda kind: kind.name.lower())
def test_every_kind_is_kept(tracer, kind):
    """By OpenTelemetry's number."""
    assert ended(tracer.start_span("x", kind=kind)).kind == kind.value


@pytest.mark.parametrize(
    ("status", "kept", "description"),
    [
        pytest.param(None, "unset", None, id="unset"),
        pytest.param(Status(StatusCode.OK), "ok", None, id="ok"),
        pytest.param(Status(StatusCode.ERROR), "error", None, id="error"),
        pytest.param(Status(StatusCode.ERROR, "no route"), "error", "no route", id="error-described"),
    ],
)
def test_every_status_is_kept(tracer, status, kept, description):
    """With the description an error may have."""
    span = tracer.start_span("x")
    if status is not None:
        span.set_status(status)
    record = ended(span)
    assert (record.status, record.extra.get("status_description")) == (kept, description)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("text", id="text"),
        pytest.param(True, id="boolean"),
        pytest.param(7, id="integer"),
        pytest.param(2**70, id="huge-integer"),
        pytest.param(1.5, id="float"),
        pytest.param(b"\x00\xff", id="bytes"),
        pytest.param(["a", "b"], id="texts"),
        pytest.param([b"a", b"\xff"], id="sequence-of-bytes"),
        pytest.param([1, 2.5, None, "x"], id="mixed-sequence"),
        pytest.param({"inner": {"deep": [1, b"x"]}}, id="mapping"),
    ],
)
def test_every_attribute_type_is_kept(tracer, value):
    """On spans, events, links and through the JSON the row holds."""
    span = tracer.start_span("x", attributes={"a": value}, links=[Link(context_of(), {"a": value})])
    span.add_event("e", {"a": value})
    record = ended(span)
    extra = attributes_from_json(attributes_json(record.extra))
    expected = attributes_from_json(attributes_json({"a": value}))
    assert attributes_from_json(attributes_json(record.attributes)) == expected
    assert extra["events"][0][2] == expected
    assert extra["links"][0][2] == expected
    assert expected == {"a": value}


def test_events_are_kept_in_order_with_their_times(tracer):
    """Name, nanoseconds, attributes."""
    span = tracer.start_span("x")
    span.add_event("first", {"n": 1}, START)
    span.add_event("second", timestamp=START + 1)
    assert ended(span).extra["events"] == [["first", START, {"n": 1}], ["second", START + 1, {}]]


def test_links_are_kept_with_everything_they_carry(tracer):
    """Ids, attributes, trace state and flags of each."""
    state = [("vendor", "1"), ("other", "2")]
    span = tracer.start_span(
        "x", links=[Link(context_of(1, 2, flags=0)), Link(context_of(3, 4, state=state), {"a": 1})]
    )
    assert ended(span).extra["links"] == [
        [f"{1:032x}", f"{2:016x}", {}, None, 0],
        [f"{3:032x}", f"{4:016x}", {"a": 1}, "vendor=1,other=2", 1],
    ]


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_the_parent_is_kept_and_whether_it_was_remote(tracer, remote):
    """A parent in another process: a backend draws that differently."""
    parent = context_of(remote=remote, state=[("vendor", "1")])
    record = ended(tracer.start_span("x", trace.set_span_in_context(NonRecordingSpan(parent))))
    assert record.parent_span_id == (0xDEF).to_bytes(8, "big")
    assert record.extra.get("remote_parent", False) is remote
    assert record.extra["trace_state"] == "vendor=1"


@pytest.mark.parametrize("flags", [0x01, 0x03])
def test_the_trace_flags_are_kept(tracer, flags):
    """Sampled, random: what travels on has to be what came."""
    parent = context_of(flags=flags)
    span = tracer.start_span("x", trace.set_span_in_context(NonRecordingSpan(parent)))
    kept = ended(span).extra.get("flags", 3)  # the usual ones are not stored
    assert kept == int(span.get_span_context().trace_flags)


def test_what_limits_dropped_is_counted():
    """Attributes, events and links over the SDK's limits: how many there were."""
    provider = TracerProvider(
        span_limits=SpanLimits(
            max_span_attributes=1, max_events=1, max_links=1, max_event_attributes=1, max_link_attributes=1
        ),
        shutdown_on_exit=False,
    )
    span = provider.get_tracer("x").start_span("x", attributes={"a": 1, "b": 2}, links=[Link(context_of())] * 3)
    for _ in range(4):
        span.add_event("e")
    assert ended(span).extra["dropped"] == [1, 3, 2]


def test_what_limits_dropped_inside_events_and_links_is_counted():
    """OTLP has a count for each event and each link as well."""
    provider = TracerProvider(
        span_limits=SpanLimits(max_event_attributes=1, max_link_attributes=1), shutdown_on_exit=False
    )
    span = provider.get_tracer("x").start_span("x", links=[Link(context_of(), {"a": 1, "b": 2, "c": 3})])
    span.add_event("e", {"a": 1, "b": 2})
    extra = ended(span).extra
    assert (extra["events"][0][-1], extra["links"][0][-1]) == (1, 2)


def test_an_unfinished_span_is_refused(tracer):
    """There is no duration yet: who asks is wrong."""
    with pytest.raises(ValueError, match="not a finished span"):
        foreign_record(tracer.start_span("x"), 0, UNREDACTED)


def test_a_span_of_somebody_else_is_no_registration(tracer):
    """Only what was recorded under our scope is read as a command."""
    span = tracer.start_span("x", attributes={"handspan.app.key": "app", "handspan.listener.name": "on_light"})
    span.end()
    assert inferred_registration(span) is None


# --- commands, read both ways ------------------------------------------------------------------------------


class Gateway:
    """What the tested handlers fail with."""

    class Lost(Exception):
        """A nested class of a module that is no builtin."""


def fail_plainly():
    raise ValueError("bad bulb")


def fail_without_message():
    raise ValueError


def fail_with_lines():
    raise ValueError("first line\nsecond line\n\nlast")


def fail_in_a_module():
    raise Gateway.Lost("gone")


def fail_with_cause():
    raise ValueError("outer") from KeyError("inner")


def fail_with_note():
    error = ValueError("noted")
    error.add_note("in the kitchen")
    raise error


def fail_with_group():
    raise ExceptionGroup("both", [ValueError("a"), TypeError("b")])


def fail_with_key():
    raise KeyError("light")


def cancel():
    raise asyncio.CancelledError


def add_everything():
    span = trace.get_current_span()
    span.set_attributes({"rooms": ["kitchen", "hall"], "raw": b"\x00", "retries": 3})
    span.add_event("looked up", {"n": 1}, START)
    span.add_link(context_of(0x1111, 0x2222), {"why": "because"})


def handle_one_fail_with_another():
    span = trace.get_current_span()
    try:
        raise KeyError("handled")
    except KeyError as error:
        span.record_exception(error, timestamp=START)
    raise ValueError("not handled")


def add_a_link():
    trace.get_current_span().add_link(context_of(0x1111, 0x2222))


BODIES = [
    pytest.param(lambda: None, id="success"),
    pytest.param(fail_plainly, id="error"),
    pytest.param(fail_without_message, id="error-without-message"),
    pytest.param(fail_with_lines, id="error-of-several-lines"),
    pytest.param(fail_in_a_module, id="error-of-a-module"),
    pytest.param(fail_with_cause, id="error-with-a-cause"),
    pytest.param(fail_with_note, id="error-with-a-note"),
    pytest.param(fail_with_group, id="error-group"),
    pytest.param(fail_with_key, id="key-error"),
    pytest.param(cancel, id="cancelled"),
    pytest.param(add_everything, id="success-with-additions"),
    pytest.param(handle_one_fail_with_another, id="error-after-a-recorded-one"),
    pytest.param(add_a_link, id="success-with-a-link"),
]


@pytest.fixture
def both_ways(make, rows, tmp_path):
    """Runs a body as handler and job; the same spans through Telemetry and through the stock exporter."""

    async def run(body, *, published_by=None, propagation="link"):
        exported = str(tmp_path / "exported.db")
        exporter = SQLiteSpanExporter(exported, service_name="test")
        provider = TracerProvider(shutdown_on_exit=False)
        memory = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(memory))

        async def on_light(event=None):
            body()

        async with make(tracer_provider=provider, propagation=propagation) as telemetry:
            listener = telemetry.register_listener(on_light, topic="light", app_key="kitchen", instance_index=2)
            job = telemetry.register_job(on_light, job_name="tidy", app_key="kitchen", trigger_type="cron",
                                         trigger_value="0 7 * * *")  # fmt: skip
            due = Instant.from_utc(2024, 5, 17, 7, 0, 0)
            for command in (InvokeHandler(listener, published_by=published_by), ExecuteJob(job, scheduled_at=due)):
                try:
                    await telemetry.execute(command)
                except asyncio.CancelledError:
                    pass
        spans = memory.get_finished_spans()
        exporter.export(spans)
        exporter.shutdown()
        provider.shutdown()
        found = []
        for path in (None, exported):
            options = {} if path is None else {"path": path}
            for view, table in (
                ("v_handler_invocations", "handler_invocations"),
                ("v_job_executions", "job_executions"),
            ):
                (row,) = rows(f"SELECT * FROM {view}", **options)
                (raw,) = rows(f"SELECT extra FROM {table}", **options)
                row = {
                    key: value for key, value in row.items() if key not in ("id", "listener_id", "job_id", "session_id")
                }
                row["error_traceback"] = (row["error_traceback"] or "").rstrip("\n") or None
                extra = json.loads(raw["extra"] or "{}")
                row["extra"] = {key: value for key, value in extra.items() if key != "exception_tail"}
                found.append(row)
        return found[:2], found[2:]

    return run


def differences(direct, exported):
    """By column: what the side channel recorded, and what was read from attributes."""
    return {
        f"{one.get('topic', 'job')}.{key}": (one[key], other[key])
        for one, other in zip(direct, exported, strict=True)
        for key in one
        if one[key] != other[key]
    }


@pytest.mark.parametrize("body", BODIES)
async def test_a_command_read_from_its_attributes_is_what_the_side_channel_recorded(both_ways, body):
    """The stock pipeline and ours store the same run: status, times, error, traceback, what the handler added."""
    direct, exported = await both_ways(body)
    assert differences(direct, exported) == {}


@pytest.mark.parametrize("propagation", ["link", "child"])
async def test_what_triggered_a_command_is_the_same_both_ways(both_ways, propagation):
    """The publisher's span: as link or as parent, with its trace state."""
    publisher = context_of(0x9999, 0x8888, flags=3, state=[("vendor", "1")])
    direct, exported = await both_ways(add_a_link, published_by=publisher, propagation=propagation)
    assert differences(direct, exported) == {}
    column = "parent_span_id" if propagation == "child" else "link_span_id"
    assert direct[0][column] == f"{0x8888:016x}"


def test_the_exported_traceback_is_the_printed_one(tracer):
    """``exception.stacktrace`` comes back to the letter, wherever the message line was cut off in between."""
    error = None
    try:
        fail_with_lines()
    except ValueError as raised:
        error = raised
    span = tracer.start_span("x")
    span.record_exception(error)
    record = ended(span)
    printed = "".join(traceback.format_exception(error))
    assert record.extra["events"][0][2]["exception.stacktrace"] == printed
