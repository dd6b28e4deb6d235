"""Says which tokens a tokenizer's configuration announces, and the tokenizer does not add."""

from __future__ import annotations

import warnings
from typing import Any

from .encoder_settings import read_json
from .weights import find

_FILE = "tokenizer_config.json"


def warn_of_missing_tokens(tokenizer: Any, *, append_eos: bool) -> None:
    """Warns where `add_bos_token` or `add_eos_token` of a tokenizer's configuration has no effect.

    Before version 5, transformers built the tokenizer from both; now it ignores them where there is
    a tokenizer.json, whose rules may be without these tokens. A model for "last" pooling was
    trained to put its summary on the end token.

    Args:
        tokenizer: loaded from a folder or hub.
        append_eos: whether the encoder adds the end token.

    Warns:
        UserWarning: a token that is announced and not added.
    """
    path = find(tokenizer.name_or_path, _FILE)
    config = {} if path is None else read_json(path)
    announced = [
        (flag, token, remedy)
        for flag, token, remedy in (
            ("add_bos_token", tokenizer.bos_token, f"prefix={tokenizer.bos_token!r}"),
            ("add_eos_token", tokenizer.eos_token, "append_eos=True"),
        )
        if config.get(flag) is True and token is not None
    ]
    if not announced:
        return
    added = tokenizer.convert_ids_to_tokens(tokenizer("a")["input_ids"])
    for flag, token, remedy in announced:
        place = added[:1] if flag == "add_bos_token" else added[-1:]
        if place != [token] and not (append_eos and flag == "add_eos_token"):
            warnings.warn(
                f"{path}: {flag} is true, but transformers {_version()} adds no {token}; pass "
                f"{remedy} if the model was trained with it",
                stacklevel=2,
            )


def _version() -> str:
    import transformers

    return str(transformers.__version__)
