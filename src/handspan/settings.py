"""Settings: a frozen dataclass, read from arguments first, ``HANDSPAN_*`` variables second.

Each default carries its unit and reason. ``docs/settings.md`` documents every one (a test checks).
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, get_origin, get_type_hints

import msgspec

from handspan.errors import SettingsError

__all__ = ["Settings", "log_level_number", "misspelt"]


Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]  # a day; a lock can wait 292 years, but not inf
Days = Annotated[float, msgspec.Meta(gt=0, le=36_500)]
Megabytes = Annotated[int, msgspec.Meta(ge=1)]
WindowHours = Annotated[int, msgspec.Meta(ge=1, le=168)]
HabitDays = Annotated[int, msgspec.Meta(ge=1, le=80)]  # hours' figures are kept for 90
Factor = Annotated[float, msgspec.Meta(gt=1, le=1000)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=86_400_000)]
Glob = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]

KeyWord = Annotated[str, msgspec.Meta(pattern=r"^(?!default.)[^;:]*[^\W\d_][^;:]*$", max_length=100)]  # with a letter

ENV_PREFIX = "HANDSPAN_"
OTHER_VARIABLES: Final = ("HANDSPAN_DEBUG",)
"""Variables that are no settings: the command line's."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one ``Telemetry`` behaves. Build it with :meth:`load` to have the environment heard."""

    db: Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[^\x00]+$")] = "handspan.db"
    """Path of the database file."""

    service_name: str | None = None
    """Which service these registrations belong to; else the provider's ``service.name``."""

    service_namespace: str | None = None
    """OpenTelemetry's ``service.namespace``: tells two houses with one ``service_name`` apart."""

    service_version: str | None = None
    """Version of your application, kept per session so that versions can be compared."""

    propagation: Literal["link", "child"] = "link"
    """``link``: each invocation is a trace of its own, linked to the span that published its event
    (cascades can be endless). ``child``: it continues the publisher's trace."""

    commit_interval: Seconds = 2.0
    """Seconds a finished run may wait before the writer commits it. Each commit writes some forty kilobytes, and an SD
    card has so many writes in it: 2 s is a quarter of what 0.5 s wears, and the journal keeps what waits."""

    journal: bool = True
    """Write each run's start and end to a journal beside the database at once, so that nothing that finished is lost
    to a ``kill -9`` and nothing in flight forgotten. Off, the last ``commit_interval`` is lost."""

    journal_max_mb: Megabytes = 256
    """Size the journal may reach while the database cannot be written (about 130 bytes a run); then runs wait in
    memory, and past ``queue_max_spans`` successes are dropped and counted."""

    segment_max_spans: Count = 4096
    """Spans in one transaction: about 25 ms of writing; a larger one gains under 5 %."""

    queue_max_spans: Count = 100_000
    """Finished spans kept in memory while the database cannot be written; more wait in the journal."""

    queue_max_mb: Megabytes = 64
    """The same, in megabytes (estimated: 0.5 kB a span plus its texts)."""

    db_retention_days: Days = 7
    """Days a run is kept. Checked hourly."""

    db_max_size_mb: Megabytes = 500
    """Size the file is held under, in live pages. Checked at start, hourly, and as it grows."""

    hourly_rollup_days: Days = 90
    """Days an hour's figures are kept (about 60 bytes a registration and hour). A minute's go with the runs."""

    daily_rollup_days: Days = 365
    """Days a day's figures are kept: what ran, failed and how long it took, long after its runs are gone."""

    busy_timeout: Seconds = 5.0
    """Seconds SQLite waits for another process's lock before the writer backs off and retries."""

    heartbeat_interval: Seconds = 30.0
    """Seconds between signs of life of an idle session; each is one page written."""

    open_timeout: Seconds = 5.0
    """Seconds opening may wait for the database before the application goes on without waiting."""

    shutdown_timeout: Seconds = 5.0
    """Seconds ``close()`` waits for running commands and error hooks, and then for the last commit. SIGTERM and the
    interpreter's exit wait for the commit only: what still runs is recorded as ``ProcessInterrupted`` at once."""

    sync_workers: Count = 8
    """Threads for handlers and jobs that are plain functions."""

    hook_timeout: Seconds = 10.0
    """Seconds an ``on_error`` hook may take."""

    hooks_per_minute: Count = 10
    """Calls of the ``on_error`` hooks a minute and fingerprint (registration and error type)."""

    max_message_chars: Count = 4_000
    """Longer error messages are cut, and say so."""

    max_traceback_chars: Count = 32_000
    """Longer tracebacks are cut in the middle, and say so."""

    log_level: str = "INFO"
    """Lines logged while a command runs are kept from this level on: a name of the logging module, or ``OFF``. What the
    root logger and others let pass is theirs to say: this changes no level."""

    log_max_records: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 100
    """Lines kept of one run: the first half and the newest. A line in between says how many are missing."""

    log_max_chars: Annotated[int, msgspec.Meta(ge=50, le=100_000)] = 2_000
    """Longer lines are cut, and say so. So are the tracebacks in them, at four times as many characters."""

    redact_keys: tuple[KeyWord, ...] = ("default",)
    """Words of keys whose values are replaced by ``[redacted]`` before anything is stored. ``default`` stands for
    :data:`handspan.redaction.DEFAULT_KEYS`, ``-word`` takes one out, none at all turns redaction off."""

    verdict_window_hours: WindowHours = 24
    """Hours the verdict looks at: what went wrong at night is still said in the evening."""

    verdict_habit_days: HabitDays = 7
    """Days before the window that are the habit: a whole week, so that each weekday is in it once."""

    verdict_min_runs: Count = 20
    """Runs without which there is no habit: of fewer, none failing still allows every sixth to."""

    verdict_error_factor: Factor = 2.0
    """Times its habit a share of failed (or late) runs must be. Chance is ruled out apart from this."""

    verdict_slower_factor: Factor = 2.0
    """Times its habit a p95 must be: half as much again comes and goes with what else the machine does."""

    verdict_slower_ms: Milliseconds = 10.0
    """Milliseconds a p95 must have grown by: nobody feels less."""

    verdict_quiet_factor: Factor = 2.0
    """Times its longest usual pause a registration must be silent; an hour in any case."""

    verdict_ignore: tuple[Glob, ...] = ()
    """Registrations and rules the verdict never speaks of: ``flaky.*``, ``overlapped``, ``slower:energy.rollup``."""

    handle_sigterm: bool = True
    """On SIGTERM's default action, commit what finished before dying of it."""

    set_global_providers: bool = True
    """Make a provider of ours OpenTelemetry's global one, so that libraries' spans join in."""

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, /, **overrides: Any) -> "Settings":
        """Arguments first, then ``HANDSPAN_<FIELD>`` variables, then the defaults.

        Raises :class:`SettingsError` naming the setting and what was wrong with it.
        """
        environ = os.environ if environ is None else environ
        known = {field.name: field for field in fields(cls)}
        unknown = sorted(set(overrides) - set(known))
        if unknown:
            raise SettingsError(f"There is no setting {unknown[0]!r}.", hint=f"There are: {', '.join(sorted(known))}.")
        values: dict[str, Any] = {}
        for name, field in known.items():
            text = environ.get(ENV_PREFIX + name.upper())
            if text:
                values[name] = _from_text(field, text)
        if isinstance(overrides.get("db"), os.PathLike):
            overrides["db"] = os.fspath(overrides["db"])
        given = cls._checked(values, variables=True) | cls._checked(overrides, variables=False)
        return cls(**given)

    @classmethod
    def _checked(cls, values: dict[str, Any], *, variables: bool) -> dict[str, Any]:
        """An argument that should be a number is one. A text from the environment is read as what it should be."""
        types = get_type_hints(cls, include_extras=True)
        found = {}
        for name, value in values.items():
            try:
                found[name] = msgspec.convert(value, types[name], strict=not variables)
            except msgspec.ValidationError as error:
                setting = f"The setting {name!r}"
                which = f"{ENV_PREFIX}{name.upper()} ({setting.lower()})" if variables else setting
                raise SettingsError(f"{which} cannot be {value!r}: {error}.", hint=_choices(types[name])) from None
        if "log_level" in found:
            log_level_number(found["log_level"])
        words = found.get("redact_keys", ())
        if words and all(word.startswith("-") for word in words):  # it would take out of nothing, and redact nothing
            raise SettingsError(
                f"The setting 'redact_keys' cannot be {words!r}: all of it takes words out, and none is in.",
                hint=f"Begin with the default: {','.join(('default', *words))}.",
            )
        return found


