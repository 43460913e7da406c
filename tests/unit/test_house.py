"""The rules of the house that a machine can check: names, sizes, directions, start-up, and that the docs are true."""

import ast
import dataclasses
import importlib.util
import inspect
import io
import re
import sqlite3
import subprocess
import sys
import tokenize
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

import handspan
from handspan import attributes, errors
from handspan.redaction import DEFAULT_KEYS
from handspan.settings import ENV_PREFIX, Settings
from handspan.store import schema

CHECKOUT = Path(__file__).resolve().parents[2]
ROOTS = (CHECKOUT / "src", CHECKOUT / "exporters")
DOCS = CHECKOUT / "docs"
MAX_LINES = 400
MAX_ASSEMBLER_LINES = 200


def module_name(file):
    root = next(root for root in ROOTS if file.is_relative_to(root))
    parts = list(file.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for root in ROOTS for file in sorted(root.rglob("*.py"))}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}

# Without ``__all__``: one name each, or (attributes) names only, every one of which is public.
NO_ALL = {"handspan._version", "handspan.attributes", "handspan.cli.__main__"}


def bound_names(tree):
    """What a module binds at its top level, imports included."""
    found = set()
    for node in ast.walk(ast.Module([each for each in tree.body if not is_definition(each)], [])):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        elif is_definition(node):
            found.add(node.name)
    return found | {node.name for node in tree.body if is_definition(node)}


def is_definition(node):
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def exported(tree):
    """``__all__`` as written, or None."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return None


def in_order(name):
    """As ruff sorts: constants, classes, the rest."""
    bare = name.strip("_")
    return (0 if bare.isupper() and len(bare) > 1 else 1 if bare[:1].isupper() else 2, name)


def used_from_outside():
    """(user, home, name) of every name of ours that another module of ours takes out of its home."""
    for user, tree in TREES.items():
        modules = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in {*FILES, *(n.rpartition(".")[0] for n in FILES)}:
                for alias in node.names:
                    if f"{node.module}.{alias.name}" in FILES:
                        modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    else:
                        yield user, node.module, alias.name
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                yield user, modules[node.value.id], node.attr


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_module_says_what_is_public(name):
    """``__all__`` is there, sorted, without repetition, and every name in it exists."""
    tree, found = TREES[name], exported(TREES[name])
    if name in NO_ALL or not [node for node in tree.body if is_definition(node) or isinstance(node, ast.Assign)]:
        assert found is None or found
        return
    assert found is not None, "no __all__"
    assert found == sorted(set(found), key=in_order)
    if name != "handspan":  # its names load when first used
        assert set(found) <= bound_names(tree)


@pytest.mark.parametrize("name", sorted(FILES))
def test_modules_take_only_what_others_offer(name):
    """What one module of ours uses of another is in that one's ``__all__``: it is public, and nothing else is."""
    missing = sorted(
        f"{attribute} (used by {user})"
        for user, home, attribute in used_from_outside()
        if home == name and user != home and home not in NO_ALL and attribute not in (exported(TREES[home]) or ())
    )
    assert missing == []


def test_the_front_door_is_sorted_and_open():
    """Every name of ``handspan.__all__`` can be had, and ``dir()`` shows them."""
    assert handspan.__all__ == sorted(handspan.__all__)
    assert dir(handspan) == handspan.__all__
    assert all(getattr(handspan, name) is not None for name in handspan.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Telemetery'"):
        handspan.Telemetery  # noqa: B018 - a typing error is an AttributeError, not an ImportError


@pytest.mark.parametrize("name", [name for name in handspan.__all__ if not name.startswith("__")])
def test_what_is_public_explains_itself(name):
    """Each public class, and each public method it defines, has a docstring."""
    thing = getattr(handspan, name)
    silent = [] if own_doc(thing) else [name]
    for attribute, value in vars(thing).items():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if not attribute.startswith("_") and inspect.isfunction(function) and not own_doc(function):
            silent.append(f"{name}.{attribute}")
    assert silent == []


def own_doc(thing):
    """Its docstring; not the one dataclasses make up."""
    text = thing.__doc__ or ""
    return "" if text.startswith(f"{getattr(thing, '__name__', '')}(") else text


# --- sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_module_grows_past_its_page(name):
    """In the best codebases of this field the ugliness is one central file that never stopped growing."""
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_the_assembler_only_assembles():
    """telemetry.py: lines of code, without comments, docstrings and blank ones."""
    source = FILES["handspan.telemetry"].read_text(encoding="utf-8")
    docstrings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in skipped
        for line in range(token.start[0], token.end[0] + 1)
    }
    assert len(lines - docstrings) < MAX_ASSEMBLER_LINES


