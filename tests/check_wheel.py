"""Checks what a built wheel of tilefold holds and links.

    python tests/check_wheel.py dist/tilefold-0.1.0-cp311-cp311-linux_x86_64.whl

On Linux, auditwheel and binutils are needed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MOST_BYTES = 5_000_000
# Of glibc and the compiler; every Linux with glibc has them. No OpenMP, no torch, no CUDA.
LINKED = {
    "libstdc++",
    "libm",
    "libgcc_s",
    "libc",
    "libpthread",
    "ld-linux-x86-64",
    "ld-linux-aarch64",
}
EXPECTED = {
    "tilefold/__init__.py",
    "tilefold/py.typed",
    "tilefold/_native.pyi",
    "tilefold/report/page.html.jinja",
}
# What a package may hold; anything else got in by mistake.
SUFFIXES = {".py", ".pyi", ".typed", ".jinja", ".json", ".yaml", ".html", ".js", ".so", ".pyd"}


def lines_of(*command: str | Path) -> list[str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def check_files(wheel: Path, names: list[str]) -> str:
    """Checks the list of files; returns the name of the extension."""
    size = wheel.stat().st_size
    assert size < MOST_BYTES, f"{wheel.name} has {size:,} bytes, more than {MOST_BYTES:,}"
    package = [name for name in names if name.startswith("tilefold/")]
    assert set(package) >= EXPECTED, f"missing: {EXPECTED - set(package)}"
    strange = [name for name in package if Path(name).suffix not in SUFFIXES]
    assert not strange, f"not meant to be in a wheel: {strange}"
    others = [name for name in names if name not in package and ".dist-info/" not in name]
    assert not others, f"outside the package: {others}"
    assert any(name.endswith("licenses/LICENSE") for name in names), "no LICENSE"
    extensions = [name for name in package if Path(name).suffix in (".so", ".pyd")]
    assert len(extensions) == 1, f"expected one extension, got {extensions}"
    return extensions[0]


def check_links(extension: Path) -> None:
    """Checks the libraries that an extension for Linux loads, and the names that it exports."""
    dynamic = "\n".join(lines_of("readelf", "-dW", extension))
    needed = re.findall(r"\(NEEDED\)[^\[]*\[([^\]]+)\]", dynamic)
    loaded = {name.partition(".so")[0] for name in needed}
    assert loaded <= LINKED, f"links {sorted(loaded - LINKED)}"
    assert "RUNPATH" not in dynamic, "has a RUNPATH"
    assert "RPATH" not in dynamic, "has an RPATH"
    defined = [line.split()[-1] for line in lines_of("nm", "-D", "--defined-only", extension)]
    assert defined == ["PyInit__native"], f"exports {defined}"


def main() -> None:
    """Raises AssertionError, naming what is wrong with the wheel."""
    wheel = Path(sys.argv[1])
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        extension = check_files(wheel, archive.namelist())
        archive.extract(extension, folder)
        if sys.platform == "linux":
            check_links(Path(folder) / extension)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, {extension.partition('/')[2]}")
    if sys.platform == "linux":
        report = " ".join(lines_of("auditwheel", "show", wheel))
        tag = re.search(r'platform tag:\s*"([^"]+)"', report)
        assert tag, report
        assert tag[1].startswith("manylinux"), f"auditwheel: {report}"
        print(f"{wheel.name}: runs on {tag[1]} as built here")


if __name__ == "__main__":
    main()
