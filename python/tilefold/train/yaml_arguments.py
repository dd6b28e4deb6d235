"""Parses arguments of training from a YAML file and a command line, and writes them as YAML."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import HfArgumentParser

from ..files.yaml_settings import as_yaml, read_settings
from ..version import __version__
from .arguments import RetrieverTrainingArguments
from .data_arguments import DataArguments
from .model_arguments import ModelArguments

Arguments = tuple[ModelArguments, DataArguments, RetrieverTrainingArguments]


def parser() -> HfArgumentParser:
    """Returns a parser of all three classes of arguments."""
    kinds: Any = (ModelArguments, DataArguments, RetrieverTrainingArguments)
    return HfArgumentParser(kinds, allow_abbrev=False)


def parse(words: Sequence[str], config: str | Path | None = None) -> Arguments:
    """Parses arguments of a YAML file and of a command line, which overrides the file.

    Args:
        words: such as ``["--learning_rate", "1e-5"]``.
        config: a YAML file with the same names; ``${NAME}`` and ``${NAME:-default}`` are replaced
            by environment variables.

    Returns:
        Arguments of the model, of the data and of the trainer.

    Raises:
        ValueError: a file that is no mapping, unknown names, wrong types, missing arguments.
        OSError: no such file.
    """
    from_file = [] if config is None else _words(config)
    reader = parser()
    for source, given in ((f"{config}: ", from_file), ("", words)):
        _check_known(given, reader, source)
    reader.exit_on_error = False
    reader.error = _raise  # type: ignore[method-assign,assignment]
    try:
        model, data, training, *rest = reader.parse_args_into_dataclasses(
            [*from_file, *words], look_for_args_file=False, return_remaining_strings=True
        )
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    unexpected: list[str] = rest[-1] if rest else []
    if unexpected:
        raise ValueError(f"unexpected argument {unexpected[0]}")
    return model, data, training


def _check_known(words: Sequence[str], reader: argparse.ArgumentParser, source: str) -> None:
    """Checks names of options before argparse looks for missing ones.

    Raises:
        ValueError: an unknown option, with the most similar known one. Those of the model and of
            the data come before those of the trainer, which are many.
    """
    known = [name for action in reader._actions for name in action.option_strings]
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        if option not in known:
            raise ValueError(f"{source}unknown option {option}{_did_you_mean(option, known)}")


def _did_you_mean(option: str, known: Sequence[str]) -> str:
    """Returns "; did you mean ...?", or "" where no known option is similar."""
    own = [f"--{f.name}" for kind in (ModelArguments, DataArguments) for f in fields(kind)]
    begins = {name.partition("_")[0]: name for name in reversed(own)}  # "--model" of its name
    for names in (own, begins, known):
        found = difflib.get_close_matches(option, names, n=1)
        if found:
            return f"; did you mean {begins.get(found[0], found[0])}?"
    return ""


def _raise(message: str) -> None:
    raise ValueError(message)


def _words(path: str | Path, *, expand: bool = True) -> list[str]:
    """Returns the mapping of a YAML file as words of a command line."""
    words: list[str] = []
    for name, value in read_settings(path, expand=expand).items():
        if isinstance(value, list):
            words += [f"--{name}", *value]
        else:  # with "=", as a value may begin with "-"
            words.append(f"--{name}={value}")
    return words


def resolved(words: Sequence[str], config: str | Path | None = None) -> str:
    """Returns the arguments that `parse` was given, as YAML for another run.

    Defaults are left out: they are those of the versions, which are in the first line. References
    to environment variables stay references, and a token on the command line becomes one.

    Args:
        words, config: as of `parse`.

    Example:
        >>> print(resolved(["--learning_rate", "1e-5", "--bf16"]).partition("\\n")[2].strip())
        learning_rate: 1e-5
        bf16: true
    """
    merged: dict[str, list[str]] = {}
    name = ""
    for word in [*([] if config is None else _words(config, expand=False)), *words]:
        if word.startswith("--"):
            name, equals, value = word.removeprefix("--").partition("=")
            merged[name] = [value] if equals else []
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