# --- errors ----------------------------------------------------------------------------------------------


def drawn_tree():
    """(name, parent) of each line of the tree at the top of errors.py."""
    parents, found = {}, []
    for line in errors.__doc__.splitlines():
        match = re.match(r"^    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)\b", line)
        if match:
            level = len(match["branch"]) // 4
            parents[level] = match["name"]
            found.append((match["name"], parents.get(level - 1)))
    return found


def error_classes():
    return {
        name: thing
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and thing.__module__ == errors.__name__
    }


def test_the_drawn_tree_of_errors_is_the_real_one():
    """Names and parents; nothing missing, nothing that is no more."""
    real = {name: thing.__base__.__name__ for name, thing in error_classes().items()}
    assert dict(drawn_tree()) == {**real, "HandspanError": None}
    assert len(drawn_tree()) == len(real)


@pytest.mark.parametrize("name", sorted(error_classes()))
def test_an_error_speaks_for_itself(name):
    """Without a message it says its docstring's first line; a hint follows, its own or the class's."""
    error = error_classes()[name]
    first = error.__doc__.strip().splitlines()[0]
    assert str(error()) == f"{first} {error.hint}".strip()
    assert str(error("What happened.", hint="Do this.")) == "What happened. Do this."
    assert name in errors.__all__


# --- versions, directions, start-up -------------------------------------------------------------------------


def test_the_version_is_said_once():
    """pyproject.toml and _version.py agree."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert handspan.__version__ == project["version"]


def test_imports_go_downward_only():
    """The layers of DESIGN section 2, checked by import-linter."""
    found = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    "name", sorted(n for n in FILES if n.startswith(("handspan.executor", "handspan.spans", "handspan.instruments")))
)
def test_the_executor_knows_opentelemetrys_api_only(name):
    """import-linter cannot forbid a part of an external package; this can."""
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not [module for module in imported if str(module).startswith("opentelemetry.sdk")]


def loaded_by(statement):
    """Top-level names of the modules a fresh interpreter has after a statement."""
    program = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def test_importing_handspan_loads_next_to_nothing():
    """An entry point can load one module of it; an application that imports it pays when it uses it."""
    loaded = loaded_by("import handspan")
    assert loaded.isdisjoint(
        {
            "sqlite3",
            "aiosqlite",
            "alembic",
            "sqlalchemy",
            "rich",
            "typer",
            "apscheduler",
            "opentelemetry.sdk",
            "msgspec",
        }
    )


def test_recording_does_not_load_what_only_upgrades_need():
    """Alembic takes 0.2 s, and nobody's telemetry depends on a terminal or a scheduler."""
    loaded = loaded_by("import handspan.telemetry")
    assert loaded.isdisjoint({"alembic", "sqlalchemy", "mako", "rich", "typer", "click", "apscheduler"})


def test_opening_a_current_file_does_not_load_alembic(tmp_path):
    """A new file is built from the one page, a current one is only looked at."""
    statement = (
        "import handspan\n"
        f"for _ in range(2):\n    with handspan.Telemetry({str(tmp_path / 'x.db')!r}, handle_sigterm=False): pass"
    )
    assert loaded_by(statement).isdisjoint({"alembic", "sqlalchemy"})


def test_the_exporter_can_be_loaded_before_handspan():
    """OpenTelemetry loads it by entry point, in an application that never imports handspan itself."""
    loaded = loaded_by("import handspan_exporters.sqlite")
    assert loaded.isdisjoint({"alembic", "sqlalchemy", "handspan.telemetry"})


# --- the docs are true -------------------------------------------------------------------------------------


