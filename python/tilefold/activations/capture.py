"""Reads activations with `capture`, by hooks inside a block."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..devices import check_device
from .activation_statistics import STATISTICS_DTYPES, ActivationStatistics, check_options
from .pooling import cls_pool, last_pool, max_pool, mean_pool
from .row_store import RowStore
from .sites import Site, add_hook, find_sites, first_tensor

Rows = Literal["cls", "mean", "last", "max"]
_POOLINGS = {"cls": cls_pool, "mean": mean_pool, "last": last_pool, "max": max_pool}
# The capture that reads each module, or has read it. An open one alone counts, so that nothing
# depends on an entry that an interrupt kept from being removed.
_captures: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Capture]] = weakref.WeakKeyDictionary()


def capture(
    model: nn.Module,
    sites: str | Sequence[str],
    *,
    statistics: bool = True,
    thresholds: Sequence[float] = (),
    top: int = 0,
    histogram: bool = False,
    second_moment: bool = False,
    rows: Rows | None = None,
    store: RowStore | None = None,
) -> Capture:
    """Accumulates statistics of a model's activations while it runs, without storing activations.

    The outputs of the model have the same bits as without. Tokens that the ``attention_mask`` of a
    call excludes are not counted. Under `torch.compile` model and capture are one graph
    (``fullgraph=True``), if the model is compiled, or first called, inside of the block.

    Args:
        model: a model of transformers, or a module that contains one. For other modules, and where
            no ``attention_mask`` is passed, all tokens count. A layer that several blocks share, as
            in ALBERT, counts each time that it runs.
        sites: dotted names of modules, as in ``model.named_modules()``; ``*`` stands for one part,
            as in ``encoder.layer.*.intermediate``. Their output is read (the first of several), or
            with ``:input`` after the name their first input.
        statistics: accumulate statistics; False where only `rows` are needed.
        thresholds, top, histogram, second_moment: statistics beside moments and extremes, as in
            `ActivationStatistics`.
        rows: "cls", "mean", "last" or "max": the pooling over tokens by which `store` gets one row
            per text and site; activations without a dimension of tokens are stored unpooled.
        store: the store of rows; required with `rows`, and allowed only then.

    Returns:
        A context manager, inside and after which it is a mapping of names of sites to
        `ActivationStatistics`. Texts are numbered from 0 in the order of calls.

    Raises:
        ValueError: no such module (similar names are listed), options that exclude each other; at a
            call of the model, activations that are not on the CPU, a text whose mask is 0
            everywhere, or a layer that several blocks share, with `top` or `rows`.
        TypeError: `torch.nn.DataParallel`, options of the wrong kind; at a call of the model,
            activations that are no tensors of float32, bfloat16 or float16.
        RuntimeError: a site that an enclosing block captures already.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
        >>> with capture(model, "1", thresholds=[0.0]) as seen:
        ...     _ = model(torch.ones(2, 5, 4))
        >>> seen["1"].count, seen["1"].mean.shape
        (10, torch.Size([3]))
    """
    if (rows is None) != (store is None):
        raise ValueError("capture: rows and store go together")
    if store is not None and not isinstance(store, RowStore):
        raise TypeError(f"capture: store must be a RowStore, got {type(store).__name__}")
    if rows is not None and rows not in _POOLINGS:
        raise ValueError(f"capture: rows must be one of {', '.join(_POOLINGS)}, got {rows!r}")
    found = find_sites(model, sites, "capture")
    options: dict[str, Any] = {
        "thresholds": thresholds,
        "top": top,
        "histogram": histogram,
        "second_moment": second_moment,
    }
    if not statistics and (any(options.values()) or rows is None):
        raise ValueError("capture: without statistics there are rows, and no options of statistics")
    check_options("capture", **options)
    return Capture(model, found, options if statistics else None, rows, store)


class Capture(Mapping[str, ActivationStatistics]):
    """Statistics by name of site; the context manager that `capture` returns."""

    def __init__(
        self,
        model: nn.Module,
        sites: list[Site],
        options: dict[str, Any] | None,
        rows: Rows | None,
        store: RowStore | None,
    ) -> None:
        self._entry: tuple[nn.Module, list[Site]] | None = (model, sites)
        self._names = [site.name for site in sites]
        self._options = options
        self._pool = None if rows is None else _POOLINGS[rows]
        self._store = store
        self._per_text = store is not None or bool(options and options["top"])
        self._statistics: dict[str, ActivationStatistics] = {}
        self._hooks: list[Any] = []
        self._open = False  # hooks do nothing before and after the block
        self._mask: Tensor | None = None
        self._ran: set[str] | None = None  # sites of the call of the model that is running

    def __getitem__(self, site: str) -> ActivationStatistics:
        if site in self._statistics:
            return self._statistics[site]
        if site not in self._names:
            raise KeyError(f"capture: {site!r} is none of the sites {', '.join(self._names)}")
        if self._options is None:
            raise KeyError(f"capture: {site} has no statistics, because of statistics=False")
        raise KeyError(
            f"capture: {site} has not run inside of the block (hooks are not seen by a model that "
            "was compiled before)"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._statistics)

    def __len__(self) -> int:
        return len(self._statistics)

    def __enter__(self) -> Capture:
        if self._entry is None:
            raise RuntimeError("capture: this one has been used; call capture() again")
        (model, sites), self._entry = self._entry, None  # does not keep the model alive
        twice = next((site.name for site in sites if _is_captured(site.module)), None)
        if twice is not None:
            raise RuntimeError(f"capture: {twice} is captured already, by a block around this one")
        try:
            self._open = True
            for site in sites:
                _captures[site.module] = weakref.ref(self)
            for masked in _masked_modules(model):
                note = self._note_mask(masked)
                self._hooks.append(masked.register_forward_pre_hook(note, with_kwargs=True))
                self._hooks.append(masked.register_forward_hook(self._end))
            for site in sites:
                self._hooks.append(add_hook(site, self._fold(site.name)))
        except BaseException:  # Ctrl-C, too
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False  # first, so that an interrupt below leaves hooks without an effect
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._mask = None

    def _note_mask(self, module: nn.Module) -> Callable[..., None]:
        place = list(inspect.signature(module.forward).parameters).index("attention_mask")

        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not self._open:
                return
            mask = args[place] if place < len(args) else kwargs.get("attention_mask")
            if mask is not None and not torch.compiler.is_compiling():
                empty = ~mask.bool().any(-1)
                if empty.any():
                    raise ValueError(
                        f"capture: text {int(empty.int().argmax())} of the batch has no token that "
                        "counts: its attention_mask is 0 everywhere"
                    )
            self._mask = mask
            self._ran = set()

        return note

    def _end(self, *_: Any) -> None:
        self._ran = None

    def _check_first_run(self, name: str) -> None:
        """Refuses a second run for the same texts where results are one for each text."""
        if self._ran is not None:
            if name in self._ran:
                raise ValueError(
                    f"capture: {name} runs several times for a text, as layers that blocks share "
                    "do; `top` and `rows` need one run"
                )
            self._ran.add(name)

    def _fold(self, name: str) -> Callable[[Any], None]:
        def fold(value: Any) -> None:
            if not self._open:
                return
            x = first_tensor(value, name, "capture").detach()
            check_device("capture", f"activations of {name}", x.device, "statistics")
            if self._options is not None and x.dtype not in STATISTICS_DTYPES:
                raise TypeError(
                    f"capture: activations of {name} must be float32, bfloat16 or float16, got "
                    f"{x.dtype}"
                )
            if self._per_text:
                self._check_first_run(name)
            mask = self._mask
            if mask is not None and x.shape[:-1] == (mask.numel(),) != mask.shape[:1]:
                x = x.reshape(
                    *mask.shape, x.shape[-1]
                )  # flattened over texts and tokens, as in OPT
            if mask is not None and x.shape[:-1] == mask.shape[:1]:
                mask = None  # one row per text, such as the output of a pooler
            if mask is not None and mask.shape != x.shape[:-1]:
                raise ValueError(
                    f"capture: activations of {name} have shape {tuple(x.shape)}, which an "
                    f"attention_mask of {tuple(mask.shape)} does not fit"
                )
            if self._options is not None:
                if name not in self._statistics:
                    self._statistics[name] = ActivationStatistics(x.shape[-1], **self._options)
                self._statistics[name].update(x, mask)
            if self._pool is not None and self._store is not None:
                everything = x.new_ones(x.shape[:-1], dtype=torch.int64) if mask is None else mask
                self._store.append(name, x if x.ndim == 2 else self._pool(x, everything))

        return fold


def _is_captured(module: nn.Module) -> bool:
    capture_of = _captures.get(module)
    found = None if capture_of is None else capture_of()
    return found is not None and found._open


def _masked_modules(model: nn.Module) -> list[nn.Module]:
    """Finds the modules whose forward takes texts and their mask."""
    takes = {"input_ids", "attention_mask"}
    return [m for m in model.modules() if takes <= set(inspect.signature(m.forward).parameters)]
