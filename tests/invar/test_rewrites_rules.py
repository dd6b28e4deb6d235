"""Rewriters by rules: the same in every process, and true to what their family promises."""

import os
import re
import subprocess
import sys
from difflib import SequenceMatcher
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.data.rewrites import wording
from tilefold.invar import (
    RULE_FAMILIES,
    AmbiguityRewriter,
    FormalityRewriter,
    RedundancyRewriter,
    RuleRewriter,
    TemplateRewriter,
    TypoRewriter,
    WordOrderRewriter,
    rule_rewriters,
)

QUERIES = [
    "who wrote the song fly me to the moon",
    "What is George Rankin's occupation?",
    "Incidence of heart failure increased by 10% in women since 1979.",
    "Where was Lora Kreitan born ?",
    "Is it possible to see {all} boards?",
    "ß",
]


def all_rewrites(rewriter: RuleRewriter, query: str, most: int = 40) -> list[str]:
    """Rewrites of a query in the order of draws, until there are no more."""
    found: list[str] = []
    for draw in range(most):
        (text,) = rewriter.rewrite([query], draw=draw)
        if text is None:
            break
        found.append(text)
    return found


@pytest.mark.parametrize("family", RULE_FAMILIES)
def test_rewrites_depend_on_the_text_the_seed_and_the_draw_alone(family: str):
    (rewriter,), (again,) = (rule_rewriters([family], seed=3) for _ in range(2))
    for draw in (0, 1, 5):
        together = rewriter.rewrite(QUERIES, draw=draw)
        assert [again.rewrite([query], draw=draw)[0] for query in QUERIES[::-1]] == together[::-1]
    (other,) = rule_rewriters([family], seed=4)
    few = [all_rewrites(one, QUERIES[0], 3) for one in (rewriter, other)]
    assert few[0] != few[1]


def test_another_process_with_other_hashes_writes_the_same():
    code = (
        "from tilefold.invar import compose_rewrites, rule_rewriters\n"
        f"found = compose_rewrites({QUERIES[:5]!r}, rule_rewriters(seed=7), n_rewrites=7)\n"
        "print(found.texts)"
    )
    paths = os.pathsep.join(map(os.path.abspath, sys.path))
    printed = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": paths}
        child = [sys.executable, "-P", "-c", code]
        done = subprocess.run(child, env=environment, capture_output=True, text=True, check=True)
        printed.add(done.stdout)
    assert len(printed) == 1
    assert len(printed.pop()) > 35 * 20


@pytest.mark.parametrize("family", RULE_FAMILIES)
@given(query=st.text(min_size=1, max_size=60).filter(lambda text: bool(text.strip())))
def test_any_text_is_rewritten_or_left_alone(family: str, query: str):
    (rewriter,) = rule_rewriters([family])
    for text in all_rewrites(rewriter, query, 4):
        assert text.strip()
    # Once there are no more rewrites, a larger draw has none either.
    (last,) = rewriter.rewrite([query], draw=39)
    assert last is None or len(all_rewrites(rewriter, query)) == 40


# ---- typing errors -------------------------------------------------------------------------------


def test_a_typing_error_changes_one_word_by_one_letter_and_not_its_start():
    query = "which committee discusses population statistics"
    kinds = set()
    for text in all_rewrites(TypoRewriter(), query):
        changed = [
            pair for pair in zip(query.split(), text.split(), strict=True) if pair[0] != pair[1]
        ]
        assert len(changed) <= 1
        for before, after in changed:
            assert before[0] == after[0]
            assert SequenceMatcher(None, before, after).ratio() > 0.7
            swapped = len(before) == len(after) and sorted(before) == sorted(after)
            kinds.add("swap" if swapped else len(after) - len(before))
    assert kinds == {"swap", -1, 0, 1}


def test_several_words_have_errors_if_there_are_as_many():
    query = "committee of population"
    found = all_rewrites(TypoRewriter(n_typos=5), query, 20)
    changes = [
        sum(a != b for a, b in zip(query.split(), text.split(), strict=True)) for text in found
    ]
    assert max(changes) == 2
    assert all(text.split()[1] == "of" for text in found)


def test_short_words_have_no_typing_errors():
    assert TypoRewriter().rewrite(["who is it", "2024 12345", ""], draw=0) == [None, None, None]


def test_letters_without_a_key_and_capitals_have_errors_too():
    found = all_rewrites(TypoRewriter(), "ПРИВЕТ")
    assert len(set(found)) > 5
    found = all_rewrites(TypoRewriter(), "NATO")
    assert all(text == text.upper() for text in found)


