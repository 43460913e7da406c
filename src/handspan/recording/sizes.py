"""What a record takes in memory, estimated: cheap enough to be asked of each."""

from typing import Final

from handspan.records import SpanRecord

__all__ = ["RECORD_BYTES", "size_of"]

RECORD_BYTES: Final = 500  # a SpanRecord, its ids and its place in the list; texts are added


def size_of(record: SpanRecord) -> int:
    if record.error_type is None and record.attributes is None and record.extra is None and record.name is None:
        return RECORD_BYTES if record.logs is None else RECORD_BYTES + _size_of_value(record.logs)
    texts = len(record.error_message or "") + len(record.error_traceback or "") + len(record.name or "")
    values = map(_size_of_value, (record.attributes, record.extra, record.logs))
    return RECORD_BYTES + texts + sum(values)


def _size_of_value(value: object) -> int:
    kind = type(value)  # never isinstance: ``__class__`` may lie, and a subclass about its length
    if value is None:
        return 0
    if issubclass(kind, str):
        return 50 + str.__len__(value)  # type: ignore[arg-type]  # it is one
    if issubclass(kind, bytes):
        return 50 + bytes.__len__(value)  # type: ignore[arg-type]  # likewise
    if isinstance(value, dict) and kind is dict:
        return 100 + sum(_size_of_value(key) + _size_of_value(item) for key, item in value.items())
    if isinstance(value, list | tuple) and kind in (list, tuple):
        return 60 + sum(map(_size_of_value, value))
    return 30
