"""Shards of a corpus: whole or absent, of one plan, and searched as one corpus."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tilefold import search, search_shards
from tilefold.files.tensors import CorruptedFolderError, map_tensors
from tilefold.retrieval.corpus import open_corpus
from tilefold.retrieval.encode_shards import encode_shards, shards_of
from tilefold.retrieval.encoded_shard import names_of

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((23, 8)).astype(np.float32)
TEXTS = [str(i) for i in range(23)]
NAMES = [f"döc {i}" for i in range(23)]


def encode(texts):
    return VECTORS[[int(text) for text in texts]]


def shards(folder: Path, **options) -> list[Path]:
    return list(encode_shards(encode, TEXTS, NAMES, folder, **{"num_shards": 4, **options}))


@pytest.mark.parametrize("num_shards", [1, 4, 23, 30])
def test_shards_are_searched_as_the_corpus(tmp_path, num_shards):
    paths = shards(tmp_path, num_shards=num_shards)
    assert paths == shards_of(tmp_path)
    found = search_shards(VECTORS[:5], [p for p in paths if p.stat().st_size], k=7)
    whole = search(VECTORS[:5], VECTORS, k=7)
    np.testing.assert_array_equal(found.ids, whole.ids)
    np.testing.assert_array_equal(found.scores, whole.scores)
    assert names_of(paths) == NAMES


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_shards_hold_rounded_vectors(tmp_path, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    found = search_shards(VECTORS[:5], shards(tmp_path, dtype=dtype), k=23)
    whole = search(VECTORS[:5], VECTORS.astype(kind).astype(np.float32), k=23)
    np.testing.assert_array_equal(found.ids, whole.ids)
    np.testing.assert_array_equal(found.scores, whole.scores)


def test_titles_are_encoded_with_the_texts_of_their_shard(tmp_path):
    titles = [f"title {i % 3}" for i in range(23)]
    seen = []

    def encode_both(texts, titles):
        seen.extend(zip(titles, texts, strict=True))
        return encode(texts)

    paths = list(encode_shards(encode_both, TEXTS, NAMES, tmp_path, num_shards=4, titles=titles))
    assert seen == list(zip(titles, TEXTS, strict=True))
    assert names_of(paths) == NAMES
    with pytest.raises(ValueError, match="was written from another corpus"):
        list(encode_shards(encode_both, TEXTS, NAMES, tmp_path, num_shards=4, titles=TEXTS))
    with pytest.raises(ValueError, match="got 23 texts but 1 titles"):
        list(encode_shards(encode_both, TEXTS, NAMES, tmp_path, num_shards=4, titles=["x"]))


def test_shards_of_fewer_documents_are_refused_by_their_number(tmp_path):
    list(encode_shards(encode, TEXTS[:9], NAMES[:9], tmp_path, num_shards=4))
    with pytest.raises(ValueError, match="was written from 9 documents, not 23; choose another"):
        shards(tmp_path)


def test_a_folder_that_is_not_there_is_told_from_one_without_shards(tmp_path):
    for read in (shards_of, open_corpus):
        with pytest.raises(FileNotFoundError, match=r"^there is no folder .*nowhere$"):
            read(tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError, match=r"holds no shards of a corpus: .*tilefold enc"):
            read(tmp_path)


def test_no_titles_at_all_are_as_if_none_were_given(tmp_path):
    paths = shards(tmp_path)
    assert shards(tmp_path, titles=[""] * 23) == paths


def test_finished_shards_are_not_encoded_again(tmp_path):
    asked = []

    def counting(texts):
        asked.append(len(texts))
        return encode(texts)

    next(iter(encode_shards(encode, TEXTS, NAMES, tmp_path, num_shards=4)))
    list(encode_shards(counting, TEXTS, NAMES, tmp_path, num_shards=4))
    assert asked == [6, 6, 6]
    list(encode_shards(counting, TEXTS, NAMES, tmp_path, num_shards=4))
    assert len(asked) == 3


def test_machines_write_different_shards(tmp_path):
    for number in (2, 0, 3):
        shards(tmp_path, shard=number)
    with pytest.raises(FileNotFoundError, match="lacks 1 of 4 shards, such as 1; encode with"):
        shards_of(tmp_path)
    shards(tmp_path, shard=1)
    assert names_of(shards_of(tmp_path)) == NAMES


KILLED = """
import sys, time
import numpy as np
from tilefold.retrieval.encode_shards import encode_shards
def encode(texts):
    if texts[0] != "0":
        print("second", flush=True)
        time.sleep(60)
    return np.ones((len(texts), 8), np.float32)
