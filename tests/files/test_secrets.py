"""Tokens: known by their form or by the name of their option, and by nothing else."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.files.secrets import redacted, referenced

LETTERS = string.ascii_letters + string.digits
# Of the published forms, with characters that no service gave out.
TOKENS = {
    "Hugging Face": "hf_" + "aB3" * 12,
    "GitHub": "ghp_" + "aB3" * 12,
    "GitHub, fine-grained": "github_pat_" + "aB3" * 27,
    "GitLab": "glpat-" + "aB3-" * 5,
    "OpenAI": "sk-proj-" + "aB3" * 16,
    "AWS": "AKIA" + "AB3D" * 4,
    "Google": "AIza" + "aB3-_" * 7,
    "Slack": "xoxb-" + "123-" * 4,
    "npm": "npm_" + "aB3" * 12,
    "PyPI": "pypi-" + "aB3" * 20,
    "JSON web token": "eyJ" + "aB3" * 5 + ".eyJ" + "aB3" * 9 + "." + "aB3" * 9,
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_tokens_are_redacted_wherever_they_stand(token):
    for text in ("{}", "login with {}.", "--hub_token={}", 'model: "{}"', "https://x/?key={}&a=1"):
        shown = redacted(text.format(token))
        assert shown == text.format("[redacted]")
        assert redacted(shown) == shown


def test_passwords_of_urls_and_bearers_are_redacted():
    assert redacted("get https://me:pa55@host/x and more") == (
        "get https://me:[redacted]@host/x and more"
    )
    assert redacted("Authorization: Bearer 0123456789abcdef") == (
        "Authorization: Bearer [redacted]"
    )


@pytest.mark.parametrize(
    "text",
    [
        "BAAI/bge-small-en-v1.5 against sentence-transformers/all-MiniLM-L6-v2",
        "hf_hub_download, sk-learn-feature-extraction-text-vectorizer, gh_x, eyJ.eyJ.a",
        "https://host:8080/path and me@host, a://b, http://[::1]:80/x@y",
        "0123456789abcdef0123456789abcdef01234567",  # a digest is no secret
        "the bearer of bad news",
        "test-environment-aeghhgwpe-pro02a",
    ],
)
def test_other_texts_stay(text):
    assert redacted(text) == text


@given(st.text(alphabet=LETTERS + " -_./:@é\n", max_size=60))
def test_redacting_twice_is_redacting_once(text):
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize("part", ["eyJ-", "sk-", "a.b+", "://", "bearer ", "a:", "hf_", "x://y:"])
def test_repetitions_that_almost_match_stay(part):
    """So many that a pattern of quadratic time would not end within a test."""
    text = part * (400_000 // len(part))
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("hub_token", "abc", "${HUB_TOKEN}"),
        ("hub-token", "abc", "${HUB_TOKEN}"),
        ("password", "abc", "${PASSWORD}"),
        ("hub_token", "${MY_TOKEN}", "${MY_TOKEN}"),
        ("hub_token", "", ""),
        ("run_name", TOKENS["GitHub"], "${RUN_NAME}"),
        ("model", f"https://me:{'x' * 8}@host/m", "${MODEL}"),
        ("mask_token", "[MASK]", "[MASK]"),
        ("include_num_input_tokens_seen", "all", "all"),
        ("learning_rate", "1e-5", "1e-5"),
    ],
)
def test_values_that_are_tokens_become_references(name, value, written):
    assert referenced(name, value) == written
