"""Files of settings: what is beyond limits, and what environment variables stand for."""

import pytest

yaml = pytest.importorskip("yaml")

from tilefold.files.yaml_settings import as_yaml, read_settings


@pytest.fixture
def path(tmp_path):
    return tmp_path / "settings.yaml"


def aliased(levels: int, width: int) -> str:
    """Lists of aliases of lists of aliases: width ** levels values in a few lines."""
    lines = [f"a0: &a0 [{', '.join('x' * width)}]"]
    for level in range(1, levels):
        below = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} [{below}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a: {'[' * 30}{']' * 30}\n", "nested deeper than 20 levels"),
        (aliased(5, 10), "more than 10,000 values, with aliases written out"),
        ("a: &x [1, *x]\n", "the alias 'x' is part of what it stands for"),
        ("a: &x {b: *x}\n", "the alias 'x' is part of what it stands for"),
        ("a: 2020-99-99\n", "not YAML"),
        ("a: {2020-01-01: 1}\n", "keys must be str"),
        ("a: *unknown\n", "undefined alias"),
        ("a: 1\nb: 2\na: 3\n", "'a' has two values"),
        ("a-b: 1\na_b: 1\n", "'a_b' has two values"),
    ],
)
def test_files_beyond_limits_are_named_errors(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_settings(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_no_settings_is_not_parsed(path):
    path.write_bytes(b"# " + b"x" * (1 << 20))
    with pytest.raises(ValueError, match="longer than 1,048,576 bytes"):
        read_settings(path)
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(ValueError, match="not YAML: 'utf-8' codec"):
        read_settings(path)


def test_a_few_aliases_and_levels_are_read(path):
    path.write_text("base: &base {r: 8, on: [1, 2]}\nlora: *base\nwords: &w [a, b]\nmore: *w\n")
    found = read_settings(path)
    assert found["lora"] == found["base"] == '{"r": 8, "true": [1, 2]}'
    assert found["more"] == ["a", "b"]


def test_references_are_expanded_or_kept(path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "abc")
    path.write_text(
        "hub_token: ${MY_TOKEN}\nruns: ['${MY_TOKEN}', b]\nkwargs: {a: '${MY_TOKEN}'}\n"
    )
    assert read_settings(path) == {
        "hub_token": "abc",
        "runs": ["abc", "b"],
        "kwargs": '{"a": "abc"}',
    }
    kept = read_settings(path, expand=False)
    assert kept["hub_token"] == "${MY_TOKEN}"
    assert kept["runs"] == ["${MY_TOKEN}", "b"]
    monkeypatch.delenv("MY_TOKEN")
    assert read_settings(path, expand=False) == kept


def test_a_token_is_not_written(path):
    token = "hf_" + "aB3" * 12
    path.write_text(as_yaml({"model": token, "queries": ["a", token], "hub_token": "abc"}))
    assert token not in path.read_text()
    assert read_settings(path, expand=False) == {
        "model": "${MODEL}",
        "queries": ["a", "${QUERIES}"],
        "hub_token": "${HUB_TOKEN}",
    }
