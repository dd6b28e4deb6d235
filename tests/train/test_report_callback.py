"""Reports of trainings while they run: whole curves, interruptions, and full disks."""

import pytest

pytest.importorskip("jinja2", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("matplotlib", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_scored_set, a_set, arguments, load, losses_of

from file_size_limit import file_size_limit
from page_parser import Page
from tilefold.train import ReportCallback, RetrieverTrainer, hold_out
from tilefold.train.report_callback import training_settings
from tilefold.train.validation import Validation

pytestmark = pytest.mark.usefixtures("one_thread")


def a_trainer(tiny_bert, tmp_path, *, callbacks=(), **options) -> RetrieverTrainer:
    kept, held = hold_out(a_set(), 4, seed=0)
    report = str(tmp_path / "report.html")
    args = arguments(tmp_path / "out", **{"report": report, "max_steps": 4, **options})
    validation = Validation(held, ["RR@10"])
    return RetrieverTrainer(
        load(tiny_bert), args, kept, validation=validation, callbacks=list(callbacks)
    )


def page_in(tmp_path) -> Page:
    return Page((tmp_path / "report.html").read_text())


def drawn(page: Page, name: str = "loss") -> list[float]:
    return [float(row[2]) for row in page.files()[f"{name}.csv"][1:]]


class Stop(transformers.TrainerCallback):
    """Ends a training as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, **rest):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_a_training_writes_its_curve_measures_and_settings(tiny_bert, tmp_path):
    trainer = a_trainer(tiny_bert, tmp_path)
    before = trainer.evaluate()
    trainer.train()
    assert page_in(tmp_path).table("measure")["RR@10"][1] == "none"
    after = trainer.evaluate()
    page = page_in(tmp_path)
    assert page.headings[0] == ("h1", "Training")
    assert "Finished after 4 of 4 steps." in page.text
    assert drawn(page) == losses_of(trainer)
    for name, cells in list(page.table("measure").items())[1:]:
        assert cells == [f"{before[f'eval_{name}']:.4f}", f"{after[f'eval_{name}']:.4f}"]
    assert all(rate > 0 for rate in drawn(page, "steps_per_second"))
    settings = page.table("name")
    assert settings["learning_rate"] == ["0.001"]
    assert settings["max_steps"] == ["4"]
    assert settings["seed"] == ["12345"]
    versions = {row[0]: row[1] for row in page.tables[-1]}
    assert versions["transformers"] == transformers.__version__


def test_a_resumed_training_has_the_whole_curve(tiny_bert, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2}
    whole = a_trainer(tiny_bert, tmp_path / "whole", **saving)
    (tmp_path / "whole").mkdir(exist_ok=True)
    whole.train()
    stopped = a_trainer(tiny_bert, tmp_path, callbacks=[Stop(3)], **saving)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    resumed = a_trainer(tiny_bert, tmp_path, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    page = page_in(tmp_path)
    assert drawn(page) == drawn(page_in(tmp_path / "whole")) == losses_of(whole)
    assert [row[1] for row in page.files()["steps_per_second.csv"][1:]] == list("1234")


def test_an_interrupted_training_shows_what_was_done(tiny_bert, tmp_path):
    trainer = a_trainer(tiny_bert, tmp_path, callbacks=[Stop(3)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    page = page_in(tmp_path)
    assert "Interrupted after 3 of 4 steps by KeyboardInterrupt." in page.text
    assert drawn(page) == losses_of(trainer)
    assert len(drawn(page)) == 3


def test_a_page_is_written_with_each_checkpoint(tiny_bert, tmp_path):
    pages = []

    class Look(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **rest):
            path = tmp_path / "report.html"
            pages.append(path.read_text() if path.exists() else "")

    trainer = a_trainer(
        tiny_bert, tmp_path, callbacks=[Look()], save_strategy="steps", save_steps=2
    )
    trainer.train()
    assert pages[:2] == ["", ""]
    assert "Not finished: 2 of 4 steps were done" in pages[2]
    assert pages[2] == pages[3]


def test_a_page_that_cannot_be_written_does_not_end_a_training(tiny_bert, tmp_path):
    trainer = a_trainer(tiny_bert, tmp_path, report=str(tmp_path / "none" / "report.html"))
    with pytest.warns(RuntimeWarning, match="the report was not written: .*none"):
        trainer.train()
    assert trainer.state.global_step == 4
    with pytest.raises(OSError, match="none"):
        trainer.reports[0].write(trainer.args, trainer.state)


def test_a_full_disk_leaves_the_last_page_and_the_reason_of_an_interruption(tiny_bert, tmp_path):
    trainer = a_trainer(tiny_bert, tmp_path, callbacks=[Stop(3)])
    (tmp_path / "report.html").write_text("old")
    with file_size_limit(8192), pytest.raises(KeyboardInterrupt) as caught:
        trainer.train()
    assert any("the report was not written" in note for note in caught.value.__notes__)
    assert (tmp_path / "report.html").read_text() == "old"


def test_a_callback_of_ones_own_takes_the_place_of_the_argument(tiny_bert, tmp_path):
    own = ReportCallback(tmp_path / "own.html", title="Mine", settings={"Mine": {"a": 1}})
    trainer = a_trainer(tiny_bert, tmp_path, callbacks=[own], max_steps=1)
    trainer.train()
    assert trainer.reports == [own]
    assert not (tmp_path / "report.html").exists()
    page = Page((tmp_path / "own.html").read_text())
    assert page.headings[0] == ("h1", "Mine")
    assert page.table("name")["a"] == ["1"]


def test_other_processes_write_nothing(tiny_bert, tmp_path):
    trainer = a_trainer(tiny_bert, tmp_path)
    trainer.state.is_world_process_zero = False
    trainer.reports[0].write(trainer.args, trainer.state)
    assert not (tmp_path / "report.html").exists()


def test_an_unchanged_page_is_not_written_again(tiny_bert, tmp_path):
    trainer = a_trainer(tiny_bert, tmp_path, max_steps=1)
    trainer.train()
    path = tmp_path / "report.html"
    before = path.stat().st_ino, path.read_text()
    trainer.reports[0].write(trainer.args, trainer.state)
    assert (path.stat().st_ino, path.read_text()) == before
    path.unlink()
    trainer.reports[0].write(trainer.args, trainer.state)
    assert path.read_text() == before[1]


def test_an_error_before_the_training_leaves_the_page_that_was_there(tiny_bert, tmp_path):
    (tmp_path / "report.html").write_text("of an earlier run")
    trainer = a_trainer(tiny_bert, tmp_path)
    with pytest.raises(FileNotFoundError):
        trainer.train(resume_from_checkpoint=str(tmp_path / "nowhere"))
    assert (tmp_path / "report.html").read_text() == "of an earlier run"


def test_terms_and_weights_of_a_sum_of_losses_have_curves(tiny_bert, tmp_path):
    args = arguments(
        tmp_path / "out",
        report=str(tmp_path / "report.html"),
        max_steps=3,
        distillation_weight="linear:0:0.5:2",
        train_group_size=3,
    )
    trainer = RetrieverTrainer(load(tiny_bert), args, a_scored_set())
    trainer.train()
    files = page_in(tmp_path).files()
    terms, weights = files["terms of the loss.csv"][1:], files["weights of the terms.csv"][1:]
    own = [float(value) for name, _, value in weights if name == "distillation_weight"]
    assert own == [0, 0.25, 0.5]
    losses = {name: [float(v) for n, _, v in terms if n == name] for name, *_ in terms}
    assert losses.keys() == {"contrastive", "distillation"}
    total = losses["contrastive"][2] + 0.5 * losses["distillation"][-1]
    assert total == pytest.approx(drawn(page_in(tmp_path))[2], rel=1e-5)


def test_settings_that_differ_from_the_defaults_come_first(tmp_path):
    own = {"per_device_train_batch_size": 8, "accelerator_config": {"split_batches": True}}
    found = training_settings(arguments(tmp_path, **own))
    changed, unchanged = found.values()
    assert changed["per_device_train_batch_size"] == 8  # the default of transformers
    assert changed["accelerator_config"] == {"split_batches": True}
    assert changed["seed"] == 12345
    assert unchanged["max_grad_norm"] == 2
    assert unchanged["temperature"] == 1
    assert not changed.keys() & unchanged.keys()
    assert "learning_rate" not in unchanged
    for one in training_settings(arguments(tmp_path)).values():
        assert not {"accelerator_config", "gradient_checkpointing", "debug"} & one.keys()
