"""What the writer needs of the settings: nothing of the store imports them."""

from typing import Protocol

__all__ = ["WriterOptions"]


class WriterOptions(Protocol):
    """``handspan.Settings`` has them all; see there."""

    @property
    def db(self) -> str: ...
    @property
    def commit_interval(self) -> float: ...
    @property
    def busy_timeout(self) -> float: ...
    @property
    def heartbeat_interval(self) -> float: ...
    @property
    def db_retention_days(self) -> float: ...
    @property
    def db_max_size_mb(self) -> int: ...
    @property
    def redact_keys(self) -> tuple[str, ...]: ...
