"""When two failures are one and the same: the message without what varies, and the place in the application.

Pure functions, no database. What they answer is stored for a year and compared across restarts and machines, so it must
not depend on who asks: not on the interpreter's version, not on where the application was deployed to.

Every quantifier of the expressions is possessive or bounded, and they see :data:`LOOKED_AT` characters at most: a
message of megabytes costs what its beginning costs.
"""

import hashlib
import re
import sysconfig
from pathlib import Path
from typing import Final

__all__ = ["LONGEST", "LOOKED_AT", "application_frame", "fingerprint", "normalise"]

LOOKED_AT: Final = 500  # characters of a message
LONGEST: Final = 300  # of what is made of it
PATH_PARTS: Final = 3  # of a file's path: further up are releases and home directories

_QUOTED: Final = re.compile(
    r"""['"`](?<!\w.)(?: (?<=')(?:[^']|'(?=\w))*+(?:'|\Z) | (?<=")[^"]*+(?:"|\Z) | (?<=`)[^`]*+(?:`|\Z) )""", re.VERBOSE
)
"""Up to the end where nothing closes it: of a longer message the end was cut. ``can't`` opens nothing."""

_MAY_VARY: Final = re.compile(r"[0-9@?/]")
_VARIABLE: Final = re.compile(  # in one word
    r"""
    (?P<id> (?<![0-9A-Za-z]) (?:
            [0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}          # a UUID
          | 0[xX][0-9a-fA-F]++                                             # an address
          | (?=[0-9]*+[a-fA-F]) (?=[a-fA-F]*+[0-9]) [0-9a-fA-F]{6,}+       # a hash
          | (?=[A-Za-z]*+[0-9]++[A-Za-z]++[0-9]) [0-9A-Za-z]{8,}+          # letters and digits by turns
          ) (?![0-9A-Za-z]) )
  | (?P<time> (?<![0-9]) [0-9]{4}-[0-9]{2}-[0-9]{2}
          (?: T[0-9]{2}:[0-9]{2} (?: :[0-9]{2} (?: [.,][0-9]++ )?+ )?+ )?+
          (?: Z | [+-][0-9]{2}:?+[0-9]{2} )?+ (?![0-9]) )
  | (?P<value> (?<![\w.+-]) [A-Za-z0-9][\w.+-]*+@[\w.-]++ )                # whose mail
  | (?P<query> \? ) \w++=[^\s<>]*+
  | (?P<path> /(?:tmp|var/tmp|var/folders|private/tmp|private/var/folders|proc|run/user)/ ) [^\s,;:)\]>]++
  | (?P<n> (?: (?<!\w)[-+] )?+ [0-9]++ (?: [.,:_/][0-9]++ )*+ (?: [eE][-+]?+[0-9]++ (?!\w) )?+ )
    """,
    re.VERBOSE,
)
_PLACEHOLDER: Final = {"id": "<id>", "time": "<time>", "value": "<...>", "n": "<n>"}
_LIST: Final = re.compile(r"(<(?:n|id|time|\.\.\.)>)(?:[,;] ?+<(?:n|id|time|\.\.\.)>)++")


def normalise(message: str) -> str:
    """The message without numbers, ids, times, quoted values and temporary paths; white space is one space.

    A word at a time, and most words have nothing that could vary: 5 us a message.
    """
    text = message[: LOOKED_AT + 1]
    if len(text) > LOOKED_AT:  # the last word may be half an id
        text = text[:LOOKED_AT]
        whole, space, _ = text.rpartition(" ")
        text = whole if space else text
    words = _QUOTED.sub("<...>", text).split()
    text = " ".join([_VARIABLE.sub(_placeholder, word) if _MAY_VARY.search(word) else word for word in words])
    return _LIST.sub(r"\1", text)[:LONGEST]


def _placeholder(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    return _PLACEHOLDER.get(kind) or f"{match[kind]}<...>"


def fingerprint(error_type: str, frame: str | None, normalised_message: str) -> bytes:
    """16 bytes; no two triples are written alike before they are hashed."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in (error_type, frame, normalised_message):
        octets = b"" if part is None else part.encode("utf-8", "backslashreplace")
        hashed.update(b"-" if part is None else b"%d:" % len(octets))
        hashed.update(octets)
    return hashed.digest()


# --- the frame ------------------------------------------------------------------------------------------

_GROUP_HEAD: Final = "+ Exception Group Traceback (most recent call last):"
_HEAD: Final = "Traceback (most recent call last):"
_LIBRARY: Final = re.compile(r"/(?:site|dist)-packages/|/lib(?:64|32)?/python[0-9]++(?:\.[0-9]++)?+t?+/|^<frozen ")
_STDLIB: Final = tuple(
    {f"{path}/" for name in ("stdlib", "platstdlib") if (path := sysconfig.get_path(name)) is not None}
)
_PACKAGE: Final = f"{Path(__file__).resolve().parents[1]}/"
_OUR_APPS: Final = f"{_PACKAGE}demo/"  # the demo is an application that happens to come along


def application_frame(traceback_text: str) -> str | None:
    """``apps/lights.py in on_motion``: the innermost frame that is the application's own, without its line number; of
    a stack of libraries only, the innermost.

    Of chained exceptions the last section counts: that is the exception the run ended with. Of an exception group it is
    the first exception in it, and the first in that one: what failed first, and cancelled the others. The group's own
    stack (where the tasks were waited for) counts only if those in it have none.
    """
    innermost = None
    for file, function in reversed(_frames(traceback_text)):
        if not _is_library(file):
            return _shown(file, function)
        innermost = innermost or _shown(file, function)
    return innermost


def _frames(text: str) -> list[tuple[str, str]]:
    """Of the section that counts, outermost first. One pass over the lines."""
    chosen: list[tuple[str, str]] = []
    section: list[tuple[str, str]] = []
    depth = 0  # of exception groups; each indents by two more
    done = False
    for line in text.split("\n"):
        if line in (_HEAD, f"  {_GROUP_HEAD}"):  # a section of the outermost chain: what came before does not count
            chosen, section, depth, done = [], [], int(line != _HEAD), False
            continue
        if done:
            continue
        bare = line.lstrip(" |")
        if bare.startswith("+-"):
            if bare.startswith("+-+-"):  # down into the first
                depth += 1
                chosen, section = section or chosen, []
            else:  # the second begins, or the group is over
                done = depth > 1
        elif depth > 1 and bare in (_HEAD, _GROUP_HEAD, _GROUP_HEAD[2:]):  # a chain inside the group
            section = []
        elif bare.startswith('File "') and (frame := _frame(bare)) is not None:
            section.append(frame)
    return section or chosen


def _frame(line: str) -> tuple[str, str] | None:
    at = line.rfind('", line ')
    _, found, function = line[at:].partition(", in ")
    return (line[6:at], function) if at > 6 and found else None


def _is_library(file: str) -> bool:
    if file.startswith(_OUR_APPS):
        return False
    return file.startswith((*_STDLIB, _PACKAGE)) or _LIBRARY.search(file) is not None


def _shown(file: str, function: str) -> str:
    """The end of the path: the beginning is another one after each deployment."""
    *directories, name = file.replace("\\", "/").split("/")[-PATH_PARTS:]
    return ("/".join((*map(normalise, directories), name)) + f" in {function}")[-LONGEST:]
