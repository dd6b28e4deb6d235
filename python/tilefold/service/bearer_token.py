"""BearerToken: the secret that clients of a service send, read from a file or the environment."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from pathlib import Path

VARIABLE = "TILEFOLD_SERVE_TOKEN"
# 16 characters are 95 bits if drawn from letters and digits; a word is no secret.
_SHORTEST, _LONGEST = 16, 1024
_FORM = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1


class BearerToken:
    """A secret; only its digest is kept.

    Args:
        secret: 16 to 1,024 characters of those that the header "Authorization: Bearer" may have.
        source: where it is from, for messages.

    Raises:
        ValueError: too short, too long, or with other characters. The message does not show it.

    Example:
        >>> token = BearerToken("0123456789abcdef", "example")
        >>> token.matches(b"Bearer 0123456789abcdef"), token.matches(b"Bearer guess")
        (True, False)
    """

    def __init__(self, secret: str, source: str) -> None:
        if not _SHORTEST <= len(secret) <= _LONGEST or not _FORM.fullmatch(secret):
            raise ValueError(
                f"serve: the token of {source} must have {_SHORTEST} to {_LONGEST} letters, digits "
                f"or ._~+/-, and has {len(secret)} characters; "
                "python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
            )
        self._digest = _digest(secret.encode())

    def matches(self, header: bytes | None) -> bool:
        """Compares the header "Authorization" of a request, in a time that tells nothing."""
        scheme, _, secret = (header or b"").strip().partition(b" ")
        same = hmac.compare_digest(_digest(secret.strip()), self._digest)
        return same and scheme.lower() == b"bearer"


def read_token(path: str | None) -> BearerToken | None:
    """Reads the token of a file, or of the environment variable TILEFOLD_SERVE_TOKEN.

    Args:
        path: of a file with one line; None for the environment.

    Returns:
        None where there is neither.

    Raises:
        OSError: the file cannot be read.
        ValueError: no token in the file, or one that is no secret.
    """
    if path is not None:
        try:
            text = Path(path).read_text(encoding="ascii")
        except UnicodeDecodeError as error:
            raise ValueError(f"serve: --token-file {path} must have ASCII text") from error
        return BearerToken(text.strip(), f"--token-file {path}")
    if VARIABLE in os.environ:
        return BearerToken(os.environ[VARIABLE].strip(), VARIABLE)
    return None


def _digest(secret: bytes) -> bytes:
    """Hashes a secret, so that comparing takes one time for all lengths."""
    return hashlib.sha256(secret).digest()
