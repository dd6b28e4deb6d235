"""A warm-up that is as long as the training is a warning."""

import warnings

import pytest
from training_runs import a_set, arguments, load

from tilefold.cli.main import main
from tilefold.train import RetrieverTrainer

LONG = "warmup_steps is {} and the training has {}, so the learning rate never reaches 0.001; give"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"warmup_steps": 1237}, LONG.format("1,237", "8 steps") + " warmup_steps: 0.1"),
        ({"warmup_steps": 8}, LONG.format("8", "8 steps")),
        ({"warmup_steps": 3, "max_steps": 3}, LONG.format("3", "3 steps")),
        ({"warmup_steps": 1, "max_steps": 1}, LONG.format("1", "1 step") + " warmup_steps: 0 for"),
    ],
)
def test_a_warmup_as_long_as_the_training_is_a_warning(tiny_bert, tmp_path, options, words):
    with pytest.warns(UserWarning, match=words) as caught:
        RetrieverTrainer(load(tiny_bert), arguments(tmp_path, **options), a_set())
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "options",
    [
        {"warmup_steps": 7},
        {"warmup_steps": 0.9},
        {"warmup_steps": 0},
        {"warmup_steps": 99, "lr_scheduler_type": "constant"},
    ],
)
def test_a_shorter_warmup_is_none(tiny_bert, tmp_path, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RetrieverTrainer(load(tiny_bert), arguments(tmp_path, **options), a_set())


def test_the_command_shows_it_once_before_the_training(tiny_bert, tmp_path, capsys):
    (tmp_path / "data.jsonl").write_text('{"query": "w1", "pos": ["w1"], "neg": ["w2"]}\n')
    words = ["train", "--model_name_or_path", str(tiny_bert), "--use_cpu", "--report_to", "none"]
    words += ["--train_path", str(tmp_path / "data.jsonl"), "--output_dir", str(tmp_path / "out")]
    words += ["--max_steps", "2", "--logging_steps", "1", "--disable_tqdm", "True"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    warning = (
        "  warning    warmup_steps is 1,237 and the training has 2 steps, so the learning rate"
    )
    assert out.count(warning) == 1
    assert out.index(warning) < out.index("  step      1")
    assert "UserWarning" not in err
