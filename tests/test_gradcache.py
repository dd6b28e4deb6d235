"""cached_backward against the same without caching, dropout included."""

import contextlib

import pytest
import torch
from torch import Tensor, nn

from tilefold.gradcache import cached_backward
from tilefold.losses import ContrastiveLoss


def encoder(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Linear(12, 20), nn.Dropout(0.3), nn.GELU(), nn.Linear(20, 8))
    return layers.double().train()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    q, d = torch.randn(10, 12, generator=generator), torch.randn(14, 12, generator=generator)
    return q.double(), d.double()


def gradients(*modules: nn.Module) -> list[Tensor]:
    return [p.grad for module in modules for p in module.parameters()]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("sizes", [(3, 4), (1, 5), (10, 14)])
def test_gradients_are_those_of_the_whole_batch(tied, sizes):
    queries, documents = (x.split(n) for x, n in zip(batch(), sizes, strict=True))
    results = []
    for cached in (False, True):
        towers = [encoder(1)] * 2 if tied else [encoder(1), encoder(2)]
        loss = ContrastiveLoss(0.2, learn_temperature=True).double()
        torch.manual_seed(7)
        if cached:
            value = cached_backward(loss, (towers[0], queries), (towers[1], documents))
            assert not value.requires_grad
        else:
            whole = [
                torch.cat([tower(chunk) for chunk in chunks])
                for tower, chunks in zip(towers, (queries, documents), strict=True)
            ]
            value = loss(*whole)
            value.backward()
        after = torch.rand(3)
        results.append([value.detach(), after, *gradients(*towers, loss)])
    for plain, cached in zip(*results, strict=True):
        torch.testing.assert_close(cached, plain, rtol=1e-12, atol=1e-14)


def test_gradients_are_added_to_those_there():
    model, (q, d) = encoder(), batch()
    model.eval()
    towers = (model, q.split(5)), (model, d.split(7))
    cached_backward(ContrastiveLoss(), *towers)
    once = [g.clone() for g in gradients(model)]
    cached_backward(ContrastiveLoss(), *towers)
    for twice, one in zip(gradients(model), once, strict=True):
        torch.testing.assert_close(twice, 2 * one)


def test_gradients_are_exchanged_with_the_last_chunk_of_a_tower_only():
    model, (q, d) = encoder(), batch()
    quiet, calls = [], []

    @contextlib.contextmanager
    def no_sync():
        quiet.append(True)
        yield
        quiet.pop()

    def encode(chunk: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            calls.append(bool(quiet))
        return model(chunk)

    cached_backward(ContrastiveLoss(), (encode, q.split(5)), (encode, d.split(7)), no_sync=no_sync)
    assert calls == [True, False, True, False]  # once for each tower: they may be two models


def test_a_scaler_scales_the_gradients():
    class Scaler:
        def scale(self, loss: Tensor) -> Tensor:
            return 1024 * loss

    results = []
    for scaler in (None, Scaler()):
        model, (q, d) = encoder().eval(), batch()
        value = cached_backward(
            ContrastiveLoss(), (model, q.split(5)), (model, d.split(7)), scaler=scaler
        )
        results.append((value, gradients(model)))
    (one, plain), (other, scaled) = results
    assert one == other
    for g, s in zip(plain, scaled, strict=True):
        torch.testing.assert_close(s, 1024 * g)


def test_a_tower_that_the_loss_ignores_is_left_alone():
    used, unused, (q, d) = encoder(1), encoder(2), batch()
    cached_backward(lambda x, _: x.square().sum(), (used, q.split(5)), (unused, d.split(7)))
    assert all(g is not None for g in gradients(used))
    assert all(g is None for g in gradients(unused))


def test_a_frozen_tower_stays_as_it_is():
    trained, frozen, (q, d) = encoder(1), encoder(2).requires_grad_(False), batch()
    cached_backward(ContrastiveLoss(), (frozen, q.split(5)), (trained, d.split(7)))
    assert all(g is not None for g in gradients(trained))
    assert all(g is None for g in gradients(frozen))


def test_under_autocast_every_weight_gets_its_gradient():
    """Casts kept by autocast from the pass without a graph had none in older versions of torch."""
    q, d = (x.float() for x in batch())
    results = []
    for cached in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(12, 16), nn.LayerNorm(16), nn.Linear(16, 8))
        loss = ContrastiveLoss(0.5)
        with torch.autocast("cpu", torch.bfloat16):
            if cached:
                cached_backward(loss, (model, q.split(5)), (model, d.split(7)))
            else:
                loss(model(q), model(d)).backward()
        results.append(gradients(model))
    for plain, ours in zip(*results, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, plain, rtol=0.05, atol=0.01)


def test_nothing_to_encode_is_refused():
    q, _ = batch()
    with pytest.raises(ValueError, match="expected at least one tower"):
        cached_backward(ContrastiveLoss())
    with pytest.raises(ValueError, match="each with a chunk or more"):
        cached_backward(ContrastiveLoss(), (encoder(), []))
    with pytest.raises(ValueError, match=r"loss must return one number, got shape \(10, 8\)"):
        cached_backward(lambda x: x, (encoder(), q.split(5)))
