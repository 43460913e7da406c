"""Secrets do not reach the disk: every byte of every file beside the database is looked at.

Each way in is tried twice: with redaction, and without it, where the secret must be found, or the first try
would have proved nothing.
"""

from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from handspan import ExecuteJob, InvokeHandler
from handspan_exporters.sqlite import SQLiteSpanExporter

APP = "house.Door"
SECRET = "hunter-two-7e1"
HALF = b"hunter-t"  # what is looked for: half of it is too much
SOMEWHERE = SpanContext(0xABC, 0xDEF, True, TraceFlags(1))


def bytes_on_disk(directory):
    """Database, WAL, journal, locks: whatever lies there."""
    files = [path for path in Path(directory).iterdir() if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    return b"".join(path.read_bytes() for path in files)


# --- the ways in: what a handler does, or how something is registered ----------------------------------------


def message():
    raise ValueError(f"login failed: password={SECRET} for bob")


def cause():
    try:
        raise KeyError(f"Authorization: Bearer {SECRET}")
    except KeyError as error:
        raise ValueError("no state") from error


def context():
    try:
        message()
    except ValueError:
        raise RuntimeError("no state")  # noqa: B904 - the context is the point


def note():
    error = ValueError("no state")
    error.add_note(f"asked https://bob:{SECRET}@gateway.local/state")
    raise error


def group():
    inner = ExceptionGroup("inner", [ValueError(f'{{"token": "{SECRET}"}}'), KeyError("b")])
    raise ExceptionGroup(f"outer api_key='{SECRET}'", [inner, TypeError("c")])


def own_words():
    class Denied(NameError):
        def __str__(self):
            return f"GET /state?access_token={SECRET}&x=1"

    raise Denied


def source_line():
    connect(password="hunter-two-7e1")


def connect(password):
    raise OSError("refused")


def long_message():
    raise ValueError("x" * 3_980 + f" password='{SECRET}' " + "y" * 10_000)


def recorded_exception():
    try:
        message()
    except ValueError as error:
        trace.get_current_span().record_exception(error)


def attribute():
    trace.get_current_span().set_attribute("door.pin_code", SECRET)


def text_attribute():
    trace.get_current_span().set_attributes({"url": f"https://h/?token={SECRET}", "argv": ["--password", SECRET]})


def event():
    trace.get_current_span().add_event(f"asked with token={SECRET}", {"http.request.header.authorization": [SECRET]})


def link():
    trace.get_current_span().add_link(SOMEWHERE, {"cookie": SECRET})


def child():
    tracer = trace.get_tracer("requests")
    with tracer.start_as_current_span(f"GET https://bob:{SECRET}@h/", attributes={"client_secret": SECRET}) as span:
        span.set_attribute("nested", {"headers": {"X-Api-Key": SECRET, "n": [{"password": SECRET}]}})
        span.add_event("sent", {"body": f'{{"credentials": ["{SECRET}"]}}'})
        span.set_status(Status(StatusCode.ERROR, f"token={SECRET}"))


def failing_child():
    with trace.get_tracer("requests").start_as_current_span("GET"):
        message()


HANDLERS = [
    message, cause, context, note, group, own_words, source_line, long_message, recorded_exception, attribute,
    text_attribute, event, link, child, failing_child,
]  # fmt: skip


def job_arguments(telemetry):
    return telemetry.register_job(print, app_key=APP, args=(f"token={SECRET}", ("password", SECRET)))


def job_keywords(telemetry):
    kwargs = {"api_key": SECRET, "options": {"headers": [("Authorization", SECRET)], "cookies": {"sid": SECRET}}}
    return telemetry.register_job(lambda **_: None, app_key=APP, kwargs=kwargs, job_name="lock")


def job_trigger(telemetry):
    return telemetry.register_job(lambda: None, app_key=APP, trigger_type="webhook", trigger_value=f"token={SECRET}")


def predicate(telemetry):
    described = f"event.token == '{SECRET}'"
    return telemetry.register_listener(lambda _: None, topic="t", app_key=APP, predicate_description=described)


def registration_source(telemetry):
    return telemetry.register_job(lambda **_: None, app_key=APP, kwargs={"token": "hunter-two-7e1"}, job_name="source")


REGISTRATIONS = [job_arguments, job_keywords, job_trigger, predicate, registration_source]


# --- what reaches the disk --------------------------------------------------------------------------------------


async def run_all_of(telemetry, way):
    if way in HANDLERS:
        listener = telemetry.register_listener(lambda _event: way(), topic="t", app_key=APP)
        return await telemetry.execute(InvokeHandler(listener))
    handle = way(telemetry)
    return await telemetry.execute(ExecuteJob(handle) if hasattr(handle, "args") else InvokeHandler(handle))


@pytest.mark.parametrize("keys", [("default",), ()], ids=["redacted", "not-redacted"])
@pytest.mark.parametrize("way", [*HANDLERS, *REGISTRATIONS], ids=lambda way: way.__name__)
@pytest.mark.parametrize("provider", ["own", "foreign"])
async def test_a_secret_reaches_no_file(make, tmp_path, monkeypatch, way, keys, provider):
    """Neither while the application runs (the WAL) nor after it ended (the file)."""
    theirs = TracerProvider(shutdown_on_exit=False) if provider == "foreign" else None
    async with make(redact_keys=keys, tracer_provider=theirs) as telemetry:
        monkeypatch.setattr(trace, "get_tracer", telemetry.tracer_provider.get_tracer)
        await run_all_of(telemetry, way)
        assert await telemetry.aflush()
        meanwhile = bytes_on_disk(tmp_path)
    afterwards = bytes_on_disk(tmp_path)
    is_there = HALF in meanwhile, HALF in afterwards
    assert is_there == ((False, False) if keys else (True, True))
    assert (b"[redacted]" in afterwards) is bool(keys)


@pytest.mark.parametrize("keys", ["default", "none"])
@pytest.mark.parametrize("way", [message, attribute, child], ids=lambda way: way.__name__)
def test_nor_by_the_exporter(tmp_path, monkeypatch, keys, way):
    """What comes through the stock pipeline is written by the same rule."""
    monkeypatch.setenv("HANDSPAN_REDACT_KEYS", keys)
    provider = TracerProvider(resource=Resource({"service.token": SECRET}), shutdown_on_exit=False)
    exporter = SQLiteSpanExporter(str(tmp_path / "test.db"))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    try:
        with provider.get_tracer("x").start_as_current_span("x"):
            way()
    except ValueError:
        pass
    provider.shutdown()
    assert (HALF in bytes_on_disk(tmp_path)) is (keys == "none")


@pytest.mark.parametrize("keys", ["default", "none"])
async def test_nor_with_the_resource(make, tmp_path, monkeypatch, keys):
    """OpenTelemetry's resource has a process's command line, and what the environment says."""
    monkeypatch.setenv("HANDSPAN_REDACT_KEYS", keys)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"db.password={SECRET}")
    async with make():
        pass
    assert (HALF in bytes_on_disk(tmp_path)) is (keys == "none")


