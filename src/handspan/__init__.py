"""Every handler and job, a span at hand.

    async with handspan.Telemetry("home.db") as telemetry:
        light = telemetry.register_listener(on_light, topic="light.kitchen", app_key="kitchen")
        await telemetry.execute(handspan.InvokeHandler(light, event={"state": "on"}))

Names load when first used (PEP 562): an entry point can load one module without the rest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from handspan._version import __version__

if TYPE_CHECKING:
    from handspan.commands import ExecuteJob, InvokeHandler, Job, Listener
    from handspan.errors import DependencyError, HandspanError
    from handspan.executor.hooks import ErrorReport
    from handspan.outcome import ExecutionResult
    from handspan.settings import Settings
    from handspan.store.service import DatabaseService
    from handspan.telemetry import Telemetry

__all__ = [
    "DatabaseService",
    "DependencyError",
    "ErrorReport",
    "ExecuteJob",
    "ExecutionResult",
    "HandspanError",
    "InvokeHandler",
    "Job",
    "Listener",
    "Settings",
    "Telemetry",
    "__version__",
]

_HOMES = {
    "DatabaseService": "handspan.store.service",
    "DependencyError": "handspan.errors",
    "ErrorReport": "handspan.executor.hooks",
    "ExecuteJob": "handspan.commands",
    "ExecutionResult": "handspan.outcome",
    "HandspanError": "handspan.errors",
    "InvokeHandler": "handspan.commands",
    "Job": "handspan.commands",
    "Listener": "handspan.commands",
    "Settings": "handspan.settings",
    "Telemetry": "handspan.telemetry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'handspan' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
