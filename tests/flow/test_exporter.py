"""The store as a plain SpanExporter: under the stock processors, and by environment variable alone."""

import os
import subprocess
import sys
import textwrap

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from handspan import ExecuteJob, InvokeHandler
from handspan_exporters.sqlite import SQLiteSpanExporter

APP = "kitchen.KitchenLights"


async def on_light(event):
    if event == "bad":
        raise ValueError("bad bulb")


async def tidy_up(): ...


def exporting(path):
    exporter = SQLiteSpanExporter(path)
    provider = TracerProvider(resource=Resource({"service.name": "stock"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, exporter


async def test_command_spans_become_executions_and_others_spans(make, rows, tmp_path):
    """Through the stock pipeline a command's row is read from its span's attributes, and says the same."""
    other = str(tmp_path / "exported.db")
    provider, _ = exporting(other)
    async with make(tracer_provider=provider) as telemetry:
        light = telemetry.register_listener(on_light, topic="light.*", app_key=APP, name="kitchen")
        tidy = telemetry.register_job(tidy_up, app_key=APP, trigger_type="cron", trigger_value="0 7 * * *")
        await telemetry.execute(InvokeHandler(light))
        await telemetry.execute(InvokeHandler(light, event="bad"))
        await telemetry.execute(ExecuteJob(tidy))
        with provider.get_tracer("http").start_as_current_span("GET /"):
            pass
    provider.shutdown()
    compared = """SELECT kind, app_key, name, trigger, status, started_at, duration_ms, error_type, error_message,
                         trace_id, span_id FROM v_executions ORDER BY kind, execution_start_ts"""
    assert rows(compared, path=other) == rows(compared)
    stack = "SELECT error_traceback AS text FROM v_handler_invocations WHERE status = 'error'"
    assert rows(stack, path=other) == rows(stack)
    assert rows("SELECT name FROM v_spans", path=other) == [{"name": "GET /"}]
    (session,) = rows("SELECT v.name, s.stop_reason FROM sessions s JOIN services v ON v.id = service_id", path=other)
    assert session == {"name": "stock", "stop_reason": "clean_shutdown"}


async def test_a_telemetry_and_an_exporter_on_one_file_store_each_span_once(make, rows, db):
    """Both are handed the command's span, and its children."""
    provider, _ = exporting(db)

    async def on_event(event):
        with provider.get_tracer("lib").start_as_current_span("child"):
            pass

    async with make(tracer_provider=provider, service_name=None) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        for _ in range(20):
            await telemetry.execute(InvokeHandler(listener))
        provider.force_flush()
        for _ in range(20):
            await telemetry.execute(InvokeHandler(listener))
    provider.shutdown()
    assert rows("SELECT count(*) AS n, count(DISTINCT span_id) AS d FROM handler_invocations") == [{"n": 40, "d": 40}]
    assert rows("SELECT count(*) AS n, count(DISTINCT span_id) AS d FROM spans") == [{"n": 40, "d": 40}]
    assert len(rows("SELECT * FROM listeners")) == 1


def test_exporting_twice_stores_once(rows, db):
    """A pipeline that retries after a lost answer does no harm."""
    provider = TracerProvider()
    captured = []

    class Capture(SQLiteSpanExporter):
        def export(self, spans):
            captured.extend(spans)
            return super().export(spans)

    exporter = Capture(db)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    with provider.get_tracer("x").start_as_current_span("once"):
        pass
    provider.force_flush()
    assert exporter.export(captured) is SpanExportResult.SUCCESS
    assert exporter.export([*captured, *captured]) is SpanExportResult.SUCCESS
    provider.shutdown()
    assert len(rows("SELECT * FROM spans")) == 1


def test_after_shutdown_export_fails_and_says_so(db):
    """The contract of SpanExporter: nothing is taken after shutdown."""
    exporter = SQLiteSpanExporter(db)
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export([]) is SpanExportResult.FAILURE


def test_an_unusable_file_is_a_failure_and_not_an_exception(tmp_path):
    """The stock processor would log and drop; it must not be ended by an exception of ours."""
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be read as a header " * 20)
    provider, _ = exporting(str(text))
    with provider.get_tracer("x").start_as_current_span("lost"):
        pass
    provider.force_flush()
    provider.shutdown()
    assert text.read_text().startswith("not a database")


@pytest.mark.parametrize("exporters", ["handspan", "handspan,console"])
def test_zero_code_by_environment_variable(tmp_path, rows, exporters):
    """``OTEL_TRACES_EXPORTER=handspan opentelemetry-instrument python app.py`` needs no import of ours."""
    app = tmp_path / "app.py"
    app.write_text(
        textwrap.dedent("""
        from opentelemetry import trace
        with trace.get_tracer("app").start_as_current_span("work"):
            pass
        """)
    )
    path = str(tmp_path / "zero.db")
    environ = os.environ | {
        "OTEL_TRACES_EXPORTER": exporters,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "zero",
        "HANDSPAN_DB": path,
    }
    launcher = os.path.join(os.path.dirname(sys.executable), "opentelemetry-instrument")
    command = [launcher, sys.executable, str(app)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert rows("SELECT name FROM v_spans", path=path) == [{"name": "work"}]
    assert rows("SELECT name FROM services", path=path) == [{"name": "zero"}]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_prefork_server_records_in_its_workers(tmp_path, rows):
    """Parent exports, forks, child exports: both are in the file, under sessions of their own."""
    path = str(tmp_path / "prefork.db")
    program = """
import os, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from handspan_exporters.sqlite import SQLiteSpanExporter
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(SQLiteSpanExporter(sys.argv[1])))
def span(name):
    with provider.get_tracer("x").start_as_current_span(name):
        pass
span("parent")
provider.force_flush()
pid = os.fork()
if pid == 0:
    for _ in range(10):
        span("child")
    provider.shutdown()
    os._exit(0)
os.waitpid(pid, 0)
span("parent")
provider.shutdown()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found = rows("SELECT name, count(*) AS n FROM spans GROUP BY name ORDER BY name", path=path)
    assert found == [{"name": "child", "n": 10}, {"name": "parent", "n": 2}]
    assert [row["stop_reason"] for row in rows("SELECT stop_reason FROM sessions", path=path)] == ["clean_shutdown"] * 2
