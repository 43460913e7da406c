"""Pre-built runs, and a database to put them in, without executor and threads."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

from opentelemetry.sdk.resources import Resource

from handspan.providers.tracing import OwnTracerProvider
from handspan.records import ListenerRegistration, Registration, Segment, Session, SpanRecord
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents

__all__ = ["SEGMENT", "SESSION", "database", "registrations", "segments"]

SEGMENT = 4096  # Settings.segment_max_spans
SESSION = Session(instance_id="benchmark", service_name="benchmark")

TRACEBACK = """Traceback (most recent call last):
  File "/app/apps/kitchen.py", line {line}, in on_light
    await self.lamp.turn_on(brightness=event.brightness)
  File "/app/apps/lamps.py", line 117, in turn_on
    raise LampError(f"{{self.name}} does not answer")
"""


def registrations(count: int) -> dict[int, Registration]:
    def listener(number: int) -> ListenerRegistration:
        app_key, name = f"app_{number % 20}.App", f"on_{number}"
        return ListenerRegistration(app_key=app_key, instance_index=0, name=name, topic="light.*", handler_method="on")

    return {number: listener(number) for number in range(1, count + 1)}


def segments(
    count: int,
    *,
    listeners: int = 60,
    size: int = SEGMENT,
    first: int = 1,
    link: bool = False,
    errors: float = 0.0,
    logged: float = 0.0,
    apart_us: int = 5_000,
    skewed: bool = False,
) -> Iterator[Segment]:
    """Runs of many listeners as they come: starts ``apart_us`` apart, durations long-tailed. ``errors``: the share
    that fails, 40 messages from each of 20 stacks;
    ``logged``: the share that logs a line. ``skewed``: the busiest listener has a fifth of all runs."""
    chance = random.Random(first)
    ids = OwnTracerProvider(Resource({})).id_generator  # as commands get them: indexes feel the difference
    known = registrations(listeners)
    shares = [1 / rank if skewed else 1.0 for rank in range(1, listeners + 1)]
    now = int(time() * 1e6)
    made = 0
    number = first
    while made < count:
        records = []
        whose = chance.choices(range(1, listeners + 1), shares, k=min(size, count - made))
        for listener in whose:
            now += int(chance.expovariate(1 / apart_us)) + 1
            error = chance.random() < errors
            records.append(
                SpanRecord(
                    ids.generate_trace_id().to_bytes(16, "big"),
                    ids.generate_span_id().to_bytes(8, "big"),
                    now * 1000,
                    int(chance.lognormvariate(15, 1.5)),
                    "error" if error else "success",
                    listener,
                    link_trace_id=ids.generate_trace_id().to_bytes(16, "big") if link else None,
                    link_span_id=ids.generate_span_id().to_bytes(8, "big") if link else None,
                    queue_ns=int(chance.expovariate(1 / 300_000)) if link else None,
                    error_type="LampError" if error else None,
                    error_message=f"lamp {chance.randint(1, 40)} does not answer" if error else None,
                    error_traceback=TRACEBACK.format(line=chance.randint(1, 20)) if error else None,
                    logs=[(now / 1e6, 20, "app.lamps", f"brightness {now % 100}", None, None)]
                    if logged and chance.random() < logged
                    else None,
                )
            )
        made += len(records)
        yield Segment(number, SESSION, records, known)
        number += 1


@contextmanager
def database(path: Path) -> Iterator[tuple[sqlite3.Connection, Parents]]:
    """A current handspan file, opened as the writer opens it."""
    conn = open_for_writing(str(path), busy_timeout=30)
    parents = Parents(conn)
    conn.execute("BEGIN IMMEDIATE")
    parents.rollups.own_session = parents.session_id(SESSION, time())  # as the writer's, whose buckets stay in memory
    conn.execute("COMMIT")
    try:
        yield conn, parents
    finally:
        conn.close()
