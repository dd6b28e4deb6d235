"""`tilefold invar run` refuses wrong settings before it loads or trains a model."""

import pytest

pytest.importorskip("yaml", reason="not installed: pip install tilefold[cli]")
pytest.importorskip("jinja2", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("matplotlib", reason="not installed: pip install tilefold[analysis]")

from tilefold.cli.main import main
from tilefold.files.yaml_settings import as_yaml
from tilefold.studies.invar import INVAR, InvarSettings
from tilefold.studies.settings import field_descriptions


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    """The settings of runs that were not refused; a run ends there."""
    found = []

    def run(given, **options):
        found.append(given)
        raise ValueError("it would run")

    monkeypatch.chdir(tmp_path)
    original = INVAR.run
    object.__setattr__(INVAR, "run", run)  # a study is frozen
    yield found
    object.__setattr__(INVAR, "run", original)


def run(text, *words):
    with open("file.yaml", "w") as file:
        file.write(text)
    try:
        return main(["invar", "run", "--config", "file.yaml", *words])
    except SystemExit as ended:
        return ended.code


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("", 1, "file.yaml: expected a mapping of names to values"),
        ("- world\n", 1, "file.yaml: expected a mapping of names to values"),
        ("world: huge\n", 2, "--world: invalid choice: 'huge' (choose from tiny, small, medium)"),
        ("world: tiny\nworld: small\n", 1, "file.yaml: not YAML: 'world' has two values"),
        ("world: tiny\ncolour: red\n", 1, "unknown option 'colour'"),
        ("world: tiny\nhelp: true\n", 1, "unknown option 'help'"),
        ("world: tiny\n? [a]\n: b\n", 1, "file.yaml: not YAML"),
        ("world: tiny\nout: [a, b]\n", 1, "--config file.yaml: out: expected one value, got 2"),
        ("world: tiny\nepochs: []\n", 1, "--config file.yaml: epochs: expected one value, got 0"),
        ("world: tiny\nepochs: two\n", 2, "--epochs: invalid int value: 'two'"),
        ("world: tiny\nepochs: 1.5\n", 2, "--epochs: invalid int value: '1.5'"),
        ("world: tiny\nepochs: 0\n", 1, "--epochs: expected 1 or more, got 0"),
        ("world: tiny\nseeds: []\n", 1, "--seeds: expected one or more, got none"),
        ("world: tiny\nseeds: {a: 1}\n", 2, "--seeds: invalid int value"),
        ("world: tiny\nseeds: [-1]\n", 1, "--seeds: expected 0 or more, got -1"),
        ("world: tiny\nseeds: [0, 4294967296]\n", 1, "--seeds: expected at most 4294967295, got 4"),
        ("world: tiny\nvariants: []\n", 1, "--variants: expected one or more, got none"),
        ("world: tiny\nvariants: [fulll]\n", 2, "did you mean full?"),
        ("world: tiny\nlearning_rate: .nan\n", 1, "--learning-rate: expected a number above 0"),
        ("world: tiny\nlearning_rate: .inf\n", 1, "--learning-rate: expected a number above 0"),
        ("world: tiny\ngold_share: 1.5\n", 1, "--gold-share: expected a number at least 0 and at"),
        ("world: tiny\nsweep_weights: [.nan]\n", 1, "--sweep-weights: expected numbers above 0"),
        ("world: tiny\nout: file.yaml\n", 1, "--out file.yaml: it is a file"),
        ("world: tiny\nout: file.yaml/below\n", 1, "file.yaml is a file"),
    ],
)
def test_malformed_files_are_one_plain_error(text, status, message, settings, capsys):
    assert run(text) == status
    assert not settings
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("tilefold invar run: ")
    assert len(error.splitlines()) == status  # usage errors name the help as well


def test_lists_are_those_of_the_file_even_where_they_are_empty(settings):
    assert run("world: tiny\nwindows: [16, 8]\nsweep_weights: []\nseeds: [3]\n") == 1
    assert run("world: tiny\nwindows: [16]\nseeds: [1, 2]\n", "--windows", "--seeds", "4") == 1
    (first, second) = settings
    assert (first.windows, first.sweep_weights, first.seeds) == ((8, 16), (), (3,))
    assert (second.windows, second.seeds) == ((), (4,))


def test_settings_that_are_written_are_read_again(settings):
    from tilefold.cli.settings_options import options_of_settings

    given = InvarSettings(world="tiny", variants=["full"], windows=[], lora_targets=["q_proj"])
    assert run(as_yaml(options_of_settings(given))) == 1
    assert settings == [given]


def test_every_field_is_described():
    described = field_descriptions(InvarSettings)
    assert described["query_prefix"] == described["passage_prefix"]
    assert described["lora_dropout"] == "of both adapters"
    assert described["windows"].endswith("beside whole passages")
    assert all(described.get(name) for name in InvarSettings.__dataclass_fields__)
