"""Rows of the ISA table are in use where the processor has their instructions."""

import platform
import re
from pathlib import Path

import pytest

CPUINFO = Path("/proc/cpuinfo")
AVX2 = {"avx2", "fma", "f16c"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}
NEEDS = {
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512_bf16": AVX512 | {"avx512_bf16"},
    "neon": set(),
    "neon_dot": {"asimddp"},
}


def features() -> set[str]:
    """Returns what Linux says that every processor of the machine has."""
    lists = re.findall(r"^(?:flags|Features)\s*:(.*)$", CPUINFO.read_text(), re.MULTILINE)
    return set.intersection(*(set(line.split()) for line in lists))


def test_the_rows_of_the_processor_are_compiled(table):
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        assert list(table) == ["avx512_bf16", "avx512", "avx2", "scalar"]
    elif machine in ("aarch64", "arm64"):
        assert list(table) == ["neon_dot", "neon", "scalar"]
    else:
        assert list(table) == ["scalar"]


@pytest.mark.skipif(not CPUINFO.exists(), reason="needs /proc/cpuinfo, which Linux has")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="has no such rows")
def test_a_row_is_supported_where_linux_lists_its_features(table):
    found = features()
    if {"x86_64": "sse2", "aarch64": "asimd"}[platform.machine()] not in found:
        pytest.skip("/proc/cpuinfo is another processor's: this one is emulated")
    for name, needs in NEEDS.items():
        if name in table:
            # A build for tests emulates the avx512 rows on processors without them.
            if needs <= found:
                assert table[name]["supported"], name
            elif not name.startswith("avx512"):
                assert not table[name]["supported"], name
