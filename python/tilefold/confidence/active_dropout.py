"""Runs a model with dropout active and everything else in evaluation mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd


class _Rate(NamedTuple):
    """A probability of dropout: the attribute of a module."""

    module: nn.Module
    name: str


@contextlib.contextmanager
def active_dropout(model: nn.Module, rate: float | None = None) -> Iterator[None]:
    """Turns dropout on, that of attention included, while the block runs.

    Only modules that apply dropout are in training mode, so batch normalisation keeps its
    statistics and gradient checkpointing stays off. Afterwards, also after an exception, all
    modules have the modes and rates of before, and torch's generators their states.

    Args:
        model: any module; one of transformers may have rates as numbers, as in attention.
        rate: probability of dropping, of all places; None for their own rates.

    Raises:
        ValueError: a rate outside 0 to 1; nothing would be dropped.

    Example:
        >>> model = nn.Sequential(nn.Dropout(0.1)).eval()
        >>> with active_dropout(model, 0.9):
        ...     _ = torch.manual_seed(0)
        ...     dropped = (model(torch.ones(1000)) == 0).float().mean().item()
        >>> round(dropped, 1), model.training, model[0].p
        (0.9, False, 0.1)
    """
    if rate is not None and not 0 < rate < 1:
        raise ValueError(f"active_dropout: rate must be above 0 and below 1, got {rate}")
    rates = list(_rates(model))
    if not any(getattr(*each) for each in rates) and (rate is None or not rates):
        remedy = "pass a rate" if rates else "there is no place for it"
        raise ValueError(f"active_dropout: the model has no dropout; {remedy}")
    values = [getattr(*each) for each in rates]
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            model.eval()
            for module, name in rates:
                setattr(module, name, getattr(module, name) if rate is None else rate)
            for module in _dropping(model):
                module.training = True
            yield
        finally:
            for (module, name), value in zip(rates, values, strict=True):
                setattr(module, name, value)
            for module, mode in modes:
                module.training = mode


def _rates(model: nn.Module) -> Iterator[_Rate]:
    """Finds rates of dropout: of modules, and numbers that attention passes to functions."""
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            yield _Rate(module, "p")
        else:
            for name in _numbers(module):
                yield _Rate(module, name)


def _dropping(model: nn.Module) -> Iterator[nn.Module]:
    """Finds modules that drop; attention reads the rate of a child, and its own mode."""
    for module in model.modules():
        parts = [module, *module.children()]
        if any(isinstance(part, _DropoutNd) for part in parts) or _numbers(module):
            yield module


def _numbers(module: nn.Module) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if "dropout" in name and isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