# ---- templates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "rewrites"),
    [
        ("Who is the king of Spain?", {"Tell me who the king of Spain is."}),
        ("who is the king of spain", {"do you know who the king of spain is"}),
        ("what are black holes", {"could you tell me what black holes are"}),
        ("Who wrote Emma?", {"Name the person who wrote Emma.", "Who is it that wrote Emma?"}),
        ("When did it rain?", {"At what time did it rain?", "On what date did it rain?"}),
        ("where was it filmed", {"in what place was it filmed"}),
        ("How many moons has Mars?", {"What number of moons has Mars?"}),
        ("Heart failure in women", {"Search for: Heart failure in women"}),
        ("is it {q}", {"question: is it {q}"}),
    ],
)
def test_forms_of_questions_are_known(query: str, rewrites: set[str]):
    assert rewrites <= set(all_rewrites(TemplateRewriter(), query))


@pytest.mark.parametrize(
    "query",
    [
        "what is the film about",
        "what was the first town called",
        "who was married to her",
        "who did it",
        "what is going on here now",
        "Who has it?",
    ],
)
def test_verbs_do_not_move_where_that_would_be_wrong(query: str):
    found = all_rewrites(TemplateRewriter(), query)
    assert len(found) == 5
    assert all(text.endswith(query) for text in found)


def test_known_forms_come_before_templates_that_fit_all():
    found = all_rewrites(TemplateRewriter(), "Who is the king of Spain?")
    assert all("the king of Spain is" in text for text in found[:4])
    assert all(text.endswith("Who is the king of Spain?") for text in found[4:])
    assert len(set(found)) == len(found) == 9


@pytest.mark.parametrize("kind", [TemplateRewriter, RedundancyRewriter])
def test_own_templates_are_used_alone_and_as_they_are(kind: Any):
    rewriter = kind(["Q: {query}", "{query} !"])
    assert set(all_rewrites(rewriter, "who is {x}")) == {"Q: who is {x}", "who is {x} !"}


# ---- other families ------------------------------------------------------------------------------


def test_redundant_rewrites_hold_the_query_as_it_is():
    for query in QUERIES[:4]:
        found = all_rewrites(RedundancyRewriter(), query)
        assert len(set(found)) == 8
        stripped = query.rstrip("?. ")
        assert all(stripped in text and len(text) > len(query) + 20 for text in found)


def test_a_query_without_a_mark_has_one_in_the_middle_and_none_at_the_end():
    found = set(all_rewrites(RedundancyRewriter(), "who is it"))
    assert "who is it? Any help with this would be very much appreciated" in found
    assert "please help me with something that I need today: who is it" in found


@pytest.mark.parametrize(
    ("register", "query", "rewrite"),
    [
        ("formal", "What's on tv and who\u2019s there?", "What is on television and who is there?"),
        (
            "formal",
            "I'd like photos of my kids' car",
            "I would like photographs of my kids' automobile",
        ),
        ("formal", "i don't want to", "i do not want to"),
        ("casual", "Do not purchase it.", "Don't buy it."),
        ("casual", "It is for children because I am old", "It's for kids cuz I'm old"),
    ],
)
def test_words_of_another_register_replace_those_of_a_query(
    register: Any, query: str, rewrite: str
):
    first, *others = all_rewrites(FormalityRewriter([register]), query)
    assert first == rewrite
    assert len(others) >= 2


def test_parts_of_words_are_not_replaced():
    texts = all_rewrites(FormalityRewriter(), "the infoquest of applejacks' kidskin")
    assert all("the infoquest of applejacks' kidskin" in text for text in texts)
    assert texts


def test_a_query_without_such_words_is_opened_in_the_tone_of_a_register():
    found = all_rewrites(FormalityRewriter(["casual"]), "Which hen ran?")
    assert set(found) == {
        "Hey, which hen ran?",
        "So, like, which hen ran?",
        "Ok so which hen ran?",
        "Quick one, which hen ran?",
    }


def test_ambiguous_rewrites_lack_words_or_have_vaguer_ones():
    query = "When did 3 hens leave the red barn in 1979?"
    found = all_rewrites(AmbiguityRewriter(), query)
    assert "3 hens leave red barn 1979" in found
    assert "When did 3 hens leave the barn in 1979?" in found
    assert "When did 3 hens leave the red barn in some year?" in found
    assert "When did some hens leave the red barn in 1979?" in found
    assert "Around what time did 3 hens leave the red barn in 1979?" in found
    assert len(set(found)) == len(found) == 1 + 6 + 3


def test_a_query_of_one_word_has_no_ambiguous_rewrite():
    assert AmbiguityRewriter().rewrite(["hens"], draw=0) == [None]


