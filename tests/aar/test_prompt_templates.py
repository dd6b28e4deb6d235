"""The prompts of AAR, character by character, and what is refused."""

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")

from tilefold.aar import prompt_templates as prompts


def test_the_source_prompt_is_that_of_promptsource():
    found = prompts.source_prompts(["who wrote {Emma}?"])
    assert found == ["Answer the following question.\nwho wrote {Emma}?"]


def test_the_mmlu_prompt_is_that_of_promptsource_with_a_blank_between_options():
    found = prompts.mmlu_prompts(["Is it {0}?"], [["yes", "no ", "{x}", "never "]])
    # As jinja2 renders "...answer?\n{% for ... %}\n- {{letter}}: {{t}}\n {% endfor %}", stripped.
    lines = ["", "", "- A: yes", " ", "- B: no ", " ", "- C: {x}", " ", "- D: never"]
    expected = "Here's a problem to solve: Is it {0}?\n\n"
    expected += "Among the 4 following options, which is the correct answer?"
    assert found == [expected + "\n".join(lines)]


def test_jinja2_renders_the_same_prompt():
    jinja2 = pytest.importorskip("jinja2", reason="jinja2 is not installed")
    body = "{% for letter, t in options %}\n- {{letter}}: {{t}}\n {% endfor %}"
    head = "Here's a problem to solve: {{question}}\n\nAmong the 4 following options, which is the "
    template = jinja2.Environment().from_string(f"{head}correct answer?\n{body}")
    options = ["Paris", "Rome\n", "<b>&amp;</b>", "a: b"]
    rendered = template.render(question="where?", options=list(zip("ABCD", options, strict=True)))
    assert prompts.mmlu_prompts(["where?"], [options]) == [rendered.strip()]


def test_a_passage_is_cut_at_500_characters_and_directly_before_the_prompt():
    found = prompts.fused_prompts(["Q: who? A:"], [["x" * 499 + "yz", "short"]])
    assert found == [["x" * 499 + "y" + "Q: who? A:", "shortQ: who? A:"]]


def test_a_closed_book_is_the_prompt_alone():
    assert prompts.fused_prompts(["a", "b"], [[], ["p"]]) == [["a"], ["pb"]]


def test_passages_stay_whole_without_a_limit():
    assert prompts.fused_prompts(["?"], [["x" * 900]], None) == [["x" * 900 + "?"]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: prompts.source_prompts(["a"], "{query}"), "fields"),
        (lambda: prompts.mmlu_prompts(["a"], []), "0 lists and 1 questions"),
        (lambda: prompts.mmlu_prompts(["a"], [[]]), "1 to 26 options, got 0"),
        (lambda: prompts.mmlu_prompts(["a"], [["x"] * 27]), "got 27"),
        (lambda: prompts.fused_prompts(["a"], []), "0 lists and 1 prompts"),
        (lambda: prompts.fused_prompts(["a"], [["p"]], 0), "at least 1, got 0"),
        (lambda: prompts.fused_prompts(["a"], [[]], 5, "{text}"), "fields"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
