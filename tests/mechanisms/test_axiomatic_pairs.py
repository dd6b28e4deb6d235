"""Axiomatic pairs: equal numbers of tokens, nothing cut off, and the words of the axiom."""

import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("transformers", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("sklearn", reason="not installed: pip install tilefold[analysis]")

from tilefold.mechanisms import AxiomaticPairs, axiomatic_pairs, patching_sweep
from tilefold.mechanisms.patching.axiomatic_pairs import AXIOMS
from tilefold.mechanisms.patching.token_classes import TOKEN_CLASSES, token_classes
from tilefold.models import Encoder, minilm
from tilefold.ragged_lists import Lists

pytestmark = pytest.mark.usefixtures("one_thread")
LENGTH = 20  # tokens: passages below are longer
QUERIES = ["who is w1 of w2", "w3 w4", "is w5", "who is who", "w90 w91"]
DOCUMENTS = [
    "w1 of w10 w11 w2",
    "w3 is w12 " + " ".join(f"w{n}" for n in range(20, 60)),
    "w5 w13 w14 w15 w16 w17",
    "w2 w4 w5 w18 w19",
    "w2 w4 " + " ".join(f"w{n}" for n in range(60, 80)),
]
RELEVANT = Lists.pack([[0, 3], [1], [2, 3], [0], [4]])


@pytest.fixture(scope="module")
def encoder(tiny_bert):
    return Encoder.from_pretrained(tiny_bert, max_length=LENGTH)


def made(axiom, encoder, **options):
    return axiomatic_pairs(axiom, QUERIES, DOCUMENTS, RELEVANT, encoder, **options)


def ids(encoder, text):
    return encoder.tokenize([text])[0]["input_ids"]


@pytest.mark.parametrize("axiom", AXIOMS)
def test_both_texts_have_as_many_tokens_and_differ_at_their_end_alone(encoder, axiom):
    pairs = made(axiom, encoder, words=4)
    longer = encoder.with_options(max_length=100)
    for clean, corrupted, tokens in zip(pairs.clean, pairs.corrupted, pairs.tokens, strict=True):
        one, other = ids(encoder, clean), ids(encoder, corrupted)
        assert len(one) == len(other) <= LENGTH
        assert one == ids(longer, clean)  # nothing is cut off
        assert other == ids(longer, corrupted)
        assert one[: -tokens - 1] == other[: -tokens - 1]
        assert one[-tokens - 1 : -1] != other[-tokens - 1 : -1]


def test_a_term_that_the_passage_has_is_added_once_more(encoder):
    pairs = made("TFC1", encoder)
    assert sorted(pairs.queries) == [0, 1, 2]
    assert pairs.skipped == 2  # one query has stop words alone, the other is of other words
    for row, clean, corrupted, term in zip(
        pairs.queries, pairs.clean, pairs.corrupted, pairs.terms, strict=True
    ):
        passage = clean.removesuffix(f" {term}")
        assert corrupted == f"{passage} a"
        assert term in QUERIES[row].split()
        assert term in passage.split()
        whole = [DOCUMENTS[place] for place in RELEVANT.of(row)]
        assert any(document.startswith(passage) for document in whole)


def test_a_rare_term_is_added_against_a_common_one(encoder):
    pairs = made("TDC", encoder)
    assert sorted(pairs.queries) == [0, 1]  # the others have fewer than two terms with documents
    ends = {
        row: (clean.split()[-1], corrupted.split()[-1])
        for row, clean, corrupted in zip(pairs.queries, pairs.clean, pairs.corrupted, strict=True)
    }
    assert ends == {0: ("w1", "w2"), 1: ("w3", "w4")}


def test_fillers_are_added_against_words_that_the_query_does_not_have(encoder):
    pairs = made("LNC1", encoder, words=4)
    assert len(pairs) == 5
    for row, clean, corrupted in zip(pairs.queries, pairs.clean, pairs.corrupted, strict=True):
        assert clean.split()[-4:] == ["a"] * 4
        added = corrupted.split()[-4:]
        assert not {*added} & {word for word in QUERIES[row].split() if word.startswith("w")}
        others = set(range(len(DOCUMENTS))) - set(RELEVANT.of(row).tolist())
        assert any({*added} <= {*DOCUMENTS[place].split()} for place in others)


def test_fillers_are_as_many_as_the_tokens_of_a_word():
    encoder = minilm()
    query, document = "where is Krailli Prindru ?", "Krailli Prindru was born in a town ."
    pairs = axiomatic_pairs("TFC1", [query], [document], Lists.pack([[0]]), encoder)
    (tokens,) = pairs.tokens
    assert tokens > 1
    assert pairs.terms[0] in ("Krailli", "Prindru")
    assert pairs.corrupted == (f"{document} {' '.join(['a'] * tokens)}",)
    query = encoder.encode([query], progress=False)
    assert patching_sweep(encoder, pairs.clean, pairs.corrupted, query).heads.shape == (1, 6, 12)


def test_the_seed_alone_decides_and_fewer_pairs_are_the_first_ones(encoder):
    for axiom in AXIOMS:
        pairs = made(axiom, encoder, words=2, seed=1)
        assert pairs == made(axiom, encoder, words=2, seed=1)
        one = made(axiom, encoder, words=2, seed=1, n=1)
        assert one.queries == pairs.queries[:1]
        assert one.clean == pairs.clean[:1]
    orders = {made("LNC1", encoder, words=2, seed=seed).queries for seed in range(5)}
    assert len(orders) > 1


def test_classes_of_tokens_are_their_places(encoder):
    first, added, occurrences, rest = range(len(TOKEN_CLASSES))
    pairs = AxiomaticPairs(
        "TFC1", (0, 0), ("w1 w2 w3 w2 w2", "w5 w6"), ("w1 w2 w3 w2 a", "w5 a"), ("w2", "w6"), (1, 1)
    )
    expected = [
        [first, rest, occurrences, rest, occurrences, added, rest],
        [first, rest, added, rest, -1, -1, -1],
    ]
    assert token_classes(pairs, encoder).tolist() == expected
    fillers = AxiomaticPairs("LNC1", (0,), ("a w1 a a",), ("a w1 w2 w3",), ("a a",), (2,))
    expected = [[first, rest, rest, added, added, rest]]
    assert token_classes(fillers, encoder).tolist() == expected


def test_terms_of_several_tokens_are_found_where_they_stand():
    encoder = minilm()
    text = "Krailli met Krailli Krailli"
    pairs = AxiomaticPairs("TFC1", (0,), (text,), ("x",), ("Krailli",), (3,))
    n = (len(ids(encoder, text)) - 3) // 3
    pairs = AxiomaticPairs("TFC1", (0,), (text,), ("x",), ("Krailli",), (n,))
    expected = [0, *[2] * n, 3, *[2] * n, *[1] * n, 3]
    assert token_classes(pairs, encoder).tolist() == [expected]


def test_wrong_arguments_and_pairs_that_cannot_be_made_are_errors(encoder):
    with pytest.raises(ValueError, match="axiom must be one of TFC1, TDC, LNC1, got 'TFC2'"):
        made("TFC2", encoder)
    with pytest.raises(ValueError, match="expected relevant documents of 1 queries, got 5"):
        axiomatic_pairs("TFC1", QUERIES[:1], DOCUMENTS, RELEVANT, encoder)
    with pytest.raises(ValueError, match="relevant must be indices of documents, 0 to 1, got 3"):
        axiomatic_pairs("TFC1", QUERIES, DOCUMENTS[:2], RELEVANT, encoder)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        made("TFC1", encoder, n=0)
    with pytest.raises(TypeError, match="queries"):
        axiomatic_pairs("TFC1", QUERIES[0], DOCUMENTS, RELEVANT, encoder)
    message = "no pair can be made for TFC1 from any of 1 queries: a relevant passage must have"
    with pytest.raises(ValueError, match=message):
        axiomatic_pairs("TFC1", ["w80"], DOCUMENTS, Lists.pack([[0]]), encoder)
    with pytest.raises(ValueError, match="a query must have two terms"):
        axiomatic_pairs("TDC", ["w1"], DOCUMENTS, Lists.pack([[0]]), encoder)
    with pytest.raises(ValueError, match="there must be another passage"):
        axiomatic_pairs("LNC1", ["w1"], DOCUMENTS[:1], Lists.pack([[0]]), encoder)
    short = encoder.with_options(max_length=3)
    with pytest.raises(ValueError, match="no pair can be made"):
        made("TFC1", short)
