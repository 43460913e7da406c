"""Every span attribute, metric and scope name handspan emits, one line of meaning under each.

Sources: OpenTelemetry semantic conventions 1.44 for ``messaging.*``, ``code.*``, ``error.*`` and
``exception.*``; the ``handspan.*`` names are ours (no convention for jobs or handlers exists yet).
"""

from typing import Final

SCOPE_NAME: Final = "handspan"
"""Instrumentation scope of every command span and metric."""

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The convention version the names below follow."""

# --- messaging: what a handler invocation is, in the field's words ------------------------------

MESSAGING_SYSTEM: Final = "messaging.system"
"""Always ``handspan``."""

MESSAGING_OPERATION_NAME: Final = "messaging.operation.name"
"""Always ``handle``."""

MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
"""Always ``process``."""

MESSAGING_DESTINATION_NAME: Final = "messaging.destination.name"
"""The topic the listener is registered for (a pattern keeps its wildcards: cardinality stays low)."""

# --- code: where the callable is ---------------------------------------------------------------

CODE_FUNCTION_NAME: Final = "code.function.name"
"""Fully qualified name of the callable."""

CODE_FILE_PATH: Final = "code.file.path"
"""File the callable was defined in; absent where there is none."""

CODE_LINE_NUMBER: Final = "code.line.number"
"""Line the callable starts at; absent where there is none."""

# --- outcome -----------------------------------------------------------------------------------

ERROR_TYPE: Final = "error.type"
"""Fully qualified class of the exception; absent on success."""

OUTCOME: Final = "handspan.outcome"
"""``success``, ``error`` or ``cancelled``."""

DURATION_MS: Final = "handspan.duration_ms"
"""Monotonic duration in milliseconds, immune to clock steps."""

# --- identity ----------------------------------------------------------------------------------

APP_KEY: Final = "handspan.app.key"
"""The application's key, e.g. ``kitchen.KitchenLights``."""

APP_INSTANCE: Final = "handspan.app.instance"
"""Which instance of the application, from 0."""

LISTENER_NAME: Final = "handspan.listener.name"
"""The listener's name, by default the handler's method name."""

JOB_NAME: Final = "handspan.job.name"
"""The job's name, by default the callable's name."""

JOB_TRIGGER_TYPE: Final = "handspan.job.trigger.type"
"""``cron``, ``interval``, ... ; absent for a one-shot job."""

JOB_TRIGGER_VALUE: Final = "handspan.job.trigger.value"
"""What the trigger was given, e.g. ``300`` (seconds) or ``0 7 * * *``."""

JOB_SCHEDULED_TIME: Final = "handspan.job.scheduled_time"
"""ISO 8601 moment this run was due; absent where the caller gave none."""

LINK_ROLE: Final = "handspan.link"
"""On a command span's link to the span that published its event: ``publisher``."""

# --- exception events (semantic conventions "exceptions") ----------------------------------------

EXCEPTION_EVENT: Final = "exception"
"""Name of the span event that carries an exception."""

EXCEPTION_TYPE: Final = "exception.type"
"""Fully qualified class of the exception."""

EXCEPTION_MESSAGE: Final = "exception.message"
"""``str(exception)``, bounded."""

EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
"""The traceback as Python prints it, bounded."""

# --- metrics -----------------------------------------------------------------------------------

METRIC_HANDLER_DURATION: Final = "messaging.process.duration"
"""Histogram, s: duration of a handler invocation."""

METRIC_JOB_DURATION: Final = "handspan.job.duration"
"""Histogram, s: duration of a job execution."""

METRIC_JOB_SCHEDULE_DELAY: Final = "handspan.job.schedule.delay"
"""Histogram, s: actual start minus scheduled moment; only when that moment was given."""

METRIC_HANDLER_QUEUE_DURATION: Final = "handspan.handler.queue.duration"
"""Histogram, s: start minus moment of publication; only when that moment was given."""

METRIC_EXECUTION_ACTIVE: Final = "handspan.execution.active"
"""Observable up-down counter, {execution}: commands in flight."""

METRIC_QUEUE_SIZE: Final = "otel.sdk.processor.span.queue.size"
"""Observable up-down counter, {span}: finished spans not yet committed."""

METRIC_QUEUE_CAPACITY: Final = "otel.sdk.processor.span.queue.capacity"
"""Observable up-down counter, {span}: the bound of that queue."""

METRIC_PROCESSED: Final = "otel.sdk.processor.span.processed"
"""Observable counter, {span}: spans committed (no ``error.type``) or dropped (``error.type`` says why)."""

METRIC_STORE_COMMIT_DURATION: Final = "handspan.store.commit.duration"
"""Histogram, s: one transaction of the writer."""

METRIC_STORE_SIZE: Final = "handspan.store.size"
"""Observable gauge, By: live pages of the database file."""

COMPONENT_TYPE: Final = "otel.component.type"
"""On the processor's metrics: ``handspan_durable_span_processor``."""

COMPONENT_NAME: Final = "otel.component.name"
"""On the processor's metrics: the type and a number, e.g. ``handspan_durable_span_processor/0``."""

RUN_ATTRIBUTES: Final = frozenset(
    {
        MESSAGING_SYSTEM,
        MESSAGING_OPERATION_NAME,
        MESSAGING_OPERATION_TYPE,
        MESSAGING_DESTINATION_NAME,
        CODE_FUNCTION_NAME,
        CODE_FILE_PATH,
        CODE_LINE_NUMBER,
        ERROR_TYPE,
        OUTCOME,
        DURATION_MS,
        APP_KEY,
        APP_INSTANCE,
        LISTENER_NAME,
        JOB_NAME,
        JOB_TRIGGER_TYPE,
        JOB_TRIGGER_VALUE,
        JOB_SCHEDULED_TIME,
    }
)
"""What handspan itself puts on a command span: a row stores only what is not in here."""
