"""Rewrites kept on disk: the same as composed ones, never those of other inputs, resumable."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tilefold.files.done_once import WrongChecksumError
from tilefold.invar import (
    FormalityRewriter,
    LMRewriter,
    RuleRewriter,
    TypoRewriter,
    WordOrderRewriter,
    compose_rewrites,
    kept_rewrites,
    rule_rewriters,
)
from tilefold.invar.interventions import rewrite_store

QUERIES = ["Who wrote the song Fly Me to the Moon?", "where is the red barn", "Heart failure."]


class Model:
    """Writes the prompt in capitals; counts its calls and fails at one of them."""

    def __init__(self, name: str = "one", fails_at: int | None = None) -> None:
        self.name = name
        self.prompts: list[str] = []
        self.fails_at = fails_at

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
        """The continuations."""
        if len(self.prompts) == self.fails_at:
            raise KeyboardInterrupt
        self.prompts += prompts
        return [f"{self.name} {prompt}" for prompt in prompts]

    def fingerprint(self) -> str:
        """A digest."""
        return self.name


def test_kept_rewrites_are_those_of_a_composition_with_all_counts(tmp_path: Path):
    queries = [*QUERIES, "\u00fc \U0001f600"]
    rewriters = rule_rewriters(["typo", "template"])
    composed = compose_rewrites(queries, rewriters, n_rewrites=5)
    for _ in range(2):
        assert kept_rewrites(queries, rewriters, n_rewrites=5, folder=tmp_path) == composed
    assert composed.repeated.total() + composed.equal_to_query.total() > 0
    assert len(list(tmp_path.iterdir())) == 1


def test_the_warning_of_short_queries_comes_again_and_names_the_caller(tmp_path: Path):
    for _ in range(2):
        with pytest.warns(UserWarning, match="kept_rewrites: 1 of 1 queries have") as caught:
            kept_rewrites(["why"], [TypoRewriter()], n_rewrites=2, folder=tmp_path)
        assert caught[0].filename == __file__


def test_nothing_is_written_twice_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(rewrite_store, "_QUERIES", 2)
    options = {"n_rewrites": 1, "folder": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        kept_rewrites(QUERIES, [LMRewriter(Model(fails_at=2), "own", ["{query}"])], **options)
    resumed = Model()
    found = kept_rewrites(QUERIES, [LMRewriter(resumed, "own", ["{query}"])], **options)
    assert resumed.prompts == QUERIES[2:]
    assert found.texts == [[f"one {query}"] for query in QUERIES]
    assert found.families == [["own"]] * 3
    again = Model()
    assert kept_rewrites(QUERIES, [LMRewriter(again, "own", ["{query}"])], **options) == found
    assert again.prompts == []


@pytest.mark.parametrize(
    ("name", "prompts", "tokens", "n", "query"),
    [
        ("two", ["{query}"], 8, 1, "q"),
        ("one", ["{query}?"], 8, 1, "q"),
        ("one", ["{query}"], 9, 1, "q"),
        ("one", ["{query}"], 8, 2, "q"),
        ("one", ["{query}"], 8, 1, "Q"),
    ],
)
def test_whatever_rewrites_depend_on_writes_them_anew(
    tmp_path: Path, name: str, prompts: list[str], tokens: int, n: int, query: str
):
    first, other = Model(), Model(name)
    before = LMRewriter(first, "own", ["{query}"], max_new_tokens=8)
    kept_rewrites(["q"], [before], n_rewrites=1, folder=tmp_path)
    after = LMRewriter(other, "own", prompts, max_new_tokens=tokens)
    options = {"n_rewrites": n, "folder": tmp_path}
    if n > 1:
        with pytest.warns(UserWarning, match="fewer than 2"):
            kept_rewrites([query], [after], **options)
    else:
        kept_rewrites([query], [after], **options)
    assert other.prompts


def test_fingerprints_of_rules_tell_options_apart():
    rewriters: list[RuleRewriter] = [
        *rule_rewriters(seed=0),
        *rule_rewriters(seed=1),
        TypoRewriter(n_typos=2),
        FormalityRewriter(["formal"]),
        WordOrderRewriter(["shuffle"]),
    ]
    digests = [rewriter.fingerprint() for rewriter in rewriters]
    assert len(set(digests)) == len(digests)
    assert digests[: len(rule_rewriters())] == [each.fingerprint() for each in rule_rewriters()]


def test_a_changed_file_is_an_error(tmp_path: Path):
    kept_rewrites(QUERIES, rule_rewriters(), n_rewrites=3, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    place = content.index(b"Moon")
    content[place : place + 4] = b"Sun."
    path.write_bytes(content)
    with pytest.raises(WrongChecksumError):
        kept_rewrites(QUERIES, rule_rewriters(), n_rewrites=3, folder=tmp_path)


def test_a_rewriter_without_fingerprint_is_refused(tmp_path: Path):
    class Nameless:
        def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
            raise AssertionError

    rewriter = LMRewriter(Nameless(), "own", ["{query}"])
    with pytest.raises(TypeError, match="expected a model with a method fingerprint, got Nameless"):
        kept_rewrites(["q"], [rewriter], n_rewrites=1, folder=tmp_path)

    class Plain:
        family = "plain"

        def rewrite(self, queries: Sequence[str], *, draw: int) -> list[str | None]:
            raise AssertionError

    with pytest.raises(TypeError, match="rewriters with a method fingerprint, got Plain of the"):
        kept_rewrites(["q"], [Plain()], n_rewrites=1, folder=tmp_path)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="kept_rewrites: n_rewrites must be 1 or more"):
        kept_rewrites(["q"], rule_rewriters(), n_rewrites=0, folder=tmp_path)
