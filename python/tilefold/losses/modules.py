"""Wraps the losses as modules, whose options and learned temperature belong to the module."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..distributed import collectives
from ..losses import loss_inputs
from .alignment_loss import DIVERGENCES, Side, alignment_loss
from .contrastive_loss import check_options, contrastive_loss
from .invariance_loss import FORMS, invariance_loss


class ContrastiveLoss(torch.nn.Module):
    """Computes `contrastive_loss` as a module, which may learn its temperature.

    Args:
        temperature: scores are divided by it; the initial value where it is learned.
        learn_temperature: keep ``log_scale = -log(temperature)`` as a parameter, as CLIP does.
        mode, symmetric, reduction, process_group: as in `contrastive_loss`. Groups can be neither
            copied nor pickled, so set `process_group` to None before copying or pickling the
            module. The gradient of a learned temperature is averaged over its ranks, with DDP and
            without.

    Raises:
        ValueError: a temperature that is not positive, an unknown mode or reduction.
        TypeError: an argument that is not a number, a bool or a process group as documented.

    Example:
        >>> loss = ContrastiveLoss(temperature=0.05, learn_temperature=True)
        >>> queries, documents = torch.eye(3), torch.eye(3).requires_grad_()
        >>> loss(queries, documents).backward()
        >>> loss.log_scale.grad is not None
        True
    """

    def __init__(
        self,
        temperature: float = 0.05,
        *,
        learn_temperature: bool = False,
        mode: str = "each",
        symmetric: bool = False,
        reduction: str = "mean",
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        number: Any = temperature
        if not isinstance(number, numbers.Real):  # of NumPy, too
            kind = type(number).__name__
            raise TypeError(f"ContrastiveLoss: temperature must be a number, got {kind}")
        if not 0 < temperature < math.inf:
            raise ValueError(f"ContrastiveLoss: temperature must be positive, got {temperature}")
        check_options(mode, reduction, symmetric, False)
        if process_group is not None:
            collectives.is_single_rank("ContrastiveLoss", process_group)
        temperature = temperature if isinstance(temperature, int) else float(temperature)
        log_scale = torch.tensor(-math.log(temperature))
        self.log_scale = torch.nn.Parameter(log_scale) if learn_temperature else None
        self.temperature = temperature
        self.options: dict[str, Any] = {
            "mode": mode,
            "symmetric": symmetric,
            "reduction": reduction,
        }
        self.process_group = process_group

    def forward(
        self,
        queries: Tensor,
        documents: Tensor,
        positives: Tensor | tuple[Tensor, Tensor] | Sequence[Sequence[int]] | None = None,
        **masks: Any,
    ) -> Tensor:
        """Computes the loss of a batch.

        Args:
            queries: ``[n, dim]``, as in `contrastive_loss`.
            documents: ``[m, dim]``.
            positives: as in `contrastive_loss`; by default document i is the positive of query i,
                and documents beyond the queries are hard negatives.
            masks: `exclude`, `exclude_ids`, `query_ids`, `document_ids`, `soft_targets`, `gates`,
                as in `contrastive_loss`.

        Returns:
            One number, or ``[n]`` for reduction "none"; float32, or float64 for float64 inputs.
        """
        if positives is None:
            positives = torch.arange(len(queries))
        scale: dict[str, Any] = {"temperature": self.temperature}
        if self.log_scale is not None:
            log_scale: Tensor = self.log_scale
            if self.process_group is not None:
                log_scale = collectives.average_gradient(log_scale, self.process_group)
            scale = {"log_scale": log_scale}
        options = self.options | {"process_group": self.process_group}
        return contrastive_loss(queries, documents, positives, **scale, **masks, **options)

    def extra_repr(self) -> str:
        learned = "" if self.log_scale is None else " at first, learned"
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        group = "" if self.process_group is None else ", process_group=..."
        return f"temperature={self.temperature}{learned}{options}{group}"


class AlignmentLoss(torch.nn.Module):
    """Computes `alignment_loss` as a module.

    Args:
        temperature: the student's scores are divided by it.
        teacher_temperature: the teacher's scores are divided by it.
        divergence: "forward_kl", "reverse_kl" or "js".
        train_teacher: let gradients flow to the teacher, too.
        reduction: "mean" or "sum" over queries, or "none" for ``[n]``.

    Raises:
        ValueError: a temperature that is not positive, an unknown divergence or reduction.

    Example:
        >>> loss = AlignmentLoss(temperature=0.05, divergence="js")
        >>> student, teacher = (torch.eye(3), torch.eye(3)), (torch.eye(3), torch.zeros(3, 3))
        >>> loss(student, teacher)
        tensor(0.3183)
    """

    def __init__(
        self,
        temperature: float | None = None,
        *,
        teacher_temperature: float | None = None,
        divergence: str = "forward_kl",
        train_teacher: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        op = "AlignmentLoss"
        for name, value in (
            ("temperature", temperature),
            ("teacher_temperature", teacher_temperature),
        ):
            loss_inputs.checked_scale(op, loss_inputs.scale(op, value, None, name=name))
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(
                f"AlignmentLoss: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
            )
        if divergence not in DIVERGENCES:
            raise ValueError(
                f"AlignmentLoss: divergence must be one of {DIVERGENCES}, got {divergence!r}"
            )
        self.options: dict[str, Any] = {
            "temperature": temperature,
            "teacher_temperature": teacher_temperature,
            "divergence": divergence,
            "train_teacher": train_teacher,
            "reduction": reduction,
        }

    def forward(self, student: Side, teacher: Side, **masks: Any) -> Tensor:
        """Computes the loss of a batch.

        Args:
            student: a pair ``(queries [n, dim], documents [m, dim])``, or scores, as in
                `alignment_loss`.
            teacher: the same for the teacher.
            masks: `candidates` or `exclude`, as in `alignment_loss`.

        Returns:
            One number, or ``[n]`` for reduction "none"; float32, or float64 for float64 inputs.
        """
        return alignment_loss(student, teacher, **masks, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class InvarianceLoss(torch.nn.Module):
    """Computes `invariance_loss` as a module that returns the loss alone.

    Args:
        form: "consistency", "risk" or "variance".
        temperature: scores are divided by it.

    Raises:
        ValueError: a temperature that is not positive, an unknown form.

    Example:
        >>> loss = InvarianceLoss(temperature=0.05)
        >>> loss(torch.eye(3).expand(2, 3, 3), torch.eye(3))
        tensor(0.)
    """

    def __init__(self, form: str = "consistency", *, temperature: float | None = None) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"InvarianceLoss: form must be one of {FORMS}, got {form!r}")
        loss_inputs.checked_scale(
            "InvarianceLoss", loss_inputs.scale("InvarianceLoss", temperature, None)
        )
        self.form, self.temperature = form, temperature

    def forward(
        self, queries: Tensor, documents: Tensor, positives: Any = None, **options: Any
    ) -> Tensor:
        """Computes the loss of a batch.

        Args:
            queries: ``[S, n, dim]`` for S views.
            documents: ``[m, dim]`` for all views, or ``[S, m, dim]``.
            positives: as in `invariance_loss`, for "risk" and "variance".
            options: further arguments of `invariance_loss` that the form takes.

        Returns:
            One number, float32, or float64 for float64 inputs.
        """
        result = invariance_loss(
            queries,
            documents,
            positives,
            form=self.form,
            temperature=self.temperature,
            **options,
        )
        return result.loss

    def extra_repr(self) -> str:
        return f"form={self.form!r}, temperature={self.temperature}"