@pytest.mark.parametrize(
    ("query", "rewrites"),
    [
        ("Who played in 8 mile?", ["In 8 mile who played?"]),
        ("what is the capital of France ?", ["the capital of France is what ?"]),
        (
            "Who is the man in the moon?",
            ["In the moon who is the man?", "The man in the moon is who?"],
        ),
        ("NASA was founded when?", []),
        ("hens", []),
    ],
)
def test_phrases_are_moved_as_a_whole(query: str, rewrites: list[str]):
    found = all_rewrites(WordOrderRewriter(["phrase"]), query)
    assert sorted(found) == sorted(rewrites)


@given(query=st.text("abc ?", min_size=1, max_size=30))
def test_a_change_of_order_keeps_every_word(query: str):
    for text in all_rewrites(WordOrderRewriter(["exchange", "shuffle"]), query):
        whole = query.strip()
        end = whole[len(whole.rstrip("? ")) :]
        assert text.endswith(end)
        words, own = (each[: len(each) - len(end)].split() for each in (text, whole))
        assert sorted(words) == sorted(own)
        assert words != own


def test_exchanges_concern_neighbours_and_come_before_shuffles():
    query = "red hens leave the old barn"
    found = all_rewrites(WordOrderRewriter(["exchange", "shuffle"]), query)
    exchanged = [
        [
            place
            for place, pair in enumerate(zip(query.split(), text.split(), strict=True))
            if pair[0] != pair[1]
        ]
        for text in found
    ]
    assert sorted(exchanged[:5]) == [[place, place + 1] for place in range(5)]
    assert all(len(places) > 2 for places in exchanged[5:])
    assert len(found) > 8


def test_no_rule_but_typing_errors_repeats_itself_or_the_query():
    for query in QUERIES[:5]:
        for rewriter in rule_rewriters(RULE_FAMILIES[1:]):
            found = all_rewrites(rewriter, query)
            assert len({wording(text) for text in [query, *found]}) == len(found) + 1


# ---- bad arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "problem"),
    [
        (lambda: TypoRewriter(n_typos=0), ValueError, "TypoRewriter: n_typos must be 1 or more"),
        (lambda: TypoRewriter(n_typos=1.5), TypeError, "TypoRewriter: n_typos must be an integer"),
        (lambda: TypoRewriter(seed=-1), ValueError, "TypoRewriter: seed must be 0 or more, got -1"),
        (lambda: AmbiguityRewriter(seed="a"), TypeError, "AmbiguityRewriter: seed must be an int"),
        (lambda: TemplateRewriter("{query}"), TypeError, "templates must be a list of strings"),
        (lambda: TemplateRewriter([3]), TypeError, "templates must be a list of strings"),
        (lambda: TemplateRewriter([]), ValueError, "TemplateRewriter: expected one or more templa"),
        (lambda: RedundancyRewriter(["{q}"]), ValueError, "RedundancyRewriter: templates have"),
        (lambda: RedundancyRewriter(["{query"]), ValueError, "RedundancyRewriter: templates have"),
        (lambda: TemplateRewriter(["{query:d}"]), ValueError, "TemplateRewriter: templates have"),
        (lambda: FormalityRewriter([]), ValueError, "registers must be a list of formal, casual"),
        (lambda: FormalityRewriter("formal"), ValueError, "registers must be a list of formal"),
        (lambda: FormalityRewriter(["posh"]), ValueError, "registers must be a list of formal"),
        (lambda: WordOrderRewriter([]), ValueError, "moves must be a list of phrase, exchange"),
        (lambda: WordOrderRewriter(["sort"]), ValueError, "moves must be a list of phrase, exch"),
        (lambda: rule_rewriters("typo"), TypeError, "families must be a list, got 'typo'"),
        (lambda: rule_rewriters([]), ValueError, "families must be different ones of typo, redun"),
        (lambda: rule_rewriters(["typos"]), ValueError, "families must be different ones of typo"),
        (lambda: rule_rewriters(["typo"] * 2), ValueError, "families must be different ones"),
        (lambda: TypoRewriter().rewrite("who", draw=0), TypeError, "queries must be a list"),
        (lambda: TypoRewriter().rewrite([1], draw=0), TypeError, r"queries[0] must be a string"),
        (lambda: TypoRewriter().rewrite(["a"], draw=-1), ValueError, "draw must be 0 or more"),
        (lambda: TypoRewriter().rewrite(["a"], draw=0.5), TypeError, "draw must be an integer"),
    ],
)
def test_bad_arguments_are_errors_that_name_them(make: Any, error: Any, problem: str):
    with pytest.raises(error, match=re.escape(problem)):
        make()