texts = [str(i) for i in range(23)]
names = ["döc " + text for text in texts]
list(encode_shards(encode, texts, names, sys.argv[1], num_shards=4))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_writer_leaves_whole_shards(tmp_path):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = [sys.executable, "-P", "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "second\n"
        time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    assert [path.name for path in sorted(tmp_path.glob("*.safetensors"))] == [
        "00000-of-00004.safetensors"
    ]
    before = (tmp_path / "00000-of-00004.safetensors").read_bytes()
    shards(tmp_path)
    assert (tmp_path / "00000-of-00004.safetensors").read_bytes() == before
    assert len(shards_of(tmp_path)) == 4


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    shards(tmp_path, shard=0)

    def full(path, tensors, bfloat16=frozenset()):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tilefold.files.done_once.write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        shards(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000-of-00004.safetensors",
        "shards.json",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_shards": 5}, "was written with num_shards=4, not 5; choose another folder"),
        ({"dtype": "float16"}, "was written with dtype='float32', not 'float16'; choose"),
        ({"model": "b"}, "was written with model={'a': 1, 'b': 2}, not 'b'; choose"),
        ({"model": {"b": 2, "c": 3}}, "with another model: a=1, not None; c=None, not 3; choose"),
    ],
)
def test_shards_of_another_plan_are_refused(tmp_path, options, message):
    shards(tmp_path, shard=0, model={"a": 1, "b": 2})
    with pytest.raises(ValueError, match=re.escape(message)):
        shards(tmp_path, **{"model": {"a": 1, "b": 2}, **options})


