"""Everything handspan raises, drawn.

    HandspanError
    ├── DependencyError            a handler's parameter could not be supplied
    ├── RegistrationError
    │   └── DuplicateRegistrationError
    ├── NotRegisteredError         a command for a handle of another Telemetry
    ├── SettingsError              a setting or HANDSPAN_* variable that makes no sense
    ├── ProcessInterrupted         never raised: the error_type of a run its process did not survive
    └── DatabaseError
        ├── MissingDatabaseError   nothing has been recorded there: no file, or an empty one
        ├── NotADatabaseError      the path holds something else: a text file, a directory
        ├── ForeignDatabaseError   an SQLite file of somebody else
        ├── NewerSchemaError       written by a newer handspan
        ├── UnwritableDatabaseError
        ├── CorruptDatabaseError
        ├── DatabaseBusyError      another process holds the lock; passes by itself
        ├── QueryTimeoutError      a reader asked for more than its deadline allows
        └── MigrationError         an upgrade failed and was rolled back

Which of the database errors stop a program: those only its author can cure, in code (the path is
not a handspan database and never will be: NotADatabaseError, ForeignDatabaseError). Everything a
machine can do to a running house (read-only, full, busy, corrupt, rolled back to an older version)
costs telemetry, never service: recording waits, says so once in the log, and resumes by itself.
"""

__all__ = [
    "CorruptDatabaseError",
    "DatabaseBusyError",
    "DatabaseError",
    "DependencyError",
    "DuplicateRegistrationError",
    "ForeignDatabaseError",
    "HandspanError",
    "MigrationError",
    "MissingDatabaseError",
    "NewerSchemaError",
    "NotADatabaseError",
    "NotRegisteredError",
    "ProcessInterrupted",
    "QueryTimeoutError",
    "RegistrationError",
    "SettingsError",
    "UnwritableDatabaseError",
]


class HandspanError(Exception):
    """Base of everything handspan raises. ``hint`` says how to cure it, where a user can."""

    hint: str = ""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        self.hint = hint or type(self).hint
        message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(f"{message} {self.hint}".strip() if self.hint else message)


class DependencyError(HandspanError):
    """A parameter of a handler could not be supplied."""


class RegistrationError(HandspanError):
    """A handler or job could not be registered."""


class DuplicateRegistrationError(RegistrationError):
    """A live registration with this natural key already exists in this process."""

    hint = "Provide a distinct name."


class NotRegisteredError(HandspanError):
    """The command's listener or job is not registered with this Telemetry."""


class SettingsError(HandspanError):
    """A setting has a value that makes no sense."""


class ProcessInterrupted(HandspanError):  # noqa: N818 - the name is the error_type users filter by
    """The process ended while this ran."""


class DatabaseError(HandspanError):
    """The database could not be used."""


class MissingDatabaseError(DatabaseError):
    """There is no database at the path yet."""

    hint = "Recording makes it: run your application with handspan, or `handspan demo`."


class NotADatabaseError(DatabaseError):
    """The path does not hold an SQLite database."""

    hint = "Nothing was changed. Give a path that does not exist yet, or that handspan made."


class ForeignDatabaseError(DatabaseError):
    """The SQLite file belongs to another program."""

    hint = "Nothing was changed. Give handspan a file of its own."


class NewerSchemaError(DatabaseError):
    """The file was written by a newer handspan."""

    hint = "Nothing was changed. Upgrade handspan, or give it another path until you do."


class UnwritableDatabaseError(DatabaseError):
    """The database cannot be written."""

    hint = "Check that the directory exists and that this user may write to it and to the file."


class CorruptDatabaseError(DatabaseError):
    """The database is damaged."""

    hint = "Nothing was deleted. `handspan db check` shows the damage, `handspan db salvage` saves what can be read."


class DatabaseBusyError(DatabaseError):
    """Another process holds the database's write lock."""


class QueryTimeoutError(DatabaseError):
    """The query took longer than its deadline."""

    hint = "Ask for a shorter time window, or for fewer rows."


class MigrationError(DatabaseError):
    """Upgrading the database failed and was rolled back."""

    hint = "The file is as it was before, and a backup lies beside it."