def misspelt(environ: Mapping[str, str] | None = None, /) -> list[str]:
    """A sentence for each ``HANDSPAN_*`` variable that nothing reads, with the name that was meant."""
    environ = os.environ if environ is None else environ
    known = [ENV_PREFIX + field.name.upper() for field in fields(Settings)] + [*OTHER_VARIABLES]
    sentences = []
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.75)
            meant = f"Did you mean {close[0]}?" if close else "docs/settings.md lists those that are."
            sentences.append(f"{name} is no setting, and nothing reads it. {meant}")
    return sentences


def _choices(annotated: Any) -> str:
    """What there is to choose from, where it can be listed."""
    if annotated is bool:
        return "It is true or false."
    choices = getattr(annotated, "__args__", ()) if get_origin(annotated) is Literal else ()
    return f"It is {' or '.join(map(repr, choices))}." if choices else ""


def log_level_number(level: str) -> int | None:
    """Of the setting ``log_level``; None for ``OFF``."""
    known = {name.upper(): number for name, number in logging.getLevelNamesMapping().items()}
    name = level.strip().upper()
    if name == "OFF":
        return None
    if name not in known:
        choices = ", ".join([*sorted(known, key=lambda each: (known[each], each)), "OFF"])
        raise SettingsError(
            f"HANDSPAN_LOG_LEVEL (the setting 'log_level') cannot be {level!r}.", hint=f"Choose one of: {choices}."
        )
    return known[name]


def _from_text(field: "Field[Any]", text: str) -> Any:
    """What msgspec does not read: a switch in people's words, a list. ``none`` is the empty list: an empty
    variable counts as not set."""
    if field.type is bool:
        return _SWITCHES.get(text.strip().lower(), text)
    if field.name in ("redact_keys", "verdict_ignore"):
        return [] if text.strip().lower() == "none" else [word.strip() for word in text.split(",") if word.strip()]
    return text


_SWITCHES: Final = {"yes": "true", "on": "true", "no": "false", "off": "false"}
"""Spellings of a switch that msgspec does not read."""
