"""Records as a sequence that becomes a DataFrame.

run.rows("evaluate").where(arm="tuned", waits=0).to_pandas()
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from slowthink.errors import missing_extra
from slowthink.records import Dropped
from slowthink.serialise import plain

if TYPE_CHECKING:
    import pandas

R = TypeVar("R")


class Rows(Sequence[R], Generic[R]):
    """Records of one class, in order."""

    def __init__(self, records: Iterable[R], *, dropped: Iterable[Dropped] = ()) -> None:
        self._records = tuple(records)
        self.dropped = tuple(dropped)
        """Rows that were left out, each with its reason."""

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[R]:
        return iter(self._records)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Rows[R]: ...
    def __getitem__(self, index: int | slice) -> R | Rows[R]:
        """A record, or the records of a slice."""
        return Rows(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __repr__(self) -> str:
        name = type(self._records[0]).__name__ if self._records else "record"
        return f"<{len(self)} rows of {name}, {len(self.dropped)} dropped>"

    def where(self, **values: object) -> Rows[R]:
        """The records with these values; enums by their text, e.g. `verdict="wrong"`.

        Raises AttributeError for a field that the records do not have.
        """
        return Rows(
            record
            for record in self._records
            if all(plain(getattr(record, name)) == plain(value) for name, value in values.items())
        )

    def to_pandas(self) -> pandas.DataFrame:
        """A row per record, a column per field; fields of nested records as `problem.question`."""
        return to_frame([plain(record) for record in self._records])


def to_frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """A DataFrame of these rows. Raises ConfigError if pandas is not installed."""
    try:
        import pandas
    except ImportError:
        raise missing_extra("pandas", extra="notebook") from None
    return pandas.json_normalize([dict(row) for row in rows])
