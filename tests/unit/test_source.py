"""Where a callable is, and the text of the call that registered it: the call itself, not its neighbour."""

import builtins
import functools
import os
import textwrap

import pytest

import handspan
from handspan.source import callable_source, capture_registration_source, location_of_caller, registration_source


def register(*_args, **_kwargs):
    """Stands for ``bus.on``: what is captured is the call of this."""
    register.captured.append(capture_registration_source())
    return register


register.captured = []
register.on = register


def decorator(*args, **kwargs):
    """Stands for ``@telemetry.handler``: captured when it is applied, not when it is called."""

    def decorate(function):
        register.captured.append(capture_registration_source())
        return function

    return decorate


def run_file(path, text, **names):
    """Write a module, run it, and give back the sources it registered."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    register.captured = []
    exec(compile(path.read_bytes(), str(path), "exec"), {"register": register, "decorator": decorator, **names})
    return [source for _, source in register.captured]


@pytest.fixture
def module(tmp_path):
    return lambda text, **names: run_file(tmp_path / "automation.py", textwrap.dedent(text), **names)


# --- which call -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        pytest.param('register("a")\n', ['register("a")'], id="one-line"),
        pytest.param(
            'register(\n    "light",\n    changed_to="on",\n)\n',
            ['register(\n    "light",\n    changed_to="on",\n)'],
            id="several-lines",
        ),
        pytest.param(
            'register("a(", ")b", \'(\')  # ) a comment (\n', ['register("a(", ")b", \'(\')'], id="parens-in-strings"
        ),
        pytest.param(
            'register(  # ( of a comment\n    "a",  # )\n)\n',
            ['register(  # ( of a comment\n    "a",  # )\n)'],
            id="parens-in-comments",
        ),
        pytest.param('register(str("a"), len([1]))\n', ['register(str("a"), len([1]))'], id="nested-calls-inside"),
        pytest.param(
            'print(register("a"), file=None, end="") if False else list([register("b")])\n',
            ['register("b")'],
            id="inside-another-call",
        ),
        pytest.param(
            'handles = list([\n    register("a"),\n    register(\n        "b"\n    ),\n])\n',
            ['register("a")', 'register(\n        "b"\n    )'],
            id="inside-a-call-of-several-lines",
        ),
        pytest.param(
            'handles = list([register("a"),\n    register("b")])\n',
            ['register("a")', 'register("b")'],
            id="first-line-shared-with-an-outer-call",
        ),
        pytest.param('register("a"); register("b")\n', ['register("a")', 'register("b")'], id="two-on-one-line"),
        pytest.param('[register("a"), register("b")]\n', ['register("a")', 'register("b")'], id="two-in-one-list"),
        pytest.param(
            'register(register("inner"))\n', ['register("inner")', 'register(register("inner"))'], id="one-in-the-other"
        ),
        pytest.param(
            'register(\n    "outer",\n    register("inner"),\n)\n',
            ['register("inner")', 'register(\n    "outer",\n    register("inner"),\n)'],
            id="one-in-the-other-on-lines-of-their-own",
        ),
        pytest.param('for topic in "ab":\n    register(topic)\n', ["register(topic)", "register(topic)"], id="loop"),
        pytest.param("[register(n) for n in range(2)]\n", ["register(n)"] * 2, id="comprehension"),
        pytest.param('(lambda: register("a"))()\n', ['register("a")'], id="lambda"),
        pytest.param(
            'def start():\n    register(\n        "a"\n    )\n\nstart()\n',
            ['register(\n        "a"\n    )'],
            id="in-a-function",
        ),
        pytest.param(
            'register.on(\n    "first"\n).on(\n    "second"\n)\n',
            ['register.on(\n    "first"\n)', 'register.on(\n    "first"\n).on(\n    "second"\n)'],
            id="chain",
        ),
        pytest.param(
            '(\n    register\n    .on("first")\n    .on("second")\n)\n',
            ['register\n    .on("first")', 'register\n    .on("first")\n    .on("second")'],
            id="chain-with-leading-dots",
        ),
        pytest.param(
            'register.on(\n    "first"\n).on(\n    *["second"],\n    **{}\n)\n',
            ['register.on(\n    "first"\n)', 'register.on(\n    "first"\n).on(\n    *["second"],\n    **{}\n)'],
            id="chain-with-stars",
        ),
        pytest.param(
            'with register("a") and open(__import__("os").devnull):\n    pass\n', ['register("a")'], id="with"
        ),
        pytest.param('if register("a"):\n    pass\n', ['register("a")'], id="condition"),
        pytest.param('f"{register(1)!r:.0}"\n', ["register(1)"], id="f-string"),
        pytest.param('x = """\n""", register("ä", "😀")\n', ['register("ä", "😀")'], id="after-wide-characters"),
    ],
)
def test_the_text_is_that_of_the_very_call(module, text, sources):
    """However the call is written and whatever is around it, its own text is stored: all of it and no more."""
    assert module(text) == sources


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        pytest.param('@decorator("a")\ndef f(): ...\n', ['decorator("a")'], id="one-line"),
        pytest.param(
            '@decorator(\n    "a",\n    once=True,\n)\nasync def f(): ...\n',
            ['decorator(\n    "a",\n    once=True,\n)'],
            id="several-lines",
        ),
        pytest.param(
            '@decorator("outer")\n@decorator("inner")\ndef f(): ...\n',
            ['decorator("inner")', 'decorator("outer")'],
            id="stacked",
        ),
        pytest.param('class A:\n    @decorator("a")\n    def f(self): ...\n', ['decorator("a")'], id="method"),
        pytest.param('@decorator(str("a"))\nclass A: ...\n', ['decorator(str("a"))'], id="class"),
        pytest.param('decorator("a")(print)\n', ['decorator("a")(print)'], id="applied-by-hand"),
    ],
)
def test_a_decorator_s_text_is_the_decorator(module, text, sources):
    """For ``@telemetry.handler("topic")`` that is the registration, not the body below it."""
    assert module(text) == sources


async def test_telemetry_stores_the_registration_as_written(make, rows, tmp_path):
    """Through the whole way: methods and decorators of Telemetry, each with its own text and line."""
    text = textwrap.dedent(
        """
        async def on_light(event): ...

        telemetry.register_listener(
            on_light,
            topic="light.*",  # ) all (
            app_key="kitchen",
        )

        @telemetry.handler("door", app_key="kitchen")
        async def on_door(event): ...

        @telemetry.job(
            app_key="kitchen",
        )
        async def tidy(): ...
        """
    )
    path = tmp_path / "kitchen.py"
    path.write_text(text)
    async with make() as telemetry:
        exec(compile(text, str(path), "exec"), {"telemetry": telemetry, "__name__": "kitchen"})
        await telemetry.aflush()
    found = rows("SELECT name, source_location, registration_source FROM listeners ORDER BY name")
    found += rows("SELECT job_name AS name, source_location, registration_source FROM scheduled_jobs")
    assert [(row["name"], row["source_location"].rpartition(":")[2]) for row in found] == [
        ("on_door", "10"),
        ("on_light", "4"),
        ("tidy", "13"),
    ]
    assert [row["registration_source"] for row in found] == [
        'telemetry.handler("door", app_key="kitchen")',
        'telemetry.register_listener(\n    on_light,\n    topic="light.*",  # ) all (\n    app_key="kitchen",\n)',
        'telemetry.job(\n    app_key="kitchen",\n)',
    ]


# --- when there is no text ------------------------------------------------------------------------------


def test_exec_d_code_has_a_place_but_no_text():
    """``exec`` of a string: the frame says where, no file says what."""
    register.captured = []
    exec('register("a")', {"register": register})
    assert register.captured == [("<string>:1", None)]


def test_a_repl_has_a_place_but_no_text():
    """Typed at the prompt: likewise."""
    register.captured = []
    exec(compile('register("a")', "<stdin>", "single"), {"register": register})
    assert register.captured == [("<stdin>:1", None)]


def test_a_file_that_is_gone_has_a_place_but_no_text(tmp_path):
    """The source was deleted after it was loaded (an upgrade in progress, a frozen application)."""
    register.captured = []
    path = tmp_path / "gone.py"
    exec(compile('\nregister("a")\n', str(path), "exec"), {"register": register})
    ((location, source),) = register.captured
    assert (location.endswith("gone.py:2"), source) == (True, None)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(b"def broken(:\n", id="syntax-error"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\0\0\0\0", id="nul-bytes"),
        pytest.param(b"# coding: no-such-codec\nregister('a')\n", id="unknown-codec"),
        pytest.param(b"# coding: utf-8\nregister('\xff')\n", id="not-in-its-codec"),
        pytest.param(b"# only\n# comments\n# here\n", id="no-call-there-any-more"),
        pytest.param(b"(" * 5_000 + b")" * 5_000, id="too-deep"),
        pytest.param(b"\x7fELF" + bytes(range(256)), id="binary"),
    ],
)
def test_a_file_that_changed_into_nonsense_gives_no_text_and_no_error(tmp_path, now):
    """The file was loaded, then replaced by something that cannot be read: best effort means None."""
    path = tmp_path / "changed.py"
    path.write_bytes(now)
    assert registration_source(str(path), 1) is None


@pytest.mark.parametrize(
    ("file", "line"),
    [
        pytest.param(None, None, id="nothing"),
        pytest.param("/nowhere.py", 1, id="no-file"),
        pytest.param("/", 1, id="directory"),
        pytest.param("<frozen importlib._bootstrap>", 1, id="frozen"),
        pytest.param("a\0b", 1, id="nul-in-the-path"),
        pytest.param(__file__, 0, id="line-zero"),
        pytest.param(__file__, 10**9, id="line-past-the-end"),
    ],
)
def test_a_place_that_is_none_gives_no_text(file, line):
    """Never an error: registering must not fail for the sake of a text."""
    assert registration_source(file, line) is None


def test_a_file_that_changed_since_gives_what_is_there_now(tmp_path):
    """An edit is seen: the cache is of the file as it is, not as it was."""
    path = tmp_path / "edited.py"
    path.write_text('register("old")\n')
    assert registration_source(str(path), 1) == 'register("old")'
    path.write_text('register("new and longer")\n')
    assert registration_source(str(path), 1) == 'register("new and longer")'


# --- how the file is written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "source"),
    [
        pytest.param("# coding: latin-1\nregister('Küche')\n".encode("latin-1"), "register('Küche')", id="latin-1"),
        pytest.param(
            "# coding: cp1251\nregister('кухня', 'x')\n".encode("cp1251"), "register('кухня', 'x')", id="cp1251"
        ),
        pytest.param(b"\xef\xbb\xbf#\nregister('a')\n", "register('a')", id="byte-order-mark"),
        pytest.param("#\nregister('äöü'); x = '😀'\n".encode(), "register('äöü')", id="utf-8"),
        pytest.param(b"#\r\nregister(\r\n    'a'\r\n)\r\n", "register(\n    'a'\n)", id="windows-newlines"),
        pytest.param(b"#\rregister(\r    'a'\r)\r", "register(\n    'a'\n)", id="old-mac-newlines"),
        pytest.param(b"#\x0c\nregister(\x0c'a')\n", "register(\x0c'a')", id="form-feeds"),
        pytest.param("'\u2028\x85'\nregister('a')\n".encode(), "register('a')", id="unicode-line-separators"),
        pytest.param(b"#\n\tregister('a')\n".replace(b"\n\t", b"\nif 1:\n\t"), "register('a')", id="tabs"),
    ],
)
def test_the_text_is_right_in_every_encoding_and_newline(tmp_path, raw, source):
    """Coding cookies, byte-order marks and foreign newlines: one text, as an editor shows it."""
    assert run_file(tmp_path / "encoded.py", raw) == [source]


@pytest.mark.filterwarnings("ignore:invalid escape sequence", "ignore:.*is an invalid escape sequence")
def test_an_invalid_escape_in_the_file_is_no_obstacle(tmp_path):
    r"""A file with ``"\d"`` in it is an ordinary file."""
    assert run_file(tmp_path / "escapes.py", b'pattern = "\\d"\nregister("a")\n') == ['register("a")']


def test_a_very_long_call_is_cut(tmp_path):
    """A table of a thousand lines inside a registration is kept in part, and says so."""
    text = "register([\n" + "    'some topic',\n" * 2_000 + "])\n"
    (source,) = run_file(tmp_path / "long.py", text)
    assert len(source) < 4_100
    assert source.startswith("register([\n    'some topic',")
    assert source.endswith(" ...")


def test_a_huge_file_is_left_alone(tmp_path):
    """Megabytes are generated code: parsing them would hold the writer for seconds."""
    path = tmp_path / "huge.py"
    path.write_text('register("a")\n' + "#" * 2_100_000)
    assert registration_source(str(path), 1) is None


# --- what it costs ------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """How often each file was opened."""
    counts = {}
    real = builtins.open

    def counting(file, *args, **kwargs):
        counts[os.fspath(file)] = counts.get(os.fspath(file), 0) + 1
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", counting)
    return counts


@pytest.mark.parametrize(
    "content",
    [
        pytest.param('register("a")\n' * 50, id="fifty-registrations"),
        pytest.param('register("a")\n' * 50 + "(", id="a-syntax-error"),
    ],
)
def test_a_file_is_read_once_for_all_its_registrations(tmp_path, reads, content):
    """Fifty registrations of one file parse it once, also when there is nothing to be had from it."""
    path = tmp_path / "many.py"
    path.write_text(content)
    reads.clear()
    for line in range(1, 51):
        registration_source(str(path), line)
    assert reads[str(path)] == 1


# --- who called ------------------------------------------------------------------------------------------


def test_the_location_is_for_people_and_the_file_for_machines(tmp_path, monkeypatch):
    """``apps/kitchen.py:2`` relative to where the application runs; the file absolute, should it move on."""
    monkeypatch.chdir(tmp_path)
    apps = tmp_path / "apps"
    apps.mkdir()
    names = {"locate": lambda: location_of_caller(__name__)}
    for filename in (str(apps / "kitchen.py"), os.path.join("apps", "kitchen.py")):
        exec(compile("\nfound = locate()\n", filename, "exec"), names)
        found = names["found"]
        assert (found.location, found.line) == (os.path.join("apps", "kitchen.py") + ":2", 2)
        assert found.file == str(apps / "kitchen.py")


def test_a_file_outside_the_working_directory_keeps_its_path(tmp_path, monkeypatch):
    """``../../x.py`` helps nobody."""
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    names = {"locate": lambda: location_of_caller(__name__)}
    exec(compile("found = locate()", str(tmp_path / "elsewhere.py"), "exec"), names)
    assert names["found"].location == f"{tmp_path / 'elsewhere.py'}:1"


def test_stacklevel_walks_out_to_the_user_s_line():
    """A framework that wraps registering says how many frames are its own; too many end at the outermost."""

    def helper(level):
        return location_of_caller("nobody", level)

    def user(level):
        return helper(level)

    first, second = user(1), user(2)
    assert second.line == first.line + 3
    assert location_of_caller("nobody", 10_000) is not None


def test_frames_of_the_package_are_skipped_by_name_not_by_prefix():
    """``handspan_exporters`` or a ``handspanner`` is not handspan."""
    names = {"__name__": "handspanner", "locate": lambda: location_of_caller("handspan")}
    exec(compile("found = locate()", "<other>", "exec"), names)
    assert names["found"] is not None


# --- what a callable is called --------------------------------------------------------------------------------


def on_light(event):
    """A function of a module."""


class Kitchen:
    """An application."""

    def on_light(self, event):
        """A method."""

    @classmethod
    def on_door(cls, event):
        """A class method."""

    @staticmethod
    def on_window(event):
        """A static method."""

    def __call__(self, event):
        """The object itself can be called."""


def tracing(function):
    """A well-behaved decorator."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@tracing
