"""Ops are implemented for some devices; tensors on others are refused in one place."""

from typing import Any

import numpy as np
import pytest
import torch

import tilefold
from tilefold import _native
from tilefold.activations import ActivationStatistics, capture
from tilefold.devices import IMPLEMENTATIONS, check_device
from tilefold.losses import alignment_loss, contrastive_loss, invariance_loss
from tilefold.torch_ops.dispatch import host_array, library, native_array, native_rows, register

Q, D = torch.ones(3, 4), torch.ones(5, 4)
TORCH_OPS = {"contrastive", "divergence", "statistics", "examples", "second_moment"}


def capture_on(x: torch.Tensor) -> None:
    model = torch.nn.Sequential(torch.nn.Identity())
    with capture(model, "0"):
        model(x)


def test_the_table_has_every_op():
    assert set(IMPLEMENTATIONS) == TORCH_OPS | {"search"}
    kernels = {"cpu", "cuda"} if _native.CUDA == "compiled" else {"cpu"}
    for op, devices in IMPLEMENTATIONS.items():
        assert set(devices) == ({"cpu"} if op == "search" else kernels)


@pytest.mark.parametrize(
    ("call", "function", "argument", "op"),
    [
        (lambda q, d: tilefold.search(q, D, 2), "search", "queries", "search"),
        (lambda q, d: tilefold.search(Q, d, 2), "search", "documents", "search"),
        (lambda q, d: tilefold.FlatIndex(4).add(d), "FlatIndex.add", "vectors", "search"),
        (
            lambda q, d: contrastive_loss(q, D, torch.arange(3)),
            "contrastive_loss",
            "queries",
            "contrastive",
        ),
        (
            lambda q, d: contrastive_loss(Q, D, torch.arange(3), gates=(Q, d)),
            "contrastive_loss",
            "documents of gates",
            "contrastive",
        ),
        (
            lambda q, d: alignment_loss((Q, D), (Q, d)),
            "alignment_loss",
            "documents of the teacher",
            "divergence",
        ),
        (
            lambda q, d: invariance_loss(torch.stack([Q, Q]), d),
            "invariance_loss",
            "documents",
            "divergence",
        ),
        (
            lambda q, d: ActivationStatistics(4).update(q),
            "ActivationStatistics",
            "x",
            "statistics",
        ),
        (lambda q, d: capture_on(q), "capture", "activations of 0", "statistics"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_device_without_an_implementation_is_refused_by_name(call, function, argument, op):
    message = (
        f"^{function}: {argument} must be on cpu, got meta; this build implements {op} for no other"
        " device: a tensor on meta has a shape but no values; load it first$"
    )
    with pytest.raises(ValueError, match=message):
        call(Q.to("meta"), D.to("meta"))


class Elsewhere:
    """An array of another library, in the memory of a device."""

    def __init__(self, device: tuple[int, int]) -> None:
        self.array, self.place = np.ones((5, 4), np.float32), device

    def __dlpack__(self, **_: Any) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place


@pytest.mark.parametrize(
    ("device", "shown"), [((2, 1), "cuda:1"), ((14, 0), "xpu"), ((7, 0), "DLPack device 7")]
)
def test_devices_of_dlpack_are_named_like_those_of_torch(device, shown):
    with pytest.raises(ValueError, match=f"documents must be on .*, got {shown};"):
        tilefold.search(Q, Elsewhere(device), 2)


def test_pinned_memory_of_the_host_is_searched():
    found = tilefold.search(Q.numpy(), Elsewhere((3, 0)), 2)
    assert found.ids.tolist() == [[0, 1]] * 3


def test_the_devices_of_an_op_are_listed_with_a_way_out(monkeypatch):
    monkeypatch.setitem(IMPLEMENTATIONS["search"], "cuda", print)
    check_device("f", "x", "cuda:3", "search")
    with pytest.raises(ValueError, match=r"^f: x must be on cpu or cuda, got xpu:0; .*: buy one$"):
        check_device("f", "x", torch.device("xpu:0"), "search", hint="buy one")


@pytest.mark.parametrize("key", ["CUDA", "XPU", "MPS", "PrivateUse1"])
def test_dispatch_keys_without_an_implementation_raise(key):
    """A tensor on such a device meets our message, not torch's on dispatch keys."""
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))
    x = torch.ones(2, 4, device="meta")
    with pytest.raises(ValueError, match="tilefold::second_moment: x must be on cpu, got meta"):
        torch.ops.tilefold.second_moment.default.redispatch(keys, x, None, torch.ones(4, 4))


def test_an_implementation_for_a_device_is_one_entry():
    """The schema and the fake kernel serve all devices; the dispatch key finds the function."""
    calls = []

    def on(device: str) -> Any:
        return lambda x: calls.append(device) or x.clone()

    try:
        register(
            "tested",
            "(Tensor x) -> Tensor",
            fake=lambda x: torch.empty_like(x),
            implementations={"cpu": on("cpu"), "cuda": on("cuda")},
        )
        op = torch.ops.tilefold.tested.default
        op(torch.ones(2))
        cuda = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
        op.redispatch(cuda, torch.ones(2))
        assert calls == ["cpu", "cuda"]
        assert op(torch.ones(2, device="meta")).shape == (2,)
        xpu = torch._C.DispatchKeySet(torch._C.DispatchKey.XPU)
        with pytest.raises(ValueError, match="x must be on cpu or cuda, got meta"):
            op.redispatch(xpu, torch.ones(2, device="meta"))
    finally:
        IMPLEMENTATIONS.pop("tested", None)


def batch_losses(q: torch.Tensor, d: torch.Tensor, **options: Any) -> list[torch.Tensor]:
    ids = torch.arange(3)
    return [
        contrastive_loss(q, d, ids, query_ids=ids, **options),
        contrastive_loss(q, d, ids, document_ids=torch.arange(5), symmetric=True, **options),
        alignment_loss((q, d), (q.detach(), d.detach()), exclude=(torch.arange(4), ids), **options),
        invariance_loss(torch.stack([q, q]), d, **options).loss,
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_definitions_and_autograd_serve_another_device(monkeypatch, dtype):
    """Meta tensors stand for those of a GPU; lists, ids and the temperature stay on the host."""
    for op in ("contrastive", "divergence"):
        monkeypatch.setitem(IMPLEMENTATIONS[op], "meta", print)
    q, d = (x.to("meta", dtype).requires_grad_() for x in (Q, D))
    for loss in batch_losses(q, d, temperature=0.5):
        assert loss.is_meta
        assert loss.dtype == torch.float32
        found = torch.autograd.grad(loss, (q, d))
        assert all(g.is_meta and g.dtype == dtype for g in found)


def test_tensors_reach_the_kernels_without_a_copy():
    x = torch.arange(12.0).reshape(3, 4)
    for view in (native_array(x), native_rows(x), host_array(x)):
        assert view.ctypes.data == x.data_ptr()
    bits = native_array(x.bfloat16().requires_grad_())
    assert (bits.dtype, bits.shape) == (np.uint16, (3, 4))
    assert native_rows(x.T).tolist() == x.T.tolist()
    elsewhere = x.to("meta").requires_grad_()
    assert native_array(elsewhere).device.type == "meta"  # exported by DLPack, not through NumPy


def test_ops_are_registered_in_one_library():
    assert library.ns == "tilefold"
    assert {name.split("::")[1].split(".")[0] for name in library._op_defs} >= TORCH_OPS
