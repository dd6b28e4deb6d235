"""Arguments of a YAML file and of a command line, and back: what was asked for, as YAML."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import HfArgumentParser

from .. import __version__
from .arguments import DataArguments, ModelArguments, RetrieverTrainingArguments

Arguments = tuple[ModelArguments, DataArguments, RetrieverTrainingArguments]


def parser() -> HfArgumentParser:
    """Of all three, for command lines."""
    kinds: Any = (ModelArguments, DataArguments, RetrieverTrainingArguments)
    return HfArgumentParser(kinds, allow_abbrev=False)


def parse(words: Sequence[str], config: str | Path | None = None) -> Arguments:
    """Arguments of a YAML file, and of a command line, which goes before.

    Args:
        words: such as ``["--learning_rate", "1e-5"]``.
        config: a YAML file with the same names; ``${NAME}`` and ``${NAME:-otherwise}`` stand for
            environment variables.

    Raises:
        ValueError: a file that is no mapping, unknown names, wrong kinds, missing arguments.
        OSError: no such file.
    """
    given = [] if config is None else _words(Path(config))
    reader = parser()
    reader.exit_on_error = False
    reader.error = _refuse  # type: ignore[method-assign,assignment]
    try:
        model, data, training = reader.parse_args_into_dataclasses(
            [*given, *words], look_for_args_file=False
        )
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    return model, data, training


def _refuse(message: str) -> None:
    raise ValueError(message)


def _words(path: Path) -> list[str]:
    """A YAML mapping as a command line."""
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: expected a mapping of names to values")
    words: list[str] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            words.append(f"--{name}={_expanded(json.dumps(value), path)}")
        elif isinstance(value, list):
            words += [f"--{name}", *(_expanded(str(item), path) for item in value)]
        elif value is not None:  # with "=", as a value may begin with "-"
            words.append(f"--{name}={_expanded(str(value), path)}")
    return words


def _expanded(value: str, path: Path) -> str:
    """With ``${NAME}`` and ``${NAME:-otherwise}`` replaced as a shell would."""

    def of(match: re.Match[str]) -> str:
        found = os.environ.get(match[1]) or match[2]
        if found is None:
            raise ValueError(f"{path}: {value} needs the environment variable {match[1]}")
        return found

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", of, value)


def resolved(words: Sequence[str], config: str | Path | None = None) -> str:
    """What `parse` was given, as YAML that gives the same again; defaults are the versions' own.

    >>> print(resolved(["--learning_rate", "1e-5", "--bf16"]).partition("\\n")[2].strip())
    learning_rate: 1e-5
    bf16: true
    """
    import yaml

    merged: dict[str, list[str]] = {}
    name = ""
    for word in [*([] if config is None else _words(Path(config))), *words]:
        if word.startswith("--"):
            name, given, value = word.removeprefix("--").partition("=")
            merged[name] = [value] if given else []
        else:
            merged[name].append(word)
    flat = {name: _flat(values) for name, values in merged.items()}
    return (
        f"# tilefold {__version__}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}\n{yaml.safe_dump(flat, sort_keys=False)}"
    )


def _flat(values: list[str]) -> bool | str | list[str]:
    if not values:
        return True
    return values[0] if len(values) == 1 else values
