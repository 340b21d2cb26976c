"""A file of samples → StoredSamples: each row read by its form, what cannot be used set aside.

samples_gsm8k.jsonl:812, step read: `resps` holds no generated text (log-likelihoods?)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from slowthink.data.rows import BadRow, SourceRow, UnusableValue, as_evidence, read_rows
from slowthink.data.stored.formats import FORMATS, UNNUMBERED, detect_format
from slowthink.data.stored.samples import StoredSample, StoredSamples
from slowthink.errors import DataError
from slowthink.records import Dropped
from slowthink.serialise import digest

SAME_RESPONSES = "the same responses, under another filter"


@dataclass
class _Reader:
    """What has been read so far."""

    name: str
    samples: list[StoredSample] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    form: str = ""
    num_rows: int = 0
    counts: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    """Samples by problem and model."""
    filters: dict[str, str] = field(default_factory=dict)
    """Of lm-eval's documents, by their responses: each filter writes them all again."""

    def take(self, row: SourceRow | BadRow) -> None:
        self.num_rows += 1
        try:
            found = self._read(row)
        except UnusableValue as error:
            told = row.evidence if isinstance(row, BadRow) else _show(row)
            self.dropped.append(
                Dropped(id=f"{self.name}:{row.line}", step="read", reason=str(error), evidence=told)
            )
        else:
            self.samples += found

    def _read(self, row: SourceRow | BadRow) -> list[StoredSample]:
        """Raises ValueProblem where the row cannot be used."""
        if isinstance(row, BadRow):
            raise UnusableValue(row.reason)
        form = detect_format(row.values)
        if form is None:
            raise UnusableValue(f"of no known form ({', '.join(f.name for f in FORMATS)})")
        found = form.read(row.values)
        if self._seen(row, found):
            raise UnusableValue(SAME_RESPONSES)
        self.form = self.form or form.name
        return list(self._numbered(found, line=row.line))

    def _seen(self, row: SourceRow, found: list[StoredSample]) -> bool:
        name = row.values.get("filter")
        if not isinstance(name, str):
            return False
        key = digest([row.values.get("doc_id"), found[0].problem_id, [s.response for s in found]])
        return self.filters.setdefault(key, name) != name

    def _numbered(self, found: list[StoredSample], *, line: int) -> Iterator[StoredSample]:
        for place, sample in enumerate(found):
            key = (sample.problem_id, sample.model)
            number = self.counts[key] if sample.sample == UNNUMBERED else sample.sample
            self.counts[key] += 1
            where = f"#{place}" if len(found) > 1 else ""
            yield replace(sample, sample=number, address=f"{self.name}:{line}{where}")


def read_stored(path: str | Path, *, setting: str) -> StoredSamples:
    """The samples of a file, told by their columns; `setting` is the path's recipe key.

    Rows that cannot be used are set aside with their line and reason. Raises DataError where the
    file cannot be read, or no row can be used.
    """
    reader = _Reader(Path(path).name)
    for row in read_rows(path, setting=setting):
        reader.take(row)
    if not reader.samples:
        reasons = "; ".join(dict.fromkeys(drop.reason for drop in reader.dropped[:100]))
        raise DataError(
            f"{path}: none of {reader.num_rows} rows can be used ({reasons:.300}); expected "
            "lm-eval's samples, or rows with `question` and `response`. "
            f"Mend the file, or name another: --set {setting}=PATH"
        )
    return StoredSamples(
        samples=tuple(reader.samples), dropped=tuple(reader.dropped), form=reader.form
    )


def _show(row: SourceRow) -> str:
    return as_evidence(json.dumps(row.values, ensure_ascii=False, default=str))
