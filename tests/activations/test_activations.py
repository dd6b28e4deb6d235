"""Statistics of activations against NumPy in float64, on every row of the table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[torch]")

from tilefold import reference
from tilefold.activations.activation_statistics import ActivationStatistics
from tilefold.files.tensors import map_tensors, write_tensors
from tilefold.testing import assert_as_close_as_torch

WIDTHS = [1, 7, 15, 16, 17, 33, 64, 100]
ROWS = [1, 2, 63, 64, 65, 130]


def drawn(*shape: int, seed: int = 0, offset: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * 3 + offset


def folded(x: torch.Tensor, mask: torch.Tensor | None = None, **options) -> ActivationStatistics:
    statistics = ActivationStatistics(x.shape[-1], **options)
    statistics.update(x, mask)
    return statistics


def assert_same(one: ActivationStatistics, other: ActivationStatistics, *, exact: bool) -> None:
    for name, mine in one._state.items():
        theirs = other._state[name]
        if exact or name not in ("mean", "m2", "second_moment"):
            assert torch.equal(mine, theirs), name
        else:
            rows = 1 if name == "mean" else max(1, one.count)  # m2 and second moments are sums
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * rows, msg=name)


# ---- against the reference -----------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("n", ROWS)
def test_moments_extremes_and_counts_are_those_of_numpy(isa, n, width):
    x, thresholds = drawn(n, width, offset=5.0), [4.0, 5.0, 6.0, 5.0, 100.0][: width % 6]
    found = folded(x, thresholds=thresholds)
    truth = reference.activation_statistics(x.numpy(), thresholds)
    assert_as_close_as_torch(
        found.mean.float(), x.mean(0), torch.from_numpy(truth["mean"]), name="mean"
    )
    variance = x.var(0, unbiased=False)
    assert_as_close_as_torch(
        found.variance.float(), variance, torch.from_numpy(truth["variance"]), name="variance"
    )
    assert found.count == n
    for name in ("min", "max", "absmax"):
        np.testing.assert_array_equal(getattr(found, name), truth[name])
    np.testing.assert_array_equal(found.fraction_above, truth["fraction_above"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_exactly(isa, dtype):
    x = drawn(70, 19).to(dtype)
    assert_same(folded(x, top=2), folded(x.float(), top=2), exact=True)


def test_a_large_mean_does_not_cancel_a_small_variance(isa):
    x = drawn(1000, 20) * 1e-2 + 1e3
    truth = reference.activation_statistics(x.numpy(), [])
    np.testing.assert_allclose(folded(x).variance, truth["variance"], rtol=1e-4)


def test_what_the_mask_leaves_out_does_not_count(isa):
    x, mask = drawn(9, 11, 17), torch.rand(9, 11, generator=torch.Generator().manual_seed(1)) > 0.4
    x[~mask] = torch.nan
    options = {"thresholds": [0.5], "histogram": True, "second_moment": True}
    assert_same(folded(x, mask, **options), folded(x[mask], **options), exact=True)


def test_strides_do_not_matter(isa):
    x = drawn(40, 60)
    assert_same(folded(x[::2, 3:40]), folded(x[::2, 3:40].contiguous()), exact=True)
    assert_same(folded(x.T[:20]), folded(x.T[:20].contiguous()), exact=True)


def test_nan_is_in_the_mean_and_nowhere_else(isa):
    x = drawn(10, 3)
    x[0, 1] = torch.nan
    found = folded(x, thresholds=[-100.0], histogram=True)
    assert found.mean.isnan().tolist() == [False, True, False]
    assert torch.equal(found.min, x[1:].amin(0).minimum(x.nan_to_num(100).amin(0)))
    assert found.fraction_above[0].tolist() == [1.0, 0.9, 1.0]
    assert found._state["histogram"].sum(1).tolist() == [10, 9, 10]


def test_infinities_are_extremes(isa):
    x = drawn(10, 2)
    x[3, 0], x[4, 0] = torch.inf, -torch.inf
    found = folded(x, thresholds=[1e30])
    assert (found.min[0], found.max[0]) == (-torch.inf, torch.inf)
    assert found.fraction_above[0].tolist() == [0.1, 0.0]


@pytest.mark.parametrize("width", [1, 23, 24, 25, 100])
@pytest.mark.parametrize("n", [1, 3, 512, 600])
def test_the_second_moment_is_the_product(isa, n, width):
    x = drawn(n, width, offset=1.0)
    found = folded(x, second_moment=True).second_moment
    exact = x.double().T @ x.double() / n
    assert_as_close_as_torch(found.float(), x.T @ x / n, exact, name="second moment")
    assert torch.equal(found, found.T)


def test_the_examples_with_the_largest_values_are_kept(isa):
    x = drawn(12, 5, 18)
    x[7] = x[2]  # a tie goes to the first
    mask = torch.ones(12, 5)
    mask[:, 3:] = 0
    found = folded(x, mask, top=4)
    best = x[:, :3].amax(1)
    order = best.argsort(stable=True, dim=0, descending=True)[:4]
    assert torch.equal(found.top_examples, order.T)
    assert torch.equal(found.top_values, best.gather(0, order).T)


def test_examples_have_the_names_that_they_are_given(isa):
    statistics = ActivationStatistics(1, top=3)
    statistics.update(torch.tensor([[[1.0]], [[3.0]]]), numbers=torch.tensor([40, 20]))
    assert statistics.top_examples.tolist() == [[20, 40, -1]]
    assert statistics.top_values.tolist() == [[3.0, 1.0, -torch.inf]]


def test_quantiles_are_right_to_a_sixteenth(isa):
    x = torch.cat([drawn(2000, 3), drawn(2000, 3, seed=1) * 1e-2])
    found = folded(x, histogram=True)
    for q in (0.0, 0.01, 0.25, 0.5, 0.9, 1.0):
        exact = x.double().quantile(q, dim=0, interpolation="lower")
        assert ((found.quantile(q) - exact).abs() <= exact.abs() / 16 + 2**-16).all(), q


def test_bins_are_in_the_order_of_values(isa):
    values = torch.tensor([-1e9, -70000.0, -3.0, -2.9, -1e-9, 0.0, 1e-9, 1e-3, 1.0, 1.1, 1e9])
    places = [
        int(folded(v.reshape(1, 1), histogram=True)._state["histogram"].argmax()) for v in values
    ]
    assert places == sorted(places)
    assert places[4] == places[5] == places[6]
    assert places[0] == 0
    assert places[-1] == 512


# ---- batches, threads, shards --------------------------------------------------------------------

OPTIONS = {"thresholds": [0.0, 1.0], "top": 3, "histogram": True, "second_moment": True}


@given(st.lists(st.integers(0, 70), min_size=1, max_size=5), st.integers(1, 40))
def test_batches_and_parts_add_up(sizes, width):
    parts = [drawn(n, 2, width, seed=i) for i, n in enumerate(sizes)]
    whole = torch.cat(parts)
    once, batches = folded(whole, **OPTIONS), ActivationStatistics(width, **OPTIONS)
    merged = ActivationStatistics(width, **OPTIONS)
    first = 0
    for part in parts:
        batches.update(part)
        shard = ActivationStatistics(width, **OPTIONS)
        shard.update(part, numbers=torch.arange(first, first + len(part)))
        merged.merge(shard)
        first += len(part)
    assert_same(once, batches, exact=False)
    assert_same(once, merged, exact=False)


def test_no_number_of_threads_changes_a_bit(isa, monkeypatch):
    x = drawn(700, 300)
    results = []
    for threads in ("1", "2", "7"):
        monkeypatch.setenv("TILEFOLD_NUM_THREADS", threads)
        results.append(folded(x, **OPTIONS))
    for other in results[1:]:
        assert_same(results[0], other, exact=True)


def test_what_is_saved_is_loaded(tmp_path):
    statistics = folded(drawn(20, 9), **OPTIONS)
    statistics.save(tmp_path / "a.safetensors")
    again = ActivationStatistics.load(tmp_path / "a.safetensors")
    assert_same(statistics, again, exact=True)
    again.update(drawn(3, 9))
    assert (again.count, statistics.count) == (23, 20)


def test_nothing_is_known_of_nothing():
    empty = ActivationStatistics(3, **OPTIONS)
    empty.update(torch.empty(0, 5, 3))
    empty.merge(ActivationStatistics(3, **OPTIONS))
    assert empty.count == 0
    assert empty.mean.isnan().all()
    assert empty.variance.isnan().all()
    assert empty.quantile(0.5).isnan().all()
    assert (empty.top_examples == -1).all()


# ---- torch ---------------------------------------------------------------------------------------


def test_the_ops_are_what_torch_expects():
    statistics = ActivationStatistics(6, **OPTIONS)
    state, x = statistics._state, drawn(4, 5, 6)
    names = ("count", "mean", "m2", "min", "max", "thresholds", "above", "histogram")
    mask = torch.ones(4, 5, dtype=torch.bool)
    checks = ["test_schema", "test_faketensor"]
    torch.library.opcheck(
        torch.ops.tilefold.statistics.default,
        (x, mask, *(state[name] for name in names)),
        test_utils=checks,
    )
    buffers = (state[name] for name in ("seen", "top_values", "top_examples"))
    torch.library.opcheck(
        torch.ops.tilefold.examples.default, (x, None, None, *buffers), test_utils=checks
    )
    torch.library.opcheck(
        torch.ops.tilefold.second_moment.default,
        (x, mask, state["second_moment"]),
        test_utils=checks,
    )


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((drawn(3, 4),), ValueError, r"x must have shape \[\.\.\., 5\], got \(3, 4\)"),
        ((drawn(5),), ValueError, "x must have shape"),
        ((drawn(3, 5).double(),), TypeError, "float32, bfloat16 or float16, got torch.float64"),
        (([[1.0]],), TypeError, "got list"),
        ((drawn(3, 2, 5), torch.ones(3, 3)), ValueError, r"mask must have shape \(3, 2\)"),
        ((torch.empty(2, 5, device="meta"),), ValueError, "must be on cpu, got meta"),
    ],
)
def test_what_cannot_be_folded_is_refused(arguments, error, message):
    statistics = ActivationStatistics(5)
    with pytest.raises(error, match=message):
        statistics.update(*arguments)
    assert statistics.count == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"width": 1, "top": -1}, "top must be at least 0, got -1"),
        ({"width": 1, "thresholds": [float("nan")]}, "thresholds must be numbers"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ActivationStatistics(**options)


def test_what_was_not_asked_for_is_not_there():
    plain = folded(drawn(3, 2))
    for name in ("top_values", "top_examples", "second_moment"):
        with pytest.raises(ValueError, match="was not requested"):
            getattr(plain, name)
    with pytest.raises(ValueError, match="histogram was not requested"):
        plain.quantile(0.5)
    with pytest.raises(ValueError, match="q must be 0 to 1, got 2"):
        plain.quantile(2)
    with pytest.raises(ValueError, match="of one width and the same options"):
        plain.merge(ActivationStatistics(2, thresholds=[0.0]))


def test_files_of_another_format_are_refused(tmp_path):
    path = tmp_path / "statistics.safetensors"
    folded(drawn(3, 2)).save(path)
    tensors = {name: np.array(a) for name, a in map_tensors(path).items()}
    assert {"min", "max", "format_version"} <= set(tensors)
    for changed, shown in ((tensors | {"format_version": np.array(1)}, "1"), (None, "none")):
        if changed is None:
            changed = {name: a for name, a in tensors.items() if name != "format_version"}
        write_tensors(path, changed)
        with pytest.raises(ValueError, match=f"must have format version 2, got {shown};"):
            ActivationStatistics.load(path)
