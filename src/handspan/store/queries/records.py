"""Rows of the two execution tables as Python values. Here and not in ``handspan.records``: only readers need them."""

from dataclasses import dataclass

from whenever import Instant

from handspan.records import Status

__all__ = ["HandlerInvocationRecord", "JobExecutionRecord"]


@dataclass(frozen=True)
class HandlerInvocationRecord:
    """A row of ``handler_invocations``."""

    id: int
    listener_id: int
    execution_start_ts: Instant
    duration_ms: float
    status: Status
    trace_id: str
    span_id: str
    session_id: int
    app_key: str
    name: str
    topic: str
    queue_ms: float | None = None
    error_type: str | None = None
    error_message: str | None = None
    error_traceback: str | None = None


@dataclass(frozen=True)
class JobExecutionRecord:
    """A row of ``job_executions``."""

    id: int
    job_id: int
    execution_start_ts: Instant
    duration_ms: float
    status: Status
    trace_id: str
    span_id: str
    session_id: int
    app_key: str
    job_name: str
    scheduled_ts: Instant | None = None
    error_type: str | None = None
    error_message: str | None = None
    error_traceback: str | None = None
