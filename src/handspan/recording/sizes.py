"""What a record takes in memory, estimated: cheap enough to be asked of each."""

from typing import Final

from handspan.records import SpanRecord

__all__ = ["RECORD_BYTES", "size_of"]

RECORD_BYTES: Final = 500  # a SpanRecord, its ids and its place in the list; texts are added


def size_of(record: SpanRecord) -> int:
    if record.error_type is None and record.attributes is None and record.extra is None and record.name is None:
        return RECORD_BYTES
    texts = len(record.error_message or "") + len(record.error_traceback or "") + len(record.name or "")
    return RECORD_BYTES + texts + _size_of_value(record.attributes) + _size_of_value(record.extra)


def _size_of_value(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, str | bytes):
        return 50 + len(value)
    if isinstance(value, dict):
        return 100 + sum(_size_of_value(key) + _size_of_value(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return 60 + sum(map(_size_of_value, value))
    return 30
