"""Samples made elsewhere: read (lm-eval, inspect, NeMo-Skills, plain rows), matched and graded.

{"doc_id": 7, "doc": {"question": "What is 17 + 25?"}, "target": "42", "resps": [["It is 42."]]}
"""

from slowthink.data.stored.grading import match, problems_of, rows_of
from slowthink.data.stored.read import read_stored
from slowthink.data.stored.samples import StoredSample, StoredSamples, select

__all__ = [
    "StoredSample",
    "StoredSamples",
    "match",
    "problems_of",
    "read_stored",
    "rows_of",
    "select",
]
