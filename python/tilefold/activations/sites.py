"""Places in a model: outputs or inputs of its modules, by the model's own dotted names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

_INPUT = ":input"


class Site(NamedTuple):
    """Where activations are: what a module returns, or what it is given first."""

    name: str
    module: nn.Module
    of_input: bool


def find_sites(model: nn.Module, patterns: str | Sequence[str], op: str) -> list[Site]:
    """The sites that patterns name, in the order of the model.

    Args:
        model: any module.
        patterns: dotted names as in ``model.named_modules()``; ``*`` stands for one part of a name,
            as in ``encoder.layer.*.intermediate``. The output of the module is meant, the first of
            several; with ``:input`` after the name, its first input.
        op: for messages.

    Raises:
        ValueError: a pattern that fits no module: names like it are listed.
        TypeError: `torch.nn.DataParallel`, whose replicas live for one call.
    """
    if isinstance(model, nn.DataParallel):
        raise TypeError(
            f"{op}: model is a DataParallel, whose replicas live for one call; pass model.module"
        )
    modules = {_plain(name): module for name, module in model.named_modules() if name}
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    if not wanted:
        raise ValueError(f"{op}: sites must name at least one module, got none")
    order = {name: place for place, name in enumerate(modules)}
    found: dict[str, Site] = {}
    for pattern in wanted:
        name, of_input = pattern.removesuffix(_INPUT), pattern.endswith(_INPUT)
        shape = re.compile(r"[^.]+".join(re.escape(part) for part in name.split("*")))
        names = [known for known in modules if shape.fullmatch(known)]
        if not names:
            raise ValueError(f"{op}: the model has no module {name!r}{_near(name, modules)}")
        for known in names:
            full = known + (_INPUT if of_input else "")
            found[full] = Site(full, modules[known], of_input)
    return sorted(found.values(), key=lambda site: order[site.name.removesuffix(_INPUT)])


def first_tensor(value: object, site: str, op: str) -> Tensor:
    """The tensor itself, or the first of a tuple of them.

    Raises:
        TypeError: neither.
    """
    first = value
    if isinstance(value, Mapping):  # outputs of transformers
        first = next(iter(value.values()), None)
    elif isinstance(value, tuple | list) and value:
        first = value[0]
    if not isinstance(first, Tensor):
        raise TypeError(f"{op}: {site} gives no tensor but {type(first).__name__}")
    return first


def _plain(name: str) -> str:
    """Without what `torch.compile` puts into it."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _near(name: str, modules: dict[str, nn.Module]) -> str:
    """Names like it, layers of one kind once."""
    kinds = list(dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", known) for known in modules))
    like = difflib.get_close_matches(re.sub(r"\.\d+(?=\.|$)", ".*", name), kinds, n=4, cutoff=0.4)
    like = like or kinds[:4]
    return f"; there are {', '.join(like)}" if like else "; it has no modules inside"
