"""Our handles for Hassette's listeners and jobs, made when one first runs.

Hassette's natural keys are ours, and it enforces them itself: (app, instance, name, topic) and (app, instance,
job name). So a handle stands for a key, and a reloaded app's new objects take the old handle's place.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

from handspan.commands import Handle, Job, Listener
from handspan.integrations.host import Host

__all__ = ["Handles"]

_Key = tuple[Any, ...]


class Handles:
    """By natural key, with a token that says which of Hassette's objects it was made for. Holds none of them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._handles: dict[_Key, tuple[object, Handle]] = {}

    def cancel(self) -> None:
        while self._handles:
            self._handles.popitem()[1][1].cancel()

    def listener(self, source: Any, invoke: Callable[..., Any]) -> Listener:
        identity, options = source.identity, source.options
        app_key, name = identity.app_key or "hassette", identity.name or identity.handler_short_name

        def register() -> Listener:
            summarize = getattr(source.predicate, "summarize", None)
            return self._host.register_listener(
                source.invoker.orig_handler,
                topic=source.topic,
                app_key=app_key,
                instance_index=identity.instance_index,
                name=name,
                debounce=options.debounce,
                throttle=options.throttle,
                once=options.once,
                priority=options.priority,
                predicate_description=None if summarize is None else summarize(),
                invoke=invoke,
            )

        key = ("listener", app_key, identity.instance_index, name, source.topic)
        found: Listener = self._get(key, source.listener_id, identity.source_location, register)
        return found

    def job(self, source: Any, invoke: Callable[..., Any]) -> Job:
        app_key, trigger = source.app_key or "hassette", source.trigger

        def register() -> Job:
            kind = "manual" if trigger is None else trigger.trigger_db_type()
            job = self._host.register_job(
                source.job,
                job_name=source.name,
                app_key=app_key,
                instance_index=source.instance_index,
                args=tuple(source.args),
                kwargs=dict(source.kwargs),
                trigger_type=kind,
                trigger_value=None if trigger is None else trigger.trigger_detail(),
                repeat=kind in ("interval", "cron", "custom"),
            )
            job.call, job.is_async = invoke, True  # a job has no invoke= of its own
            return job

        key = ("job", app_key, source.instance_index, source.name)
        found: Job = self._get(key, (source.db_id, id(source)), source.source_location, register)
        next_run = source.fire_at  # Hassette sets it before the run
        self._host.set_next_run(found, None if next_run is None else next_run.to_instant())
        return found

    def _get(self, key: _Key, token: object, location: str, register: Callable[[], Handle]) -> Any:
        known = self._handles.get(key)
        if known is not None:
            if known[0] == token:
                return known[1]
            known[1].cancel()
        handle = _registering_at(location, register)
        self._handles[key] = (token, handle)
        return handle


def _registering_at(location: str, register: Callable[[], Handle]) -> Handle:
    """Registering looks for its caller's frame. The app's call is long over; Hassette knows where it was, so
    this calls from a frame that says it is there."""
    file, _, line = location.rpartition(":")
    if not file or not line.isdigit():
        return register()
    code = (lambda call: call()).__code__.replace(co_filename=file, co_firstlineno=int(line))
    handle: Handle = FunctionType(code, {"__name__": "hassette"})(register)
    return handle
