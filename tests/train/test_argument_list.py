"""The list of all arguments of a training, and the help of the command."""

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

from tilefold.cli.main import main
from tilefold.train.yaml_arguments import parser


@pytest.fixture(scope="module")
def listed() -> str:
    from tilefold.train.argument_list import argument_list

    return argument_list(parser(), "tilefold train")


def test_the_list_has_every_argument_once_under_headings(listed):
    lines = listed.splitlines()
    assert lines[0] == "usage: tilefold train [--config FILE] [--NAME VALUE ...]"
    headings = [line for line in lines[1:] if line.endswith(":") and not line.startswith(" ")]
    assert headings[:3] == ["model:", "data:", "recipe, output and memory:"]
    assert headings[-1] == "of transformers.TrainingArguments:"
    shown = [line.split()[0] for line in lines if line.startswith("  --")]
    actions = [action for action in parser()._actions if action.dest != "help"]
    assert sorted(shown) == sorted(action.option_strings[0] for action in actions)
    theirs = listed.index(headings[-1])
    for own in ("pooling", "train_path", "learning_rate", "temperature", "refresh_steps"):
        assert listed.index(f"  --{own} ") < theirs
    for other in ("max_steps", "optim", "save_strategy"):
        assert listed.index(f"  --{other} ") > theirs


def test_the_list_has_defaults_where_there_are_any(listed):
    text = " ".join(listed.split())
    assert (
        "--train_path VALUE training file or folder, in any format of tilefold (required)" in text
    )
    assert "(default: nDCG@10 RR@10)" in text
    assert "(default: )" not in text
    assert "(default: None)" not in text


def test_the_command_shows_the_list(listed, capsys):
    assert main(["train", "--list-arguments"]) == 0
    assert capsys.readouterr().out == listed


def test_the_help_names_what_is_needed(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    out = capsys.readouterr().out
    for option in ("--config", "--model_name_or_path", "--train_path", "--output_dir"):
        assert f"  {option} " in out
    assert "--list-arguments" in out
