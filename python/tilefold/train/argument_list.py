"""Lists all arguments of a training: those of tilefold under headings, then transformers' own."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from typing import Any

from transformers import HfArgumentParser

from .arguments import RetrieverTrainingArguments
from .data_arguments import DataArguments
from .model_arguments import ModelArguments
from .objective_arguments import ObjectiveArguments
from .policy_arguments import PolicyArguments
from .refresh_arguments import RefreshArguments


def _names(kind: Any) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]


_SECTIONS: dict[str, list[str]] = {
    "model": _names(ModelArguments),
    "data": _names(DataArguments),
    "recipe, output and memory": [*inspect.get_annotations(RetrieverTrainingArguments)],
    "passages and views of a step": _names(PolicyArguments),
    "loss": _names(ObjectiveArguments),
    "refresh of the hard negatives": _names(RefreshArguments),
}
_OTHERS = "of transformers.TrainingArguments"


def argument_list(parser: HfArgumentParser, command: str) -> str:
    """Returns the help of every argument.

    Args:
        parser: of all three classes of arguments.
        command: as it is typed, such as "tilefold train".
    """
    sections: dict[str, list[argparse.Action]] = {name: [] for name in (*_SECTIONS, _OTHERS)}
    for action in parser._actions:
        if action.dest != "help":
            sections[_section(action.dest)].append(action)
    formatter = _Formatter(command)
    formatter.add_usage("%(prog)s [--config FILE] [--NAME VALUE ...]", [], [])
    formatter.add_text("Each argument may also be in the file, by its name without dashes.")
    for name, actions in sections.items():
        formatter.start_section(name)
        formatter.add_arguments(actions)
        formatter.end_section()
    return formatter.format_help()


def _section(name: str) -> str:
    return next((section for section, names in _SECTIONS.items() if name in names), _OTHERS)


class _Formatter(argparse.HelpFormatter):
    """Shows an argument by its first name, and the default where there is one."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        name = action.option_strings[0]
        values: dict[Any, str] = {0: "", "?": " [True]", "+": " VALUE ..."}
        return name + values.get(action.nargs, " VALUE")

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.nargs == 0:
            return f"--{action.dest} False"
        text = action.help or ""
        if action.choices is not None:
            text += f" ({', '.join(map(str, action.choices))})"
        if action.required:
            return f"{text} (required)"
        if action.default in (None, "", [], argparse.SUPPRESS):
            return text
        several = isinstance(action.default, list)
        return f"{text} (default: {' '.join(action.default) if several else '%(default)s'})"
