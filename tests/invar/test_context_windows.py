"""Context windows: chunks of documents by words, characters and tokens, within templates."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tilefold.invar import Window
from word_tokenizer import save_tokenizer

TEXTS = st.lists(st.text("ab \n", max_size=20), max_size=4)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Splits at punctuation, too, and has two special tokens around a text."""
    transformers = pytest.importorskip("transformers")
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, ["a", "b", "c", "-"], length=4)
    return transformers.AutoTokenizer.from_pretrained(folder)


@given(TEXTS, st.integers(1, 5), st.data())
def test_chunks_cover_every_word_in_order_and_none_repeats_an_end(documents, words, data):
    stride = data.draw(st.integers(1, words))
    texts, owners = Window(words, stride).chunks(documents)
    for row, document in enumerate(documents):
        own = [text.split() for text, owner in zip(texts, owners, strict=True) if owner == row]
        whole = document.split()
        joined = own[0] + [word for part in own[1:] for word in part[words - stride :]]
        assert joined == whole
        assert all(len(part) == words for part in own[:-1])
        assert len(own) == 1 or len(own[-1]) > words - stride


@given(TEXTS, st.integers(1, 5), st.sampled_from(["words", "characters"]))
def test_chunks_are_pieces_of_the_text_and_one_that_fits_is_unchanged(documents, size, unit):
    texts, owners = Window(size, unit=unit).chunks(documents)
    for row, document in enumerate(documents):
        own = [text for text, owner in zip(texts, owners, strict=True) if owner == row]
        units = len(document) if unit == "characters" else len(document.split())
        assert (own == [document]) == (units <= size)
        places = [document.index(text) for text in own]
        assert places[0] == 0 or document[: places[0]].isspace()


@given(TEXTS, st.integers(1, 5))
def test_truncation_keeps_the_first_words_of_each_document(documents, words):
    texts, owners = Window(words, truncate=True).chunks(documents)
    assert owners.tolist() == list(range(len(documents)))
    assert [text.split() for text in texts] == [text.split()[:words] for text in documents]


def test_characters_are_counted_with_white_space_and_blank_chunks_are_left_out():
    documents = ["ab cd", "a     b", "    "]
    texts, owners = Window(2, unit="characters").chunks(documents)
    assert texts == ["ab", " c", "d", "a ", "b", "  "]
    assert owners.tolist() == [0, 0, 0, 1, 1, 2]
    first = Window(3, truncate=True, unit="characters")
    assert first.chunks(documents).texts == ["ab ", "a  ", "   "]


def test_tokens_are_those_of_the_tokenizer(tokenizer):
    window = Window(3, 2, unit="tokens", tokenizer=tokenizer)
    texts, owners = window.chunks(["a-b c-a", "b", ""])  # a - b c - a
    assert texts == ["a-b", "b c-", "-a", "b", ""]
    assert owners.tolist() == [0, 0, 0, 1, 2]
    for text in texts:
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= 3


def test_bytes_of_one_character_are_cut_at_the_character(tmp_path: Path):
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    bytewise = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            {x: n for n, x in enumerate(tokenizers.pre_tokenizers.ByteLevel.alphabet())}, []
        )
    )
    bytewise.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bytewise)
    texts = Window(3, unit="tokens", tokenizer=fast).chunks(["\u00e9\u00e9"]).texts
    assert texts == ["\u00e9\u00e9", "\u00e9"]  # two tokens each; none is half a character


def test_a_template_takes_its_part_of_the_window(tokenizer):
    documents, titles = ["a b c a", "b c"], ["T", ""]
    window = Window(4, template="passage: {title} {text}")
    assert window.chunks(documents, titles).texts == ["a b", "c a", "b c"]
    window = Window(12, unit="characters", template="p: {text}")
    assert window.chunks(["0123456789"]).texts == ["012345678", "9"]
    # Two special tokens and two of the prefix leave three of seven.
    window = Window(7, unit="tokens", tokenizer=tokenizer, template="c - {text}")
    texts = window.chunks(["a b c a b"]).texts
    assert texts == ["a b c", "a b"]
    assert [len(tokenizer(f"c - {text}")["input_ids"]) for text in texts] == [7, 6]


def test_windows_name_themselves(tokenizer):
    windows = [
        Window(8),
        Window(8, 4),
        Window(8, truncate=True, unit="characters"),
        Window(8, unit="tokens", tokenizer=tokenizer, template="a {text}"),
    ]
    assert [window.name for window in windows] == [
        "chunks of 8 words",
        "chunks of 8 words every 4",
        "first 8 characters",
        "chunks of 8 tokens, template included",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be 1 or more, got 0"),
        ({"size": 4, "stride": 5}, "stride must be 1 to 4, got 5"),
        ({"size": 4, "stride": 0}, "stride must be 1 to 4, got 0"),
        ({"size": 4, "stride": 2, "truncate": True}, "stride has no effect"),
        ({"size": 4, "unit": "lines"}, "unit must be one of"),
        ({"size": 4, "unit": "tokens"}, "needs a tokenizer; got unit 'tokens' and no tokenizer"),
        ({"size": 4, "tokenizer": object()}, "needs a tokenizer; got unit 'words' and a tokenizer"),
        ({"size": 4, "unit": "tokens", "tokenizer": object()}, "must be a fast one"),
        ({"size": 4, "template": "{title}"}, "Window: title_format: expected a template"),
        ({"size": 2, "template": "the passage: {text}"}, "no larger than the template without a"),
    ],
)
def test_windows_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Window(**options)


def test_a_window_smaller_than_the_template_of_a_document_names_it():
    window = Window(4, 2, template="{title} {text}")
    with pytest.raises(ValueError, match="no larger than the template for document 1, 4 words"):
        window.chunks(["a b", "c"], ["one", "four words of title"])
    with pytest.raises(ValueError, match="room for 1 words of document 0, fewer than the stride"):
        window.chunks(["a b"], ["two plus one"])


def test_titles_are_checked():
    with pytest.raises(ValueError, match="expected 1 titles, got 2"):
        Window(4, template="{title} {text}").chunks(["a"], ["b", "c"])
    with pytest.raises(ValueError, match=r"titles have no effect without a template that has"):
        Window(4).chunks(["a"], ["b"])


def test_no_documents_have_no_chunks():
    texts, owners = Window(3).chunks([])
    assert texts == []
    assert owners.dtype == np.int64
