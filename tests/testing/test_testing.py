"""The judge: it accepts what is as good as torch, or differs by rounding, and nothing worse."""

import gc
import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold import _native, reference
from tilefold.testing import (
    assert_as_close_as_torch,
    assert_same_up_to_rounding,
    environment,
    machine,
    measure,
    memory,
    peak_memory,
)

TRUTH = np.array([[1.0, -2.0, 3.0], [0.25, 0.0, 4.0]])
EXACT = TRUTH.astype(np.float32)  # the truth is representable
EPS = np.finfo(np.float32).eps


def off_by(*errors: float) -> np.ndarray:
    """The truth in float32, its first elements off by so much."""
    values = EXACT.copy()
    values.flat[: len(errors)] += np.float32(errors)
    return values


def gaussian(n: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


# ---- the tolerance of float ops ------------------------------------------------------------------


def test_twice_the_error_of_torch_is_the_limit():
    assert_as_close_as_torch(off_by(0.2), off_by(0.1), TRUTH)
    with pytest.raises(
        AssertionError, match=r"^loss: worst error 0\.21 exceeds 0\.2 = 2 \* 0\.1 .* at \(0, 0\)"
    ):
        assert_as_close_as_torch(off_by(0.21), off_by(0.1), TRUTH, name="loss")


def test_the_worst_element_of_torch_is_the_measure_of_every_element():
    assert_as_close_as_torch(off_by(0, 0.2), off_by(0.1, 0), TRUTH)


def test_where_torch_is_exact_an_epsilon_of_the_largest_element_is_left():
    assert_as_close_as_torch(off_by(4 * EPS), EXACT, TRUTH)
    with pytest.raises(AssertionError, match=r"2 \* 0 \(torch\)"):
        assert_as_close_as_torch(off_by(5 * EPS), EXACT, TRUTH)


def test_gradients_are_compared_in_norm():
    one, spread = off_by(0.3), off_by(*[0.1] * 6)  # norms 0.3 and 0.245
    with pytest.raises(AssertionError, match="worst error"):
        assert_as_close_as_torch(one, spread, TRUTH)
    assert_as_close_as_torch(one, spread, TRUTH, in_norm=True)
    with pytest.raises(AssertionError, match="norm of the error"):
        assert_as_close_as_torch(off_by(0.5), spread, TRUTH, in_norm=True)


def test_infinities_and_nans_must_be_where_the_truth_has_them():
    truth = np.array([np.inf, -np.inf, np.nan, 1.0])
    assert_as_close_as_torch(truth.astype(np.float32), np.zeros(4, np.float32), truth)
    for place, wrong in [(0, -np.inf), (0, 1), (2, 0), (3, np.nan), (3, np.inf)]:
        ours = truth.astype(np.float32)
        ours[place] = wrong
        with pytest.raises(AssertionError, match=rf"at \({place},\) ours is"):
            assert_as_close_as_torch(ours, truth.astype(np.float32), truth)


def test_an_overflow_of_torch_excuses_nothing():
    overflowed = EXACT.copy()
    overflowed[0, 0] = np.inf
    with pytest.raises(AssertionError, match="worst error"):
        assert_as_close_as_torch(off_by(0.1), overflowed, TRUTH)


def test_nothing_scalars_and_zeros_are_fine():
    assert_as_close_as_torch(np.empty((0, 3), np.float32), np.empty((0, 3), np.float32), TRUTH[:0])
    assert_as_close_as_torch(np.float32(2), np.float32(2), 2.0)
    zeros = np.zeros(3)
    assert_as_close_as_torch(np.float32(zeros), np.float32(zeros), zeros, in_norm=True)


def test_another_shape_or_dtype_is_refused():
    with pytest.raises(AssertionError, match=r"shapes differ: ours \(3,\), torch \(2, 3\)"):
        assert_as_close_as_torch(EXACT[0], EXACT, TRUTH)
    with pytest.raises(TypeError, match="truth_fp64 must be float64"):
        assert_as_close_as_torch(EXACT, EXACT, EXACT)
    with pytest.raises(TypeError, match="ours must be floats, got int64"):
        assert_as_close_as_torch(np.arange(3), EXACT, TRUTH)


def test_torch_tensors_bring_the_epsilon_of_their_dtype():
    torch = pytest.importorskip("torch")
    truth = torch.linspace(1, 2, 100, dtype=torch.float64)
    rounded = truth.bfloat16().requires_grad_()
    one_step_off = torch.nextafter(truth.bfloat16(), torch.tensor(9.0, dtype=torch.bfloat16))
    assert_as_close_as_torch(one_step_off, rounded, truth)
    with pytest.raises(AssertionError, match=r"0\.0078.* \(eps\)"):
        assert_as_close_as_torch(one_step_off + 0.05, rounded, truth)
    with pytest.raises(TypeError, match=r"must be floats, got torch\.int32"):
        assert_as_close_as_torch(rounded.int(), rounded, truth)


# ---- the tolerance of other exact searches -------------------------------------------------------


@given(
    dim=st.integers(1, 70),
    k=st.integers(1, 40),
    scale=st.sampled_from([1e-3, 1, 1e6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_fp32_search_differs_by_rounding_only(dim, k, scale, seed):
    rng = np.random.default_rng(seed)
    documents = rng.integers(-3, 4, (30, dim)).astype(np.float32) * np.float32(scale)
    documents += rng.standard_normal((30, 1)).astype(np.float32) * np.float32(1e-7 * scale)
    queries = gaussian(3, dim, seed)
    ours = reference.search(queries, documents, k)
    order = np.argsort(-(queries @ documents.T), axis=1)[:, :k]
    theirs = np.full((3, k), -1)
    theirs[:, : order.shape[1]] = order
    found = assert_same_up_to_rounding(ours, theirs, queries, documents)
    assert found == (theirs != ours[1]).sum()


def test_a_wrong_document_is_no_rounding():
    queries, documents = gaussian(4, 16, 1), gaussian(50, 16, 2)
    ours = reference.search(queries, documents, 5)
    theirs = ours[1].copy()
    assert assert_same_up_to_rounding(ours, theirs, queries, documents) == 0
    theirs[2, 4] = reference.search(queries, documents, 6)[1][2, 5]
    with pytest.raises(AssertionError, match=r"^faiss: query 2 has document \d+ at rank 4"):
        assert_same_up_to_rounding(ours, theirs, queries, documents, name="faiss")


def test_repeated_missing_and_invented_ids_are_no_rounding():
    queries, documents = np.ones((1, 4), np.float32), np.ones((9, 4), np.float32)
    ours = reference.search(queries, documents, 3)
    assert assert_same_up_to_rounding(ours, np.array([[8, 7, 6]]), queries, documents) == 3
    for wrong, message in [
        ([8, 8, 1], "repeated"),
        ([0, 1, -1], "missing"),
        ([0, 1, 9], "no row"),
        ([0, 1], "shape"),
    ]:
        with pytest.raises(AssertionError, match=message):
            assert_same_up_to_rounding(ours, np.array([wrong]), queries, documents)


# ---- time ----------------------------------------------------------------------------------------


def test_contenders_run_in_turn_without_the_garbage_collector():
    calls = []

    def contender(name):
        return lambda: calls.append((name, gc.isenabled()))

    timings = measure({"a": contender("a"), "b": contender("b")}, repeats=3, warmup=2)
    assert calls == [("a", False), ("b", False)] * 5
    assert gc.isenabled()
    for timing in timings.values():
        assert len(timing.runs) == 3
        assert timing.min == min(timing.runs)
        assert timing.median == sorted(timing.runs)[1]


def test_timings_are_seconds():
    assert 0.02 <= measure({"sleep": lambda: time.sleep(0.02)}, repeats=1)["sleep"].min < 2


def test_something_may_precede_every_call():
    calls: list[str] = []
    contenders = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    measure(contenders, repeats=2, warmup=1, before=lambda: calls.append("before"))
    assert calls == ["before", "a", "before", "b"] * 3
    timing = measure({"nothing": int}, repeats=2, before=lambda: time.sleep(0.02))
    assert timing["nothing"].min < 0.02


def test_a_contender_that_raises_leaves_the_garbage_collector_on():
    with pytest.raises(ZeroDivisionError):
        measure({"bad": lambda: 1 // 0})
    assert gc.isenabled()


def test_measuring_nothing_is_refused():
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        measure({}, repeats=0)


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("permitted", [True, False])
def test_the_peak_within_the_block_is_seen(permitted, monkeypatch):
    if permitted and not memory._reset_high_water_mark():
        pytest.skip("this system does not let a process reset its high-water mark")
    if not permitted:
        monkeypatch.setattr(memory, "_reset_high_water_mark", lambda: False)
    with peak_memory() as peak:
        large = np.ones(48 << 20, np.uint8)
        time.sleep(0.05)  # the sampler's chance
        del large
    assert peak.method == ("high-water mark" if permitted else "sampled")
    assert 46 < peak.bytes / 2**20 < 64


def test_an_earlier_peak_does_not_count():
    if not memory._reset_high_water_mark():
        pytest.skip("this system does not let a process reset its high-water mark")
    np.ones(48 << 20, np.uint8)
    with peak_memory() as peak:
        np.ones(4 << 20, np.uint8)
    assert peak.bytes < 16 << 20


@pytest.mark.parametrize("permitted", [True, False])
def test_the_peak_is_known_after_an_error(permitted, monkeypatch):
    if not permitted:
        monkeypatch.setattr(memory, "_reset_high_water_mark", lambda: False)
    kept = []

    def fill_and_fail():
        kept.append(np.ones(48 << 20, np.uint8))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), peak_memory() as peak:
        fill_and_fail()
    assert peak.bytes > 32 << 20


# ---- the machine ---------------------------------------------------------------------------------


def test_the_machine_is_described_completely(monkeypatch):
    monkeypatch.setenv("TILEFOLD_ISA", "scalar")
    found = machine()
    assert json.loads(json.dumps(found)) == found
    assert found["row"] == "scalar"
    assert found["threads"] == _native.num_threads()
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["numpy"] == np.__version__
    assert {"load", "commit", "python", "torch", "faiss"} <= set(found)


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    assert machine()["commit"] is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine()["commit"] is None
