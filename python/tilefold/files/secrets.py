"""Keeps access tokens out of files, logs and reports.

A token is known by the name of its option, such as ``hub_token``, or by its form: the prefixes that
Hugging Face, GitHub, GitLab, OpenAI, AWS, Google, Slack, npm and PyPI give to theirs, a JSON web
token, the header ``Bearer``, or a password in a URL.
"""

from __future__ import annotations

import re

_HIDDEN = "[redacted]"
_NAME = re.compile(
    r"(^|_)((hub|hf|access|auth|api)_token|secret|passwd|password|api_key|access_key|credentials?)$"
    r"|^token$",
    re.IGNORECASE,
)
# Lengths are the shortest that the services give out, so that words and ids stay. Repetitions that
# can fail late have a limit, so that no text takes quadratic time.
_FORMS = (
    r"hf_[A-Za-z0-9]{30,}",
    r"gh[pousr]_[A-Za-z0-9]{36,}",
    r"github_pat_[A-Za-z0-9_]{22,}",
    r"glpat-[\w-]{20,}",
    r"sk-(?=[\w-]{0,255}[A-Z])(?=[\w-]{0,255}\d)[\w-]{32,}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}",
    r"AIza[\w-]{35}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"npm_[A-Za-z0-9]{36,}",
    r"pypi-[\w-]{50,}",
    r"eyJ[\w-]{8,1024}\.eyJ[\w-]{8,1024}\.[\w-]{8,1024}",
)
_TOKEN = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_FORMS)})")
_BEARER = re.compile(r"(?i)(\bbearer\s+)[\w.~+/-]{16,}=*")
_URL_PASSWORD = re.compile(
    r"(?i)(\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@\"'<>]{0,255}:)[^\s/@\"'<>]{1,255}(?=@)"
)


def redacted(text: str) -> str:
    """Replaces everything that looks like a token or a password.

    Args:
        text: of a log or a report.

    Example:
        >>> redacted("https://me:secret@example.org/model")
        'https://me:[redacted]@example.org/model'
        >>> redacted("nothing of the kind")
        'nothing of the kind'
    """
    text = _TOKEN.sub(_HIDDEN, text)
    text = _BEARER.sub(rf"\1{_HIDDEN}", text)
    return _URL_PASSWORD.sub(rf"\1{_HIDDEN}", text)


def referenced(name: str, value: str) -> str:
    """Replaces the value of an option that is a token by a reference to an environment variable.

    A file with the reference can be read again where that variable is set.

    Args:
        name: of the option.
        value: as it was given; a reference stays.

    Example:
        >>> referenced("hub_token", "abc"), referenced("hub_token", "${MY_TOKEN}")
        ('${HUB_TOKEN}', '${MY_TOKEN}')
        >>> referenced("learning_rate", "1e-5")
        '1e-5'
    """
    if re.fullmatch(r"\$\{\w+\}", value) or not value:
        return value
    if redacted(value) != value or _NAME.search(name.replace("-", "_")):
        return f"${{{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}}}"
    return value
