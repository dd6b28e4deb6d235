"""The default number of threads, as Python sets it."""

import pytest

import tilefold


@pytest.mark.parametrize("n", ["a", 1.5, None, True])
def test_a_number_of_threads_that_is_no_integer_is_refused_by_name(n):
    with pytest.raises(TypeError, match=r"^set_num_threads: n must be an integer, got [a-zA-Z]+$"):
        tilefold.set_num_threads(n)


@pytest.mark.parametrize("n", [0, 1025, 2**40, -(2**70)])
def test_a_number_of_threads_of_any_size_is_shown(n):
    with pytest.raises(ValueError, match=f"^set_num_threads: n must be 1 to 1024, got {n}$"):
        tilefold.set_num_threads(n)
