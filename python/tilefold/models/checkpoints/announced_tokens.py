"""Says which tokens a tokenizer's configuration announces, and the tokenizer does not add."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from .encoder_settings import read_json
from .weights import find

_FILE = "tokenizer_config.json"


def warn_of_missing_tokens(
    tokenizer: Any, *settings: Mapping[str, Any], begin: str = "pass prefix={!r}"
) -> None:
    """Warns where `add_bos_token` or `add_eos_token` of a tokenizer's configuration has no effect.

    Version 4 of transformers made the tokenizers of Llama and Gemma add both; version 5 drops them
    where there is a tokenizer.json, whose rules may be without these tokens. A model for "last"
    pooling was trained to put its summary on the end token.

    Args:
        tokenizer: loaded from a folder or hub.
        *settings: of each encoder: with append_eos, or a prefix that begins with the first token,
            nothing is missing.
        begin: how texts get the first token, for the message.

    Warns:
        UserWarning: a token that is announced and not added.
    """
    path = find(tokenizer.name_or_path, _FILE) if tokenizer.name_or_path else None
    config = {} if path is None else read_json(path)
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    begun = all(str(own.get("prefix", "")).startswith(f"{bos}") for own in settings)
    ended = all(own.get("append_eos", False) for own in settings)
    announced = [
        (flag, token, remedy)
        for flag, token, remedy, there in (
            ("add_bos_token", bos, begin.format(bos), begun),
            ("add_eos_token", eos, "pass append_eos=True", ended),
        )
        if config.get(flag) is True and token is not None and not there
    ]
    if not announced:
        return
    added = tokenizer.convert_ids_to_tokens(tokenizer("a")["input_ids"])
    for flag, token, remedy in announced:
        if (added[:1] if flag == "add_bos_token" else added[-1:]) != [token]:
            warnings.warn(
                f"{path}: {flag} is true, but transformers {_version()} adds no {token}; "
                f"{remedy} if the model was trained with it",
                stacklevel=3,
            )


def _version() -> str:
    import transformers

    return str(transformers.__version__)
