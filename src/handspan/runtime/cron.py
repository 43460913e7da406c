"""Cron expressions, as cron means them, put into the fields of APScheduler's ``CronTrigger``.

APScheduler 3 reads a crontab line differently in two places, and says so in its documentation: it counts
weekdays from Monday (cron: from Sunday, 7 again being Sunday), and it fires when day of month *and* day of
week fit (cron: when either does, if both are restricted).
"""

from typing import Final

from handspan.errors import RegistrationError

__all__ = ["cron_fields", "daily_expression"]

_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def cron_fields(expression: str) -> list[dict[str, str]]:
    """``minute hour day month weekday [second]`` as one set of fields, or two of which either may fit."""
    parts = _NICKNAMES.get(expression.strip().lower(), expression).split()
    if len(parts) not in (5, 6):
        raise RegistrationError(
            f"{expression!r} is no cron expression.", hint="Give: minute hour day month weekday, and second if needed."
        )
    minute, hour, day, month, weekday = parts[:5]
    second = parts[5] if len(parts) == 6 else "0"
    base = {"second": second, "minute": minute, "hour": hour, "month": month}
    weekdays = _weekdays(weekday, expression)
    if day.startswith("*") or weekday.startswith("*"):
        return [base | {"day": day, "day_of_week": weekdays}]
    return [base | {"day": day, "day_of_week": "*"}, base | {"day": "*", "day_of_week": weekdays}]


def daily_expression(hour: int, minute: int, second: int) -> str:
    return f"{minute} {hour} * * *" + (f" {second}" if second else "")


def _weekdays(field: str, expression: str) -> str:
    """By name, which both count alike."""
    if field == "*":
        return "*"
    chosen: set[int] = set()
    try:
        for item in field.lower().split(","):
            span, _, step = item.partition("/")
            first, dash, last = ("0", "-", "6") if span == "*" else span.partition("-")
            start = _day(first)
            end = _day(last) if dash else 6 if step else start
            if end < start:
                end += 7  # fri-mon; and sun as the end of a range: sat-sun
            chosen.update(day % 7 for day in range(start, end + 1, int(step) if step else 1))
    except ValueError:
        raise RegistrationError(f"The weekdays {field!r} of {expression!r} make no sense.") from None
    return ",".join(_DAYS[day] for day in sorted(chosen))


def _day(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    number = int(text)
    if not 0 <= number <= 7:
        raise ValueError(text)
    return number
