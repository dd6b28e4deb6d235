"""Finds sites of activations in a model: outputs or inputs of its modules, by dotted names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

_INPUT = ":input"


class Site(NamedTuple):
    """A place of activations: the output of a module, or its first input."""

    name: str
    module: nn.Module
    is_input: bool


def find_sites(model: nn.Module, patterns: str | Sequence[str], op: str) -> list[Site]:
    """Finds the sites that patterns name, in the order of the model.

    Args:
        model: any module.
        patterns: dotted names as in ``model.named_modules()``; ``*`` stands for one part of a name,
            as in ``encoder.layer.*.intermediate``. A name stands for the output of the module, the
            first of several; with ``:input`` after the name, for its first input.
        op: the public function, for messages.

    Raises:
        ValueError: a pattern that matches no module; similar names are listed.
        TypeError: no module, or `torch.nn.DataParallel`, whose replicas live for one call; sites
            that are no names.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        >>> [site.name for site in find_sites(model, ["1", "0:input"], "capture")]
        ['0:input', '1']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"{op}: model must be a torch module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        raise TypeError(
            f"{op}: model is a DataParallel, whose replicas live for one call; pass model.module"
        )
    modules = {_plain(name): module for name, module in model.named_modules() if name}
    given: Any = [patterns] if isinstance(patterns, str) else patterns
    wanted = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(name, str) for name in wanted):
        raise TypeError(f"{op}: sites must be a name or a list of names, got {patterns!r}")
    if not wanted:
        raise ValueError(f"{op}: sites must name at least one module, got none")
    order = {name: place for place, name in enumerate(modules)}
    found: dict[str, Site] = {}
    for pattern in wanted:
        name, is_input = pattern.removesuffix(_INPUT), pattern.endswith(_INPUT)
        shape = re.compile(r"[^.]+".join(re.escape(part) for part in name.split("*")))
        names = [known for known in modules if shape.fullmatch(known)]
        if not names:
            raise ValueError(f"{op}: the model has no module {name!r}{_near(name, modules)}")
        for known in names:
            full = known + (_INPUT if is_input else "")
            found[full] = Site(full, modules[known], is_input)
    return sorted(found.values(), key=lambda site: order[site.name.removesuffix(_INPUT)])


def add_hook(site: Site, act: Callable[[Any], Any], *, first: bool = False) -> Any:
    """Registers a hook that calls `act` with the output, or the arguments, of a module.

    Args:
        site: of `find_sites`.
        act: its result replaces them, if it is not None.
        first: whether it runs before other hooks.

    Returns:
        A handle with `remove`.
    """
    if site.is_input:
        return site.module.register_forward_pre_hook(lambda _, args: act(args), prepend=first)
    return site.module.register_forward_hook(lambda _, args, output: act(output), prepend=first)


def first_tensor(value: object, site: str, op: str) -> Tensor:
    """Returns the tensor itself, or the first of a tuple, a list or a mapping of tensors.

    Raises:
        TypeError: the value, or its first element, is not a tensor.
    """
    first = value
    if isinstance(value, Mapping):  # outputs of transformers
        first = next(iter(value.values()), None)
    elif isinstance(value, (tuple, list)) and value:
        first = value[0]
    if not isinstance(first, Tensor):
        raise TypeError(f"{op}: {site} gives no tensor but {type(first).__name__}")
    return first


def _plain(name: str) -> str:
    """Removes the parts that `torch.compile` inserts into a name."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _near(name: str, modules: dict[str, nn.Module]) -> str:
    """Describes similar names; layers that differ in their number alone appear once."""
    kinds = list(dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", known) for known in modules))
    like = difflib.get_close_matches(re.sub(r"\.\d+(?=\.|$)", ".*", name), kinds, n=4, cutoff=0.4)
    like = like or kinds[:4]
    return f"; there are {', '.join(like)}" if like else "; it has no modules inside"
