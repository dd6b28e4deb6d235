"""Replaces activations with `patch`, by hooks inside a block that run before all others."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .sites import Site, add_hook, find_sites, first_tensor

# Edits of the outputs (False) and inputs (True) of modules, in the order of their start, and the
# hook that applies them.
_edits: weakref.WeakKeyDictionary[nn.Module, dict[bool, tuple[list[Callable[[Any], Any]], Any]]] = (
    weakref.WeakKeyDictionary()
)


@contextlib.contextmanager
def patch(model: nn.Module, edits: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[nn.Module]:
    """Replaces activations inside the block; the model itself is not changed.

    All that reads activations sees the replacement, in whichever order the two were started: a
    `capture`, hooks of other libraries, and the hidden states and attentions that transformers
    returns (it records them by hooks, which stay on a model that was ever asked for them).

    Args:
        model: any module.
        edits: from names of sites, as in `capture`, to functions that map the activations of the
            site to their replacement, a tensor of the same shape. A function must not modify its
            argument in place.

    Yields:
        The model.

    Raises:
        ValueError: no such module, a replacement of another shape.
        TypeError: `torch.nn.DataParallel`, edits that are no mapping to functions, a function that
            does not return a tensor.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 2)
        >>> both = torch.nn.Sequential(model, torch.nn.ReLU())
        >>> with patch(both, {"0": torch.zeros_like}):
        ...     both(torch.ones(1, 2))
        tensor([[0., 0.]])
    """
    _check_edits(edits)
    is_open = [True]  # cleared first, so that an interrupt later leaves hooks without an effect
    with contextlib.ExitStack() as stack:
        try:
            for pattern, edit in edits.items():
                for site in find_sites(model, pattern, "patch"):
                    stack.enter_context(_edits_first(site, _edited(site.name, edit, is_open)))
            yield model
        finally:
            is_open.clear()


def _check_edits(edits: Any) -> None:
    if not isinstance(edits, Mapping):
        raise TypeError(
            f"patch: edits must map names of sites to functions, got {type(edits).__name__}"
        )
    for pattern, edit in edits.items():
        if not callable(edit):
            raise TypeError(
                f"patch: the edit of {pattern} must be a function of its activations, got "
                f"{type(edit).__name__}"
            )


@contextlib.contextmanager
def _edits_first(site: Site, edit: Callable[[Any], Any]) -> Iterator[None]:
    """Applies an edit before other hooks see the activations, and after edits that run already."""
    chains = _edits.setdefault(site.module, {})
    if site.is_input not in chains:
        started: list[Callable[[Any], Any]] = []
        chains[site.is_input] = started, add_hook(site, _all_of(started), first=True)
    edits, hook = chains[site.is_input]
    edits.append(edit)
    try:
        yield
    finally:
        edits.remove(edit)
        if not edits:
            hook.remove()
            del chains[site.is_input]


def _all_of(edits: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def replace(value: Any) -> Any:
        for edit in edits:
            value = edit(value)
        return value

    return replace


def _edited(
    name: str, edit: Callable[[Tensor], Tensor], is_open: list[bool]
) -> Callable[[Any], Any]:
    def replace(value: Any) -> Any:
        if not is_open:
            return value
        if isinstance(value, Mapping):
            kind = type(value).__name__
            raise TypeError(f"patch: {name} gives a {kind}; name a module that gives a tensor")
        before = first_tensor(value, name, "patch")
        after = edit(before)
        if not isinstance(after, Tensor):
            raise TypeError(
                f"patch: the edit of {name} must return a tensor, got {type(after).__name__}"
            )
        if after.shape != before.shape:
            raise ValueError(
                f"patch: the edit of {name} must keep the shape {tuple(before.shape)}, got "
                f"{tuple(after.shape)}"
            )
        return after if value is before else type(value)([after, *value[1:]])

    return replace
