"""The diagnosis of `tilefold doctor` as data."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class KernelRow:
    """A row of the table of kernels, and the outcome of its self-test."""

    name: str
    device: str
    needs: str
    supported: bool
    in_use: bool
    searches: int = 0
    seconds: float = 0.0
    failure: str | None = None  # None: all searches were right, or none was run


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A BLAS or OpenMP library loaded into this process."""

    api: str
    name: str
    version: str | None
    threads: int
    path: str


@dataclasses.dataclass(frozen=True)
class Extra:
    """An extra of tilefold: the installed version of each package, or None."""

    name: str
    packages: dict[str, str | None]
    too_old: list[str]

    @property
    def complete(self) -> bool:
        """Whether every package is installed, and new enough."""
        return None not in self.packages.values() and not self.too_old


@dataclasses.dataclass(frozen=True)
class Cuda:
    """CUDA kernels of this build, and GPUs."""

    kernels: str  # "compiled", "emulated" (on the host, for tests) or "none"
    architectures: str  # that they are compiled for
    gpus: list[str] | None  # None: unknown, because torch is not loaded


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Everything that `tilefold doctor` prints; without problems, all is well."""

    version: str
    python: str
    platform: str
    cpu: str
    cpus_usable: int
    rows: list[KernelRow]
    in_use: str
    cuda: Cuda
    threads: int
    threads_reason: str
    torch: str | None
    torch_loaded: bool
    runtimes: list[Runtime] | None  # None: threadpoolctl is not installed
    extras: list[Extra]
    warnings: list[str]
    problems: list[str]
