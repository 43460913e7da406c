"""Values to JSON text that SQLite, people and other tools can read, whatever the value was."""

import base64
import json
import math
from typing import Any, Final

import msgspec

__all__ = ["attributes_from_json", "attributes_json", "clean_text", "safe_json_serialize"]

NON_SERIALIZABLE: Final = '"<NON_SERIALIZABLE>"'
MAX_DEPTH: Final = 8  # OTLP allows nesting; a cycle or a bomb ends here

_encode = msgspec.json.Encoder(order="deterministic").encode


def safe_json_serialize(value: object) -> str:
    """JSON of registration-time arguments; a fixed placeholder for what has none.

    The placeholder keeps one parent row across restarts: a ``repr`` with an address would differ each time.
    """
    try:
        return clean_text(json.dumps(value, default=str, sort_keys=True, ensure_ascii=False))
    except Exception:  # noqa: BLE001 - a hostile __str__ may raise anything; RecursionError and TypeError are common
        return NON_SERIALIZABLE


def clean_text(text: str) -> str:
    """Text that UTF-8 and C strings can hold: lone surrogates and NUL become escapes.

    sqlite3 refuses the first with UnicodeEncodeError, and tools cut the second's text short.
    """
    if text.isascii():
        return text.replace("\0", "\\x00") if "\0" in text else text
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def attributes_json(value: dict[str, Any]) -> str:
    """Attributes, events and the like as JSON, lossless for every OpenTelemetry value type.

    What JSON cannot say is tagged: bytes as ``{"$bytes": base64}``, NaN and infinities as
    ``{"$float": "nan"}``, integers past 64 bits as ``{"$int": "..."}``.
    """
    return _encode(_plain(value, 0)).decode()


def attributes_from_json(text: str) -> Any:
    """The reverse of :func:`attributes_json` (tuples come back as lists)."""
    return _restore(msgspec.json.decode(text))


def _plain(value: Any, depth: int) -> Any:
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str:
        return clean_text(value)
    if kind is int:
        return value if -(2**63) <= value < 2**63 else {"$int": str(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind in (bytes, bytearray, memoryview):
        return {"$bytes": base64.b64encode(value).decode()}
    if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    if depth < MAX_DEPTH and hasattr(value, "items"):
        return {clean_text(_text(key)): _plain(item, depth + 1) for key, item in value.items()}
    return clean_text(_text(value))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - someone else's __str__
        return f"<{type(value).__name__} without text>"


def _restore(value: Any) -> Any:
    if isinstance(value, list):
        return [_restore(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            (tag, inner), *_ = value.items()
            if tag == "$bytes":
                return base64.b64decode(inner)
            if tag == "$float":
                return float(inner)
            if tag == "$int":
                return int(inner)
        return {key: _restore(item) for key, item in value.items()}
    return value
