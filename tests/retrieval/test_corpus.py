"""An encoded corpus is opened, checked and searched from Python, as a service does it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tilefold.files.tensors import CorruptedFolderError
from tilefold.retrieval.corpus import open_corpus, save_index
from tilefold.retrieval.encode_shards import encode_shards
from tilefold.retrieval.exact_search import search
from tilefold.retrieval.flat_index import FlatIndex

RECORD = {"name": "m", "pooling": "mean", "normalize": True, "weights": "0a1b", "prefix": "p: "}
TEXTS = [f"text {i}" for i in range(7)]
NAMES = [f"d{i}" for i in range(7)]
VECTORS = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)


def encode(texts: list[str]) -> np.ndarray:
    return VECTORS[[TEXTS.index(text) for text in texts]]


def write(folder: Path, record: object = RECORD) -> Path:
    list(encode_shards(encode, TEXTS, NAMES, folder, num_shards=2, model=record))
    return folder


@pytest.fixture(params=["shards", "index"])
def folder(request, tmp_path):
    shards = write(tmp_path / "shards")
    if request.param == "shards":
        return shards
    save_index(tmp_path / "index", shards)
    return tmp_path / "index"


def test_a_corpus_has_names_dimensions_and_the_model(folder):
    corpus = open_corpus(folder)
    assert (corpus.folder, corpus.names, corpus.dim, corpus.model) == (folder, NAMES, 5, RECORD)
    found = corpus.search(VECTORS[:3], 4)
    expected = search(VECTORS[:3], VECTORS, 4)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": "ffff"}, "encoded by model m with weights 0a1b, but model n has weights ffff"),
        ({"pooling": "cls"}, "encoded by model m with pooling mean, but model n has pooling cls"),
        ({"normalize": False}, "with normalize True, but model n has normalize False"),
    ],
)
def test_another_model_is_refused(folder, changed, message):
    with pytest.raises(ValueError, match=message):
        open_corpus(folder).check_model({**RECORD, "name": "n", **changed}, 5)


def test_another_dimension_is_refused(folder):
    with pytest.raises(ValueError, match="has vectors of dim 5, but model m has dim 6"):
        open_corpus(folder).check_model(RECORD, 6)


def test_the_same_weights_under_another_name_are_accepted(folder):
    """A prefix of documents is no setting of queries."""
    open_corpus(folder).check_model({**RECORD, "name": "n", "prefix": "q: "}, 5)


def test_without_a_record_the_dimension_alone_is_checked(tmp_path):
    corpus = open_corpus(write(tmp_path / "shards", None))
    assert corpus.model is None
    corpus.check_model(RECORD, 5)
    with pytest.raises(ValueError, match="has vectors of dim 5"):
        corpus.check_model(RECORD, 384)


def test_a_folder_without_a_corpus_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no shards of a corpus"):
        open_corpus(tmp_path)


def test_an_index_is_not_overwritten(tmp_path):
    shards = write(tmp_path / "shards")
    save_index(tmp_path / "index", shards)
    with pytest.raises(FileExistsError, match="exists already"):
        save_index(tmp_path / "index", shards)


def test_records_of_models_fit_json(tiny_bert):
    """A corpus keeps them."""
    pytest.importorskip("transformers", reason="not installed: pip install tilefold[demo]")
    from tilefold.models import model_record as record

    model = record.open_model(str(tiny_bert), pooling="mean")
    own = record.model_record(model, "tiny")
    assert json.loads(json.dumps(own)) == own
    assert own["pooling"] == "mean"
    assert own["weights"] == record.model_record(record.open_model(str(tiny_bert)), "x")["weights"]


def test_names_of_another_index_are_refused(tmp_path):
    """Both files are whole, and of one size."""
    for name, record in (("one", RECORD), ("other", {**RECORD, "name": "n"})):
        save_index(tmp_path / name, write(tmp_path / f"{name} shards", record))
    index = FlatIndex.load(tmp_path / "one" / "index")
    index.add(VECTORS[:1])
    index.save(tmp_path / "one" / "index")
    names = tmp_path / "one" / "names.safetensors"
    for verify in (True, False):
        with pytest.raises(CorruptedFolderError, match=f"{names} belongs to another index"):
            open_corpus(tmp_path / "one", verify=verify)
    shutil.copytree(tmp_path / "other" / "index", tmp_path / "one" / "index", dirs_exist_ok=True)
    with pytest.raises(CorruptedFolderError, match=f"{names} belongs to another index"):
        open_corpus(tmp_path / "one")


def test_a_changed_name_or_model_is_refused(tmp_path):
    save_index(tmp_path / "index", write(tmp_path / "shards"))
    path = tmp_path / "index" / "names.safetensors"
    whole = path.read_bytes()
    for text in (b"d3", b"pooling", b"0a1b"):
        changed = bytearray(whole)
        changed[whole.index(text)] ^= 1
        path.write_bytes(changed)
        with pytest.raises(CorruptedFolderError, match=f"{path} does not match its checksum"):
            open_corpus(tmp_path / "index")
