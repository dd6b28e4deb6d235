"""The losses as modules, for those who compose training of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..distributed import collectives
from ..losses import loss_inputs
from .alignment_loss import DIVERGENCES, Side, alignment_loss
from .contrastive_loss import check_options, contrastive_loss
from .invariance_loss import FORMS, invariance_loss


class ContrastiveLoss(torch.nn.Module):
    """`contrastive_loss` as a module, which may learn its temperature.

    Args:
        temperature: scores are divided by it; where it is learned, it begins there.
        learn_temperature: keep ``log_scale = -log(temperature)`` as a parameter, as CLIP does.
        mode, symmetric, reduction, process_group: as in `contrastive_loss`. Groups can be neither
            copied nor pickled, so take `process_group` away before you do that to the module. The
            gradient of a learned temperature is averaged over its ranks, whether DDP knows of it
            or not.

    Raises:
        ValueError: a temperature that is not positive, an unknown mode or reduction.
        TypeError: what is no number, no bool or no process group.

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
        if not isinstance(temperature, float | int):
            kind = type(temperature).__name__
            raise TypeError(f"ContrastiveLoss: temperature must be a number, got {kind}")
        if not 0 < temperature < math.inf:
            raise ValueError(f"ContrastiveLoss: temperature must be positive, got {temperature}")
        check_options(mode, reduction, symmetric, False)
        if process_group is not None:
            collectives.is_single_rank("ContrastiveLoss", process_group)
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
        positives: Tensor | tuple[Tensor, Tensor] | None = None,
        **masks: Any,
    ) -> Tensor:
        """The loss of `contrastive_loss`.

        Args:
            queries, documents: as in `contrastive_loss`.
            positives: the same; by default document i is the positive of query i, and documents
                beyond the queries are hard negatives.
            masks: `exclude`, `exclude_ids`, `query_ids`, `document_ids`, `soft_targets`, `gates`,
                as in `contrastive_loss`.
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
        ranks_too = "" if self.process_group is None else ", process_group=..."
        return f"temperature={self.temperature}{learned}{options}{ranks_too}"


class AlignmentLoss(torch.nn.Module):
    """`alignment_loss` as a module.

    Args:
        temperature, teacher_temperature, divergence, train_teacher, reduction: as there.

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
        for given in (temperature, teacher_temperature):
            loss_inputs.checked_scale(
                "AlignmentLoss", loss_inputs.scale("AlignmentLoss", given, None)
            )
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
        """The loss of `alignment_loss`; masks are `candidates` or `exclude`."""
        return alignment_loss(student, teacher, **masks, **self.options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())


class InvarianceLoss(torch.nn.Module):
    """`invariance_loss` as a module that returns the loss alone.

    Args:
        form, temperature: as there.

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
        """The loss of `invariance_loss`; `options` are those of its form."""
        found = invariance_loss(
            queries,
            documents,
            positives,
            form=self.form,
            temperature=self.temperature,
            **options,
        )
        return found.loss

    def extra_repr(self) -> str:
        return f"form={self.form!r}, temperature={self.temperature}"
