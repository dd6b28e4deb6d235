"""Arguments of the mining of hard negatives by the model in training."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RefreshArguments:
    """When hard negatives are mined again, and from which passages."""

    refresh_steps: int = field(
        default=0,
        metadata={"help": "steps between minings of hard negatives with the model; 0 for none"},
    )
    refresh_at_start: bool = field(
        default=False, metadata={"help": "mine hard negatives before the first step, too"}
    )
    refresh_depth: int = field(
        default=200, metadata={"help": "number of best passages that negatives are drawn from"}
    )
    refresh_negatives: int = field(
        default=20, metadata={"help": "hard negatives kept for each query"}
    )
    refresh_skip: int = field(
        default=0, metadata={"help": "number of best passages that are left out"}
    )
    refresh_relative_margin: float | None = field(
        default=None,
        metadata={
            "help": "leave out passages closer than this share to the positive's score: 0.05"
        },
    )

    @property
    def refreshes(self) -> bool:
        """Whether hard negatives are mined in training."""
        return self.refresh_steps > 0 or self.refresh_at_start

    def check_refresh(self) -> None:
        """Checks that there are passages to draw negatives from.

        Raises:
            ValueError: names the argument.
        """
        for name, minimum in (
            ("refresh_steps", 0),
            ("refresh_skip", 0),
            ("refresh_depth", 1),
            ("refresh_negatives", 1),
        ):
            if getattr(self, name) < minimum:
                raise ValueError(f"{name}: expected {minimum} or more, got {getattr(self, name)}")
        room = self.refresh_depth - self.refresh_skip
        if self.refresh_negatives > room:
            raise ValueError(
                f"refresh_negatives: expected at most refresh_depth - refresh_skip, {room}, "
                f"got {self.refresh_negatives}"
            )
