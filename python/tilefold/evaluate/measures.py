"""Names of measures, as ir_measures spells them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .formulas import FORMULAS

_ALIASES = {
    "ndcg": "nDCG",
    "ndcg_cut": "nDCG",
    "rr": "RR",
    "mrr": "RR",
    "recip_rank": "RR",
    "r": "R",
    "recall": "R",
    "p": "P",
    "precision": "P",
    "ap": "AP",
    "map": "AP",
    "map_cut": "AP",
    "success": "Success",
    "rprec": "Rprec",
    "judged": "Judged",
}
_SPELLING = re.compile(
    r"""(?P<name> [a-z_]+? )
        (?: \( (?: rel=(?P<rel>\d+) | dcg=(?P<quote>['"]) (?P<dcg>[a-z0-9-]+) (?P=quote) ) \) )?
        (?: [@_] (?P<cutoff>\d+) )?""",
    re.IGNORECASE | re.VERBOSE,
)
_NEED_CUTOFF = {"R", "P", "Success"}
_NO_CUTOFF = {"Rprec"}
_NO_REL = {"nDCG", "Judged"}
_GAINS = ("log2", "exp-log2")


@dataclass(frozen=True)
class Measure:
    """One metric, `str()` of which is its canonical name: nDCG@10, P(rel=2)@5, AP.

    Args:
        name: nDCG, RR, R, P, AP, Rprec, Success or Judged.
        cutoff: ranks that count; None for all.
        rel: the lowest gain of a relevant document; nDCG weighs gains and has none.
        dcg: of nDCG only: "log2" takes gains as they are, "exp-log2" as 2^gain − 1.
    """

    name: str
    cutoff: int | None = None
    rel: int = 1
    dcg: str = "log2"

    def __post_init__(self) -> None:
        if self.name not in FORMULAS:
            raise ValueError(f"Measure: unknown name {self.name!r}; use one of {list(FORMULAS)}")
        if self.cutoff is None and self.name in _NEED_CUTOFF:
            raise ValueError(f"Measure: {self.name} needs a cutoff, as in {self.name}@10")
        if self.cutoff is not None and self.name in _NO_CUTOFF:
            raise ValueError(f"Measure: {self.name} does not take a cutoff, got {self.cutoff}")
        if self.cutoff is not None and self.cutoff < 1:
            raise ValueError(f"Measure: the cutoff of {self} must be at least 1")
        if self.rel < 1 or (self.rel > 1 and self.name in _NO_REL):
            raise ValueError(f"Measure: {self.name} does not take rel={self.rel}")
        if self.dcg not in _GAINS or (self.dcg != "log2" and self.name != "nDCG"):
            raise ValueError(f"Measure: {self.name} does not take dcg={self.dcg!r}")

    @classmethod
    def parse(cls, text: str) -> Measure:
        """Reads the spellings of ir_measures and trec_eval, in any case.

        >>> [str(Measure.parse(text)) for text in ("mrr@10", "ndcg_cut_10", "recall_100", "map")]
        ['RR@10', 'nDCG@10', 'R@100', 'AP']
        >>> print(Measure.parse("nDCG(dcg='exp-log2')@10"))
        nDCG(dcg='exp-log2')@10
        """
        match = _SPELLING.fullmatch(text.strip())
        name = _ALIASES.get(match["name"].lower()) if match else None
        if match is None or name is None:
            raise ValueError(
                f"Measure.parse: cannot read {text!r}; write nDCG@10, RR@10, R@100, P@5, AP, "
                f"Rprec, Success@20, Judged@10, P(rel=2)@5 or nDCG(dcg='exp-log2')@10"
            )
        cutoff = int(match["cutoff"]) if match["cutoff"] else None
        return cls(name, cutoff, int(match["rel"] or 1), (match["dcg"] or "log2").lower())

    def __str__(self) -> str:
        option = f"(rel={self.rel})" if self.rel != 1 else ""
        option = f"(dcg={self.dcg!r})" if self.dcg != "log2" else option
        return f"{self.name}{option}" + (f"@{self.cutoff}" if self.cutoff is not None else "")