def decorated(event):
    """Behind a decorator that uses ``functools.wraps``."""


@functools.lru_cache
def cached(event):
    """Behind a wrapper without code of its own."""


def line_of(function):
    return function.__code__.co_firstlineno


@pytest.mark.parametrize(
    ("call", "method", "qualified", "line"),
    [
        pytest.param(on_light, "on_light", "on_light", line_of(on_light), id="function"),
        pytest.param(Kitchen().on_light, "on_light", "Kitchen.on_light", line_of(Kitchen.on_light), id="method"),
        pytest.param(Kitchen.on_door, "on_door", "Kitchen.on_door", line_of(Kitchen.on_door), id="class"),
        pytest.param(Kitchen.on_window, "on_window", "Kitchen.on_window", line_of(Kitchen.on_window), id="static"),
        pytest.param(Kitchen(), "Kitchen", "Kitchen", line_of(Kitchen.__call__), id="callable-object"),
        pytest.param(functools.partial(on_light, 1), "on_light", "on_light", line_of(on_light), id="partial"),
        pytest.param(
            functools.partial(functools.partial(Kitchen().on_light), 1), "on_light", "Kitchen.on_light",
            line_of(Kitchen.on_light), id="partial-of-partial-of-method",
        ),
        pytest.param(functools.partial(Kitchen()), "Kitchen", "Kitchen", line_of(Kitchen.__call__), id="partial-obj"),
        pytest.param(decorated, "decorated", "decorated", line_of(decorated.__wrapped__), id="decorated"),
        pytest.param(cached, "cached", "cached", line_of(cached.__wrapped__), id="cached"),
    ],
)  # fmt: skip
def test_a_callable_has_a_name_and_a_place(call, method, qualified, line):
    """Name, file and line all speak of the same thing: the code the user wrote."""
    found = callable_source(call)
    assert (found.method, found.qualified) == (method, f"{__name__}.{qualified}")
    assert (found.file, found.line) == (__file__, line)


def test_a_lambda_is_called_so():
    """It has a place, if no name."""
    call = lambda event: None
    found = callable_source(call)
    assert (found.method, found.file, found.line) == ("<lambda>", __file__, line_of(call))


@pytest.mark.parametrize(("call", "name"), [(print, "print"), (len, "len"), ([].append, "append")])
def test_a_builtin_has_a_name_and_no_place(call, name):
    """There is no source to point at."""
    found = callable_source(call)
    assert (found.method, found.file, found.line) == (name, None, None)


def test_a_wrapper_that_wraps_itself_is_survived():
    """``__wrapped__`` may point anywhere, also in a circle."""

    def ring(event):
        """Wrapped around itself."""

    ring.__wrapped__ = ring
    assert callable_source(ring).method == "ring"


def test_registering_what_cannot_be_called_is_refused(make):
    """The error says what was given, before anything is stored."""
    with pytest.raises(handspan.errors.RegistrationError, match="not callable"):
        make().register_listener(None, topic="t", app_key="app")
