"""SQL by name: what a file of statements may look like."""

from pathlib import Path

import pytest

from handspan.store.statements import statements


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "some.sql"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_comments_belong_to_their_statement(tmp_path: Path) -> None:
    """Those before the first name are the file's."""
    text = "-- About it all.\n\n-- one: the first\n-- Why it is so.\nSELECT 1\n\n-- two: the second\nSELECT 2\n"
    found = statements(written(tmp_path, text))
    assert found == {"one": "-- Why it is so.\nSELECT 1", "two": "SELECT 2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "-- one: the first\n-- hours: sixty minutes\nSELECT 1\n", "one has no SQL", id="comment like a name"
        ),
        pytest.param("-- one: the first\nSELECT 1\n-- two: the second\n", "two has no SQL", id="nothing at the end"),
        pytest.param("-- one: the first\n\n-- But a comment.\n", "one has no SQL", id="comment only"),
        pytest.param("-- one: the first\nSELECT 1\n-- one: again\nSELECT 2\n", "one is there twice", id="twice"),
    ],
)
def test_a_name_stands_for_one_statement(tmp_path: Path, text: str, said: str) -> None:
    """A comment that goes on with ``-- word:`` does not empty the statement it belongs to in silence."""
    with pytest.raises(ValueError, match=said):
        statements(written(tmp_path, text))
