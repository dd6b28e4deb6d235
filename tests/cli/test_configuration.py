"""What a training is told: YAML and command lines, and what was asked for as YAML again."""

import dataclasses

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

from tilefold.cli.command_parser import CommandParser
from tilefold.cli.settings_options import add_settings_options, settings_from_options
from tilefold.cli.verbs.train import save_arguments
from tilefold.files.yaml_settings import as_yaml, read_settings
from tilefold.studies.settings import StudySettings
from tilefold.train.yaml_arguments import parse, resolved


def test_a_flag_goes_before_the_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model_name_or_path: x\ntrain_path: y\nlearning_rate: 1.0e-4\nuse_cpu: true\n")
    model, data, training = parse(["--learning_rate", "3e-4", "--output_dir", "o"], path)
    assert (model.model_name_or_path, data.train_path) == ("x", "y")
    assert training.learning_rate == 3e-4
    again = tmp_path / "again.yaml"
    again.write_text(resolved(["--learning_rate", "3e-4", "--output_dir=o", "--bf16"], path))
    assert (
        parse([], again)[2].to_dict()
        == parse(["--learning_rate", "3e-4", "--output_dir", "o", "--bf16"], path)[2].to_dict()
    )


def test_what_is_written_is_read_as_the_same_words(tmp_path):
    path = tmp_path / "a.yaml"
    texts = ["5", "-3", "007", "1.50", "1.5", "2e-3", "1.0e-05", "1e5", "1_000", "0x1F", "12:30"]
    texts += ["True", "true", "yes", "null", "~", "", " x ", "a: b", "# c", "- d", "'", '"', "ü\n"]
    settings = {f"n{i}": text for i, text in enumerate(texts)} | {"all": texts, "bool": False}
    path.write_text(as_yaml(settings), encoding="utf-8")
    assert read_settings(path) == settings


def test_a_configuration_may_hold_mappings_and_leading_dashes(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "model_name_or_path: x\ntrain_path: y\nquery_prefix: '-q '\n"
        "lr_scheduler_kwargs: {num_cycles: 2}\n"
    )
    model, _, training = parse([], path)
    assert model.query_prefix == "-q "
    assert training.lr_scheduler_kwargs == {"num_cycles": 2}


def test_a_configuration_may_name_environment_variables(tmp_path, monkeypatch):
    path = tmp_path / "a.yaml"
    path.write_text("model_name_or_path: ${MODEL}/x\ntrain_path: ${DATA:-../data}/y\n")
    monkeypatch.setenv("MODEL", "m")
    monkeypatch.delenv("DATA", raising=False)
    model, data, _ = parse(["--output_dir", "o"], path)
    assert (model.model_name_or_path, data.train_path) == ("m/x", "../data/y")
    monkeypatch.delenv("MODEL")
    with pytest.raises(ValueError, match="needs the environment variable MODEL"):
        parse([], path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1\n", "learning_rat"),
        ("[1, 2]\n", "expected a mapping"),
        ("a: [\n", "not YAML"),
        ("learning_rate: fast\n", "learning_rate"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_refused(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        parse(["--model_name_or_path", "x", "--train_path", "y"], path)


TOKEN = "hf_" + "aB3" * 12


def test_a_token_of_a_variable_stays_a_reference_in_the_output_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    path = tmp_path / "a.yaml"
    path.write_text("model_name_or_path: x\ntrain_path: ${HOME}/y\nhub_token: ${MY_TOKEN}\n")
    assert parse(["--output_dir", "o"], path)[2].hub_token == TOKEN
    written = resolved(["--output_dir", "o"], path)
    assert 'hub_token: "${MY_TOKEN}"' in written
    assert 'train_path: "${HOME}/y"' in written
    again = tmp_path / "again.yaml"
    again.write_text(written)
    assert parse([], again)[2].hub_token == TOKEN


@pytest.mark.parametrize("words", [["--hub_token", TOKEN], [f"--hub_token={TOKEN}"]])
def test_a_token_on_the_command_line_is_not_written(words):
    written = resolved([*words, "--run_name", f"with {TOKEN}"])
    assert TOKEN not in written
    assert 'hub_token: "${HUB_TOKEN}"' in written


def test_saved_options_keep_references(tmp_path, monkeypatch):
    from tilefold.cli.command_parser import CommandParser
    from tilefold.cli.saved_options import options_of, save_options

    monkeypatch.setenv("MODEL", TOKEN)
    monkeypatch.setenv("K", "7")
    path = tmp_path / "search.yaml"
    path.write_text("model: ${MODEL}\nk: ${K}\nquery: ['${MODEL}', b]\ncorpus: c\nout: ${K}\n")
    parser = CommandParser()
    parser.add_input("corpus", "x")
    parser.add_argument("--model")
    parser.add_argument("--k", type=int)
    parser.add_argument("--query", nargs="+", action="extend")
    parser.add_argument("--out")
    args = parser.parse_args(["--config", str(path), "--out", "9"])
    assert (args.model, args.k) == (TOKEN, 7)
    saved = options_of(args)
    assert saved == {
        "corpus": "c",
        "model": "${MODEL}",
        "k": "${K}",
        "query": ["${MODEL}", "b"],
        "out": "9",
    }
    save_options(saved, tmp_path / "saved.yaml")
    assert TOKEN not in (tmp_path / "saved.yaml").read_text()
    assert parser.parse_args(["--config", str(tmp_path / "saved.yaml")]).k == 7


def test_a_users_own_file_is_not_replaced_by_arguments(tmp_path):
    path = tmp_path / "train.yaml"
    save_arguments(path, resolved(["--bf16"]))
    save_arguments(path, resolved(["--learning_rate", "1e-5"]))
    assert "learning_rate: 1e-5" in path.read_text()
    path.write_text("notes: mine\n")
    with pytest.raises(FileExistsError, match="no file of tilefold"):
        save_arguments(path, resolved(["--bf16"]))
    assert path.read_text() == "notes: mine\n"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed(StudySettings):
    """Settings with a list that is not empty by default.

    Args:
        names: some.
        count: one.
    """

    names: tuple[str, ...] = ("a", "b")
    count: int = 1


def listed(tmp_path, text: str, *words: str) -> Listed:
    path = tmp_path / "listed.yaml"
    path.write_text(text)
    parser = CommandParser(prog="x")
    parser.add_config()
    add_settings_options(parser, Listed)
    return settings_from_options(parser.parse_args(["--config", str(path), *words]), Listed)


def test_an_empty_list_of_a_file_is_not_the_default(tmp_path):
    assert listed(tmp_path, "names: []\n").names == ()
    assert listed(tmp_path, "names: []\n", "--names", "c").names == ("c",)
    assert listed(tmp_path, "names: [d]\n", "--names").names == ()
    assert listed(tmp_path, "count: 2\n").names == ("a", "b")


@pytest.mark.parametrize("value", ["[]", "[2, 3]"])
def test_a_list_is_not_one_value(tmp_path, capsys, value):
    with pytest.raises(SystemExit):
        listed(tmp_path, f"count: {value}\n")
    assert "listed.yaml: count: expected one value, got" in capsys.readouterr().err