def test_another_corpus_is_refused(tmp_path):
    shards(tmp_path, shard=0)
    others = [f"other {i}" for i in range(23)]
    with pytest.raises(ValueError, match="another corpus"):
        list(encode_shards(encode, TEXTS, others, tmp_path, num_shards=4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_shards": 0}, "num_shards must be 1 to 99,999, got 0"),
        ({"shard": 4}, "shard must be 0 to 3, got 4"),
        ({"dtype": "int8"}, "dtype must be one of float32, float16, bfloat16, got 'int8'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        shards(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_vectors_that_a_narrow_type_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="vector of document 0 is not finite in float16"):
        list(
            encode_shards(
                lambda texts: np.full((len(texts), 2), 1e6, np.float32),
                TEXTS,
                NAMES,
                tmp_path,
                dtype="float16",
            )
        )


def test_an_encoder_that_drops_texts_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must return \[23, dim\]"):
        list(encode_shards(lambda texts: VECTORS[:3], TEXTS, NAMES, tmp_path))


def test_names_and_texts_with_null_characters_are_told_apart(tmp_path):
    def ones(texts):
        return np.ones((len(texts), 4), np.float32)

    [*encode_shards(ones, ["x", "y"], ["a\0", "b"], tmp_path)]
    with pytest.raises(ValueError, match="was written from another corpus"):
        [*encode_shards(ones, ["x", "y"], ["a", "\0b"], tmp_path)]


def test_shards_of_an_older_format_are_refused(tmp_path):
    def ones(texts):
        return np.ones((len(texts), 4), np.float32)

    [*encode_shards(ones, ["x"], ["a"], tmp_path)]
    plan = json.loads((tmp_path / "shards.json").read_text())
    del plan["version"], plan["checksum"]
    (tmp_path / "shards.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match="was written with version=0, not 2"):
        [*encode_shards(ones, ["x"], ["a"], tmp_path)]


# ---- what was changed on the disk ----------------------------------------------------------------


def flip_bit(path: Path, name: str) -> None:
    data = bytearray(path.read_bytes())
    tensor = map_tensors(path)[name].tobytes()
    data[data.index(tensor) + len(tensor) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["vectors", "ids", "names", "name_ends", "plan", "checksum"])
def test_a_flipped_bit_of_a_shard_is_refused_when_it_is_read_and_when_encoding_goes_on(
    tmp_path, name
):
    path = shards(tmp_path)[2]
    flip_bit(path, name)
    for read in (shards_of, shards, open_corpus):
        with pytest.raises(CorruptedFolderError, match=f"{path} does not match its checksum"):
            read(tmp_path)


@pytest.mark.parametrize("left", [0, 7, 100, -8, -1])
def test_a_truncated_shard_is_not_finished(tmp_path, left):
    path = shards(tmp_path)[1]
    os.truncate(path, left % path.stat().st_size)
    for read in (shards_of, shards):
        with pytest.raises(ValueError, match=f"{path}: not a whole safetensors file"):
            read(tmp_path)


@pytest.mark.parametrize("verify", [True, False])
def test_shards_whose_files_are_exchanged_are_refused_by_name(tmp_path, verify):
    one, other = shards(tmp_path)[1:3]
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    message = f"{one}: expected documents 5 to 10, got 11 to 16; was it renamed"
    for read in (shards_of, open_corpus):
        with pytest.raises(CorruptedFolderError, match=message):
            read(tmp_path, verify=verify)


def test_names_go_by_ids_and_not_by_the_order_of_files(tmp_path):
    paths = shards(tmp_path)
    assert names_of(paths[::-1]) == NAMES
    with pytest.raises(CorruptedFolderError, match="but 0 is missing or twice"):
        names_of(paths[1:])
    with pytest.raises(CorruptedFolderError, match="is missing or twice"):
        names_of([*paths, paths[2]])


@pytest.mark.parametrize("verify", [True, False])
def test_a_shard_of_another_encoding_is_refused(tmp_path, verify):
    path = shards(tmp_path / "one")[1]
    shutil.copy(shards(tmp_path / "other", model="another")[1], path)
    with pytest.raises(CorruptedFolderError, match=f"{path} belongs to another encoding"):
        shards_of(tmp_path / "one", verify=verify)


def test_a_changed_plan_is_refused(tmp_path):
    shards(tmp_path)
    path = tmp_path / "shards.json"
    path.write_text(path.read_text().replace('"documents": 23', '"documents": 22'))
    for read in (shards_of, shards):
        with pytest.raises(CorruptedFolderError, match=f"{path} does not match its checksum"):
            read(tmp_path)


@pytest.mark.parametrize("content", ["[]", "null", '"x"', "{", "\xff", "[" * 100_000])
def test_garbage_in_the_plan_is_a_clear_error(tmp_path, content):
    (tmp_path / "shards.json").write_text(content, encoding="latin-1")
    with pytest.raises(CorruptedFolderError, match=r"shards\.json: not the plan of shards"):
        shards_of(tmp_path)


def test_without_verification_a_search_believes_what_the_disk_gives(tmp_path):
    """What the documentation says is risked, and what `verify` notices."""
    paths = shards(tmp_path)
    flip_bit(paths[2], "vectors")
    assert len(open_corpus(tmp_path, verify=False).search(VECTORS[:2], 3).ids) == 2
    assert len(search_shards(VECTORS[:2], paths, 3).ids) == 2
    with pytest.raises(ValueError, match=f"{paths[2]} does not match its checksum"):
        search_shards(VECTORS[:2], paths, 3, verify=True)


def test_names_that_are_not_valid_unicode_come_back(tmp_path):
    names = [f"{name}\udc80" for name in NAMES]
    paths = list(encode_shards(encode, TEXTS, names, tmp_path, num_shards=4))
    assert names_of(paths) == names