# --- what a person reads ----------------------------------------------------------------------------------------


async def test_what_is_left_is_readable(make, rows):
    """Where the secret was, it says so; everything else is there."""
    async with make() as telemetry:
        listener = telemetry.register_listener(lambda _: message(), topic="t", app_key=APP, name="m")
        grouped = telemetry.register_listener(lambda _: group(), topic="t", app_key=APP, name="g")
        result = await telemetry.execute(InvokeHandler(listener))
        await telemetry.execute(InvokeHandler(grouped))
    found = {row["name"]: row for row in rows("SELECT * FROM v_handler_invocations")}
    assert found["m"]["error_message"] == result.error_message == "login failed: password=[redacted] for bob"
    assert found["m"]["error_traceback"].endswith("ValueError: login failed: password=[redacted] for bob")
    assert "in message\n" in found["m"]["error_traceback"]
    assert str(result.error) == f"login failed: password={SECRET} for bob"
    assert 'ValueError: {"token": "[redacted]"}\n' in found["g"]["error_traceback"]
    assert found["g"]["error_message"] == "outer api_key='[redacted]' (2 sub-exceptions)"


async def test_arguments_and_attributes_stay_json(make, rows):
    """With everything that is no secret as it was; and the job itself gets what it was given."""
    got = []
    async with make() as telemetry:
        kwargs = {"pin_code": 1234, "door": "front", "use_token": True}
        job = telemetry.register_job(lambda **given: got.append(given), app_key=APP, kwargs=kwargs, job_name="j")
        await telemetry.execute(ExecuteJob(job))
        listener = telemetry.register_listener(lambda _: attribute(), topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
    assert got == [kwargs]
    (stored,) = rows("SELECT kwargs_json FROM scheduled_jobs")
    assert stored["kwargs_json"] == '{"door": "front", "pin_code": "[redacted]", "use_token": true}'
    assert rows("SELECT attributes FROM handler_invocations") == [{"attributes": '{"door.pin_code":"[redacted]"}'}]


async def test_what_others_export_is_theirs(make, rows, monkeypatch):
    """Spans go to other processors as they are: what a handler put on them is not ours to change."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with make(tracer_provider=provider) as telemetry:
        monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
        for way in (attribute, child):
            listener = telemetry.register_listener(lambda _, way=way: way(), topic="t", app_key=APP, name=way.__name__)
            await telemetry.execute(InvokeHandler(listener))
    found = {span.name.partition(" ")[0]: dict(span.attributes) for span in exporter.get_finished_spans()}
    assert found["GET"]["client_secret"] == SECRET
    assert SECRET in [span.attributes.get("door.pin_code") for span in exporter.get_finished_spans()]
    assert SECRET not in str(rows("SELECT * FROM v_spans")) + str(rows("SELECT * FROM v_handler_invocations"))


async def test_words_of_ones_own(make, rows):
    """What is secret in this house and nowhere else."""
    async with make(redact_keys=["default", "webhook_id"]) as telemetry:
        kwargs = {"webhookId": "abc", "password": "def", "door": "front"}
        telemetry.register_job(print, app_key=APP, kwargs=kwargs)
    (stored,) = rows("SELECT kwargs_json FROM scheduled_jobs")
    assert stored["kwargs_json"] == '{"door": "front", "password": "[redacted]", "webhookId": "[redacted]"}'


async def test_a_plain_success_is_not_looked_at(make, rows, monkeypatch):
    """Nine runs of ten have nothing to hide: no pattern is tried for them."""
    from handspan.redaction import Redactor

    async with make() as telemetry:
        listener = telemetry.register_listener(lambda _: None, topic="t", app_key=APP)
        assert await telemetry.aflush()
        for name in ("text", "value", "mapping", "head", "tail"):
            monkeypatch.setattr(Redactor, name, lambda *_: pytest.fail("looked"))
        for _ in range(3):
            await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
    assert rows("SELECT count(*) AS n FROM handler_invocations WHERE status = 'success'") == [{"n": 3}]
