"""Arguments of a YAML file and of a command line, and back: what was asked for, as YAML."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import HfArgumentParser

from ..files.yaml_settings import as_yaml, read_settings
from ..version import __version__
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
    given = [] if config is None else _words(config)
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


def _words(path: str | Path) -> list[str]:
    """A YAML mapping as a command line."""
    words: list[str] = []
    for name, value in read_settings(path).items():
        if isinstance(value, list):
            words += [f"--{name}", *value]
        else:  # with "=", as a value may begin with "-"
            words.append(f"--{name}={value}")
    return words


def resolved(words: Sequence[str], config: str | Path | None = None) -> str:
    """What `parse` was given, as YAML that gives the same again; defaults are the versions' own.

    >>> print(resolved(["--learning_rate", "1e-5", "--bf16"]).partition("\\n")[2].strip())
    learning_rate: 1e-5
    bf16: true
    """
    merged: dict[str, list[str]] = {}
    name = ""
    for word in [*([] if config is None else _words(config)), *words]:
        if word.startswith("--"):
            name, given, value = word.removeprefix("--").partition("=")
            merged[name] = [value] if given else []
        else:
            merged[name].append(word)
    flat = {name: _flat(values) for name, values in merged.items()}
    versions = (
        f"tilefold {__version__}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}"
    )
    return as_yaml(flat, versions)


def _flat(values: list[str]) -> bool | str | list[str]:
    if values in ([], ["True"]):
        return True
    if values == ["False"]:
        return False
    return values[0] if len(values) == 1 else values
