"""Documents as parallel columns of ids, texts and titles."""

from __future__ import annotations

from dataclasses import dataclass, field

from .text_columns import fill_column


@dataclass(frozen=True)
class Documents:
    """Documents of a corpus, in the order of its file; titles are not joined with texts.

    Args:
        ids: m unique ids.
        texts: m texts, without their titles.
        titles: m titles, "" where a document has none; an empty list for no titles at all.

    Raises:
        ValueError: the columns differ in length.
    """

    ids: list[str]
    texts: list[str]
    titles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        fill_column(self, "titles", len(self.texts))
        for name in ("ids", "titles"):
            if len(getattr(self, name)) != len(self.texts):
                raise ValueError(
                    f"Documents: expected {len(self.texts)} {name}, got {len(getattr(self, name))}"
                )

    def __len__(self) -> int:
        """Returns the number of documents."""
        return len(self.texts)

    def rows(self) -> dict[str, int]:
        """Returns the row of each id.

        >>> Documents(["d7", "d8"], ["one", "two"]).rows()
        {'d7': 0, 'd8': 1}
        """
        return {name: row for row, name in enumerate(self.ids)}