def table_rows(page, heading=None):
    """Cells of every table row of a page (or of one section), backticks taken off the first two."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if heading is not None:
        text = re.split(rf"^## .*`?{re.escape(heading)}`?.*$", text, maxsplit=1, flags=re.MULTILINE)[1]
        text = re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set(row[0]) <= set("- ")]


def shown(default):
    """A default as the page shows it."""
    if default is None or default == ():
        return "none"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_every_setting_is_documented_with_its_variable_and_default():
    """In the order of the class; nothing missing, nothing that is no more."""
    rows = [row for row in table_rows("settings.md") if row[0].startswith("`")]
    assert [row[:3] for row in rows] == [
        [f"`{field.name}`", f"`{ENV_PREFIX}{field.name.upper()}`", shown(field.default)]
        for field in dataclasses.fields(Settings)
    ]
    assert all(row[3].endswith(".") for row in rows)


def test_the_documented_words_are_the_real_ones():
    """What ``redact_keys`` stands for by default: a person decides by this list what to add."""
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    listed = re.search(r"`default` stands for: (.*?)\. ", text, flags=re.DOTALL)
    assert tuple(re.findall(r"`(\w+)`", listed[1])) == DEFAULT_KEYS


def constants():
    return {
        name: value
        for name, value in vars(attributes).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("SC")
    }


@pytest.mark.parametrize("name", sorted(constants()))
def test_every_emitted_name_is_documented(name):
    """Attributes and metrics: a row each in docs/spans-and-metrics.md, or at least a mention."""
    assert f"`{constants()[name]}`" in (DOCS / "spans-and-metrics.md").read_text(encoding="utf-8")


def test_no_metric_or_attribute_is_documented_that_is_not_emitted():
    """The page's tables name nothing that attributes.py does not."""
    known = {f"`{value}`" for value in constants().values()}
    names = {row[0] for row in table_rows("spans-and-metrics.md") if re.fullmatch(r"`[a-z_]+(\.[a-z_]+)+`", row[0])}
    assert names - known == set()


def test_every_constant_has_a_line_of_meaning():
    """attributes.py: a docstring under each name."""
    body = TREES["handspan.attributes"].body
    silent = [
        node.target.id
        for node, following in zip(body, [*body[1:], None], strict=True)
        if isinstance(node, ast.AnnAssign)
        and not (isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant))
    ]
    assert silent == []


@pytest.mark.parametrize("name", sorted(error_classes()))
def test_every_error_is_documented(name):
    """A row in docs/schema.md."""
    assert f"`{name}`" in [row[0] for row in table_rows("schema.md", "Errors")]


def created(kind):
    with closing(sqlite3.connect(":memory:")) as conn:
        for statement in schema.split_statements(schema.schema_sql(schema.migrations_dir())):
            conn.execute(statement)
        names = conn.execute(
            "SELECT name FROM sqlite_schema WHERE type = ? AND name NOT LIKE 'sqlite_%'", [kind]
        ).fetchall()
        return {name: [row[1] for row in conn.execute(f"PRAGMA table_info({name})")] for (name,) in names}


@pytest.mark.parametrize("view", sorted(created("view")))
def test_every_column_of_every_view_is_documented(view):
    """In the view's own order; the views are the public SQL surface."""
    rows = [row[0] for row in table_rows("schema.md", view) if row[0].startswith("`")]
    assert rows == [f"`{column}`" for column in created("view")[view]]


def test_every_table_is_documented():
    """A sentence each."""
    rows = {row[0] for row in table_rows("schema.md", "Tables")}
    assert rows - {"table"} == {f"`{name}`" for name in created("table")}


def test_every_reason_for_a_loss_is_documented():
    """The words of the ledger, as the sources say them."""
    places = {"lose": 1, "abandoned": 1, "add": 1, "Loss": 3}
    reasons = set()
    for name, tree in TREES.items():
        if not name.startswith(("handspan.recording", "handspan.store", "handspan_exporters")):
            continue
        constants = {
            node.target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            called = getattr(node, "func", None)
            place = places.get(getattr(called, "attr", None) or getattr(called, "id", ""))
            for arg in node.args[place : place + 1] if place is not None else ():
                value = constants.get(arg.id) if isinstance(arg, ast.Name) else getattr(arg, "value", None)
                reasons |= {value} if isinstance(value, str) else set()
    text = (DOCS / "spans-and-metrics.md").read_text(encoding="utf-8")
    assert reasons >= {"rejected", "after_shutdown", "shutdown", "journal_unreadable", "damaged"}
    assert [
        reason
        for reason in sorted({*reasons, "queue_full", "journal_full", "journal_unwritable"})
        if f"| `{reason}` |" not in text
    ] == []


@pytest.mark.parametrize("name", sorted(name for name in FILES if importlib.util.find_spec(name) is not None))
def test_every_module_begins_by_saying_what_it_is_for(name):
    """A docstring first; the two one-line modules excepted."""
    if name not in ("handspan._version", "handspan.cli.__main__"):
        assert ast.get_docstring(TREES[name])


def anchors(page):
    """Of its headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "")).strip().lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [CHECKOUT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """To a file that is there, and to a heading that is in it."""
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        if not target.startswith("http") and (
            not file.is_file() or (anchor and file.suffix == ".md" and anchor not in anchors(file))
        ):
            lost.append(target)
    assert lost == []
