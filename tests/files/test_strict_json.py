"""JSON of others: everything that is wrong with a file is an error that names it."""

import json

import pytest

from tilefold.files import strict_json
from tilefold.files.strict_json import read_strict


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested deeper than 100 levels"),
        ("[" * 100_000, "nested deeper than 100 levels|not valid JSON"),
        ("Infinity", "Infinity is no number in JSON"),
        ('{"a": [NaN]}', "NaN is no number in JSON"),
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
    ],
    ids=["lists", "objects", "unclosed", "infinity", "nan", "cut", "empty"],
)
def test_what_is_no_json_is_a_named_error(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_strict(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_bytes_that_are_no_text_and_long_files_are_named_errors(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match=r"config\.json: not valid JSON: 'utf-8' codec"):
        read_strict(path)
    monkeypatch.setattr(strict_json, "_LONGEST", 2)
    with pytest.raises(ValueError, match=r"config\.json: longer than 2 bytes"):
        read_strict(path)


NESTED = "[" * 99 + "]" * 99


@pytest.mark.parametrize("value", [None, [], {"a": [1, 2.5, "é", {"b": None}]}, NESTED])
def test_what_json_writes_is_read_back(tmp_path, value):
    path = tmp_path / "config.json"
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text)
    assert read_strict(path) == json.loads(text)
