"""Reads a file of samples into StoredSamples: each row by its format; unusable rows are dropped.

samples_gsm8k.jsonl:812, step read: `resps` holds no generated text (log-likelihoods?)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from slowthink.data.messages import SEPARATE_COLUMN
from slowthink.data.problems import unusable_row
from slowthink.data.rows import BadRow, SourceRow, UnusableValue, read_rows
from slowthink.data.stored.formats import FORMATS, UNNUMBERED, detect_format
from slowthink.data.stored.samples import StoredSample, StoredSamples
from slowthink.errors import DataError
from slowthink.records import Dropped
from slowthink.serialise import digest

SAME_RESPONSES = "the same responses, under another filter"


@dataclass
class SampleReader:
    """Reads the rows of one file."""

    name: str
    """The file's name."""
    samples: list[StoredSample] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    format: str = ""
    """Of the first usable row."""
    num_samples: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    """By problem and model."""
    filters: dict[str, str] = field(default_factory=dict)
    """lm-eval's filter by digest of a document's responses: each filter repeats all documents."""

    def add(self, row: SourceRow | BadRow) -> None:
        """Add the samples of a row, or drop it with the reason."""
        try:
            self.samples += self._read(row)
        except UnusableValue as error:
            self.dropped.append(unusable_row(row, f"{self.name}:{row.line}", str(error)))

    def _read(self, row: SourceRow | BadRow) -> list[StoredSample]:
        """The samples of a row. Raises UnusableValue if it cannot be used."""
        if isinstance(row, BadRow):
            raise UnusableValue(row.reason)
        row_format = detect_format(row.values)
        if row_format is None:
            raise UnusableValue(f"of no known form ({', '.join(f.name for f in FORMATS)})")
        samples = row_format.read(row.values)
        if self._is_repeat(row, samples):
            raise UnusableValue(SAME_RESPONSES)
        self.format = self.format or row_format.name
        return list(self._numbered(samples, line=row.line))

    def _is_repeat(self, row: SourceRow, samples: list[StoredSample]) -> bool:
        """Whether the row repeats a document's responses under another of lm-eval's filters."""
        name = row.values.get("filter")
        if not isinstance(name, str):
            return False
        responses = [sample.response for sample in samples]
        key = digest([row.values.get("doc_id"), samples[0].problem_id, responses])
        return self.filters.setdefault(key, name) != name

    def _numbered(self, samples: list[StoredSample], *, line: int) -> Iterator[StoredSample]:
        """The samples with their numbers and locations; unnumbered ones get the next number."""
        for index, sample in enumerate(samples):
            key = (sample.problem_id, sample.model)
            number = self.num_samples[key] if sample.sample == UNNUMBERED else sample.sample
            self.num_samples[key] += 1
            suffix = f"#{index}" if len(samples) > 1 else ""
            yield replace(sample, sample=number, location=f"{self.name}:{line}{suffix}")


def cut_thinking(samples: Sequence[StoredSample]) -> list[StoredSample]:
    """The samples; text in which thinking never ends is thinking that was cut.

    A model whose prompts open thinking writes closing delimiters only. A sample without one, whose
    own end is not stated, was cut if other samples of its model close their thinking.
    """
    closes = {
        s.model for s in samples if s.closing and not s.opened and s.closing != SEPARATE_COLUMN
    }
    opens = {sample.model for sample in samples if sample.opened}

    def is_cut(sample: StoredSample) -> bool:
        is_plain = sample.thinking is None and bool(sample.response)
        return is_plain and sample.truncated is not False and sample.model in closes - opens

    return [
        replace(s, thinking=s.response, response="", truncated=True) if is_cut(s) else s
        for s in samples
    ]


def read_stored(path: str | Path, *, setting: str) -> StoredSamples:
    """The samples of a file; the columns determine its format. `setting` is the path's recipe key.

    Raises DataError if the file cannot be read or no row can be used.
    """
    stored = stored_from_rows(read_rows(path, setting=setting), name=Path(path).name)
    if not stored.samples:
        reasons = "; ".join(dict.fromkeys(drop.reason for drop in stored.dropped[:100]))
        raise DataError(
            f"{path}: none of {len(stored.dropped)} rows can be used ({reasons:.300}); expected "
            "lm-eval's samples, or rows with `question` and `response`. "
            f"Fix the file, or name another: --set {setting}=PATH"
        )
    return stored


def stored_from_rows(rows: Iterable[SourceRow | BadRow], *, name: str) -> StoredSamples:
    """The samples of rows that are already read; `name` is their file's, for locations."""
    reader = SampleReader(name)
    for row in rows:
        reader.add(row)
    return StoredSamples(
        samples=tuple(cut_thinking(reader.samples)),
        dropped=tuple(reader.dropped),
        format=reader.format,
    )
