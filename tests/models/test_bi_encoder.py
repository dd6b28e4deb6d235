"""BiEncoder: both towers, tied or not, saved and loaded by whoever reads such folders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from word_tokenizer import save_tokenizer

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[train]"
)

from tilefold.models import BiEncoder, Encoder

WORDS = ["the", "a", "red", "blue", "hen", "fox", "barn", "runs", "sleeps", "over", "ask", "tell"]
QUERIES = ["red fox", "the blue hen sleeps", "fox"]
DOCUMENTS = ["a red fox runs over the barn", "hen", "the hen sleeps over the blue barn"]
BERT = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights, as transformers saves it."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**BERT)).save_pretrained(folder)
    save_tokenizer(folder, WORDS)
    return folder


@pytest.fixture
def load(tiny: Path) -> Callable[..., BiEncoder]:
    return lambda **options: BiEncoder.from_pretrained(tiny, **{"max_length": 24, **options})


def both(model: BiEncoder) -> np.ndarray:
    return np.concatenate([model.encode_queries(QUERIES), model.encode_corpus(DOCUMENTS)])


def assert_same(model: BiEncoder, other: BiEncoder) -> None:
    np.testing.assert_allclose(both(other), both(model), atol=1e-6)


# ---- towers --------------------------------------------------------------------------------------


def test_towers_are_tied_unless_asked_and_their_weights_count_once(load):
    tied, untied = load(), load(tied=False)
    assert tied.query_encoder is tied.document_encoder
    assert tied.tied
    assert not untied.tied
    assert tied.dim == untied.dim == 32
    n_tied, n_untied = (sum(p.numel() for p in model.parameters()) for model in (tied, untied))
    assert n_untied == 2 * n_tied == 2 * sum(p.numel() for p in tied.query_encoder.parameters())
    assert_same(tied, untied)  # the second tower starts as a copy


def test_a_copied_tower_is_trained_by_itself(load):
    model = load(tied=False, projection=torch.nn.Linear(32, 8))
    before = model.encode_queries(QUERIES)
    with torch.no_grad():
        for weight in model.document_encoder.parameters():
            weight.add_(1)
    np.testing.assert_array_equal(model.encode_queries(QUERIES), before)


def test_prefixes_and_lengths_may_differ_while_weights_are_tied(load):
    model = load(query_prefix="ask ", document_prefix="tell ", query_max_length=4)
    plain = load().query_encoder
    assert model.tied
    assert model.document_encoder.max_length == 24
    cut = ["ask " + text.split()[0] for text in QUERIES]  # [CLS], two words, [SEP]
    np.testing.assert_allclose(model.encode_queries(QUERIES), plain.encode(cut), atol=1e-6)
    whole = ["tell " + text for text in DOCUMENTS]
    np.testing.assert_allclose(model.encode_corpus(DOCUMENTS), plain.encode(whole), atol=1e-6)
    n_plain = sum(p.numel() for p in plain.parameters())
    assert sum(p.numel() for p in model.parameters()) == n_plain


def test_documents_with_titles_are_joined_by_the_format(load):
    model = load(title_format="{title} over {text}")
    given = [{"title": "red fox", "text": "barn", "_id": "7"}, {"title": "", "text": "hen"}, "fox"]
    expected = model.encode_corpus(["red fox over barn", "hen", "fox"])
    np.testing.assert_array_equal(model.encode_corpus(given), expected)
    untitled = model.encode_corpus([{"text": "hen"}])
    np.testing.assert_allclose(untitled, expected[1:2], atol=1e-6)


@pytest.mark.parametrize("title_format", ["{title} {text}", "{title} [SEP] {text}", "{text}"])
def test_columns_have_the_bits_of_texts_joined_by_hand(load, title_format):
    model = load(title_format=title_format, document_prefix="tell ")
    titles, texts = ["red fox", "", "hen "], ["barn red", "hen", " fox"]
    by_hand = {
        "{title} {text}": ["red fox barn red", "hen", "hen   fox"],
        "{title} [SEP] {text}": ["red fox [SEP] barn red", "hen", "hen  [SEP]  fox"],
        "{text}": ["barn red", "hen", "fox"],
    }[title_format]
    expected = model.document_encoder.encode(by_hand)
    assert model.document_texts(texts, titles) == by_hand
    np.testing.assert_array_equal(model.encode_documents(texts, titles), expected)
    pairs = [{"title": a, "text": b} for a, b in zip(titles, texts, strict=True)]
    np.testing.assert_array_equal(model.encode_corpus(pairs), expected)
    np.testing.assert_array_equal(
        model.encode_documents(texts), model.document_encoder.encode(texts)
    )
    with pytest.raises(ValueError, match="got 3 texts but 1 titles"):
        model.encode_documents(texts, ["x"])


def test_prompts_have_the_bits_of_queries_joined_by_hand(load):
    model = load(query_prefix="ask ")
    found = model.encode_queries(["red fox", "hen"], ["barn", ""])
    np.testing.assert_array_equal(found, model.query_encoder.encode(["barn red fox", "hen"]))
    with pytest.raises(ValueError, match="got 2 queries but 1 prompts"):
        model.encode_queries(["red fox", "hen"], ["barn"])


def test_a_model_that_reads_no_titles_is_saved_and_loaded(load, tmp_path):
    load(title_format="{text}").save_pretrained(tmp_path / "saved")
    assert BiEncoder.from_pretrained(tmp_path / "saved").title_format == "{text}"


def test_both_families_of_names_encode_alike(load):
    model = load(query_prefix="ask ")
    np.testing.assert_array_equal(model.encode_query(QUERIES), model.encode_queries(QUERIES))
    np.testing.assert_array_equal(model.encode_document(DOCUMENTS), model.encode_corpus(DOCUMENTS))


def test_bfloat16_gives_float32_embeddings_that_are_near(load):
    model = load()
    exact = model.encode_queries(QUERIES)
    near = model.encode_queries(QUERIES, dtype=torch.bfloat16)
    assert near.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(near, axis=1), 1, rtol=1e-5)
    assert 0 < abs(near - exact).max() < 0.03


# ---- save and load -------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_comes_back(load, tmp_path: Path, tied: bool):
    projection = torch.nn.Sequential(torch.nn.Linear(32, 16), torch.nn.Tanh())
    model = load(
        tied=tied,
        pooling="cls",
        normalize=False,
        projection=projection,
        query_prefix="ask ",
        document_max_length=6,
        title_format="{title} [SEP] {text}",
    )
    if not tied:
        torch.nn.init.normal_(model.document_encoder.projection[0].weight)
    model.save_pretrained(tmp_path / "saved")
    again = BiEncoder.from_pretrained(tmp_path / "saved")
    assert again.tied == tied
    assert again.dim == 16
    assert again.title_format == "{title} [SEP] {text}"
    assert_same(model, again)
    moved = BiEncoder.from_pretrained(tmp_path / "saved", query_prefix="", document_prefix="tell ")
    assert moved.query_encoder.prefix == ""
    assert moved.document_encoder.prefix == "tell "


@pytest.mark.parametrize("tied", [True, False])
def test_plain_transformers_reads_what_is_saved(load, tmp_path: Path, tied: bool):
    model = load(tied=tied)
    model.save_pretrained(tmp_path / "saved")
    folder = tmp_path / "saved" / ("" if tied else "document")
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(DOCUMENTS[0], return_tensors="pt")
    theirs, report = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert list(folder.glob("*.safetensors"))
    with torch.inference_mode():
        hidden = theirs.eval()(**tokens).last_hidden_state
        ours = model.document_encoder.model.eval()(**tokens).last_hidden_state
    np.testing.assert_array_equal(hidden, ours)


def test_an_encoder_saved_alone_comes_back_and_becomes_both_towers(load, tmp_path: Path):
    encoder = load(pooling="last", normalize=False, max_length=7).query_encoder
    encoder = encoder.with_options(prefix="ask ")
    encoder.save_pretrained(tmp_path / "saved")
    again = Encoder.from_pretrained(tmp_path / "saved")
    assert again.settings() == encoder.settings()
    np.testing.assert_allclose(again.encode(QUERIES), encoder.encode(QUERIES), atol=1e-6)
    pair = BiEncoder.from_pretrained(tmp_path / "saved")
    assert pair.tied
    assert pair.document_encoder.prefix == "ask "


def test_a_second_checkpoint_may_encode_documents(load, tiny: Path, tmp_path: Path):
    other = load(pooling="cls")
    torch.nn.init.normal_(other.query_encoder.model.embeddings.word_embeddings.weight)
    other.query_encoder.save_pretrained(tmp_path / "other")
    pair = BiEncoder.from_pretrained(tiny, document=tmp_path / "other", max_length=24)
    np.testing.assert_allclose(pair.encode_queries(QUERIES), load().encode_queries(QUERIES))
    expected = other.encode_corpus(DOCUMENTS)
    np.testing.assert_allclose(pair.encode_corpus(DOCUMENTS), expected, atol=1e-6)
    assert pair.document_encoder.pooling == "cls"


@pytest.mark.parametrize("tied", [True, False])
def test_a_save_that_fails_leaves_the_old_folder_whole(load, tmp_path: Path, tied: bool):
    model = load(tied=tied)
    model.save_pretrained(tmp_path / "saved")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    broken = model.document_encoder.tokenizer.save_pretrained
    model.document_encoder.tokenizer.save_pretrained = full
    with pytest.raises(OSError, match="No space left"):
        model.save_pretrained(tmp_path / "saved")
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    model.document_encoder.tokenizer.save_pretrained = broken
    model.save_pretrained(tmp_path / "saved")  # and a later one replaces it
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_folder_of_something_else_is_never_replaced(load, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("dear")
    for save in (load().save_pretrained, load().export_sentence_transformers):
        with pytest.raises(FileExistsError, match=r"neither is it empty nor does it hold tilefold"):
            save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_saving_writes_nothing_to_the_screen(load, tmp_path: Path, capfd):
    load().save_pretrained(tmp_path / "saved")
    assert capfd.readouterr() == ("", "")


# ---- sentence-transformers -----------------------------------------------------------------------


@pytest.fixture
def theirs() -> Any:
    return pytest.importorskip("sentence_transformers").SentenceTransformer


@pytest.mark.parametrize(
    "options",
    [
        {"query_prefix": "ask ", "document_prefix": "tell "},
        {"pooling": "cls", "normalize": False},
        {"pooling": "last", "query_max_length": 4, "document_max_length": 6},
        {"projection": torch.nn.Linear(32, 8), "query_prefix": "ask "},
        {"projection": torch.nn.Sequential(torch.nn.Linear(32, 8, bias=False), torch.nn.Tanh())},
    ],
)
def test_sentence_transformers_encodes_what_is_exported_alike(load, theirs, options, tmp_path):
    model = load(**options)
    model.export_sentence_transformers(tmp_path / "exported")
    other = theirs(str(tmp_path / "exported"), device="cpu")
    np.testing.assert_allclose(
        other.encode_query(QUERIES), model.encode_queries(QUERIES), atol=1e-6
    )
    np.testing.assert_allclose(
        other.encode_document(DOCUMENTS), model.encode_corpus(DOCUMENTS), atol=1e-6
    )
    assert other.similarity_fn_name == ("cosine" if model.query_encoder.normalize else "dot")
    # Read back as their folder, and as ours.
    assert_same(model, BiEncoder.from_pretrained(tmp_path / "exported"))
    (tmp_path / "exported" / "tilefold.json").unlink()
    assert_same(model, BiEncoder.from_pretrained(tmp_path / "exported"))


def test_an_exported_encoder_puts_its_prefix_before_every_text(load, theirs, tmp_path: Path):
    encoder = load().query_encoder.with_options(prefix="ask ")
    encoder.export_sentence_transformers(tmp_path / "exported")
    other = theirs(str(tmp_path / "exported"), device="cpu")
    for encode in (other.encode, other.encode_query, other.encode_document):
        np.testing.assert_allclose(encode(QUERIES), encoder.encode(QUERIES), atol=1e-6)


def test_what_sentence_transformers_saves_is_read_alike(load, tiny, theirs, tmp_path: Path):
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    basics = pytest.importorskip("sentence_transformers.base.modules")
    other = theirs(
        modules=[
            basics.Transformer(str(tiny)),
            modules.Pooling(32, "cls"),
            basics.Dense(32, 8),
            basics.Normalize(),
        ],
        prompts={"query": "ask ", "document": "tell "},
        device="cpu",
    )
    other.save(str(tmp_path), create_model_card=False)
    model = BiEncoder.from_pretrained(tmp_path)
    assert model.query_encoder.max_length == 24
    np.testing.assert_allclose(
        model.encode_queries(QUERIES), other.encode_query(QUERIES), atol=1e-6
    )
    np.testing.assert_allclose(
        model.encode_corpus(DOCUMENTS), other.encode_document(DOCUMENTS), atol=1e-6
    )
    with pytest.raises(ValueError, match=r"another prefix for queries than for documents; use BiE"):
        Encoder.from_pretrained(tmp_path)
    assert Encoder.from_pretrained(tmp_path, prefix="").pooling == "cls"


# ---- wrong input ---------------------------------------------------------------------------------


@pytest.fixture
def exported(load, tmp_path: Path) -> Callable[..., Path]:
    """A folder of sentence-transformers alone, with a file of it changed."""

    def change(filename: str, **fields: Any) -> Path:
        folder = tmp_path / "exported"
        load(projection=torch.nn.Linear(32, 8)).export_sentence_transformers(folder)
        (folder / "tilefold.json").unlink()
        path = folder / filename
        record = json.loads(path.read_text())
        if isinstance(record, list):
            record[2]["type"] = fields["type"]
        else:
            record |= fields
        path.write_text(json.dumps(record))
        return folder

    return change


@pytest.mark.parametrize(
    ("filename", "fields", "complaint"),
    [
        ("modules.json", {"type": "sentence_transformers.models.LSTM"}, r"got \[.*'LSTM'"),
        (
            "1_Pooling/config.json",
            {"pooling_mode": "max"},
            r"one pooling .* got \['max'\]",
        ),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "expected one pooling"),
        ("2_Dense/config.json", {"activation_function": "my.Own"}, "got 'my.Own'"),
        ("2_Dense/config.json", {"use_residual": True}, "residual"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case=True is not"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task"),
        ("config_sentence_transformers.json", {"truncate_dim": 4}, "truncate_dim=4 is not"),
    ],
)
def test_modules_without_a_counterpart_are_named(exported, filename, fields, complaint):
    folder = exported(filename, **fields)
    with pytest.raises(ValueError, match=complaint) as error:
        BiEncoder.from_pretrained(folder)
    assert filename in str(error.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 2}, "expected version 1, got 2"),
        ({"kind": "tree"}, "'kind' must be one of"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"title_format": 3}, "'title_format' must be str, got 3"),
        ({"query": {"pooling": "cls"}}, "'query.normalize' is missing"),
        ({"query": []}, "'query' must be an object"),
        ({"projection": ["Tanh"]}, "projection.safetensors is missing"),
    ],
)
def test_settings_are_read_strictly(load, tmp_path: Path, change: dict[str, Any], complaint: str):
    load().save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "tilefold.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=complaint):
        BiEncoder.from_pretrained(tmp_path / "saved")
    path.write_text("{")
    with pytest.raises(ValueError, match=r"tilefold.json: not valid JSON"):
        BiEncoder.from_pretrained(tmp_path / "saved")


def test_two_towers_are_not_taken_for_one(load, tmp_path: Path):
    load(tied=False).save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="holds two towers: use BiEncoder"):
        Encoder.from_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"tied=True, but .* has an encoder of its own"):
        BiEncoder.from_pretrained(tmp_path / "saved", tied=True)


def test_what_cannot_be_saved_or_exported_is_an_error(load, tmp_path: Path):
    odd = load(projection=torch.nn.Sequential(torch.nn.Linear(32, 8), torch.nn.Dropout(0.5)))
    with pytest.raises(ValueError, match=r"projection: cannot save Dropout"):
        odd.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="need the same weights and pooling"):
        load(tied=False).export_sentence_transformers(tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_are_errors(load):
    model = load()
    with pytest.raises(ValueError, match="queries have dim 32 but documents have dim 8"):
        BiEncoder(
            model.query_encoder,
            model.query_encoder.with_options(projection=torch.nn.Linear(32, 8)),
        )
    with pytest.raises(ValueError, match="projection cannot take the model's 32 dimensions"):
        load(projection=torch.nn.Linear(31, 8))
    with pytest.raises(
        ValueError, match=r"BiEncoder: title_format: expected a template of \{title"
    ):
        load(title_format="{title}")
    with pytest.raises(TypeError, match="texts is one string"):
        model.encode_corpus("fox")
    with pytest.raises(TypeError, match="document 1 must be a string or have"):
        model.encode_corpus(["fox", 3])
    with pytest.raises(TypeError, match="document 0: 'title' and 'text' must be strings"):
        model.encode_corpus([{"title": "fox"}])
    with pytest.raises(ValueError, match=r"dtype must be None or torch.bfloat16"):
        model.encode_queries(["fox"], dtype=torch.float16)
    with pytest.raises(TypeError, match="prefix must be a string, got int"):
        load(query_prefix=3)


@pytest.mark.parametrize("name", ["./none", "/none/at/all"])
def test_a_path_without_a_folder_is_never_looked_up_in_a_hub(name):
    with pytest.raises(FileNotFoundError, match=f"there is no folder {name}"):
        BiEncoder.from_pretrained(name)
