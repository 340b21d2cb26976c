"""A corpus of what goes wrong in files of problems: each kind as bytes, and what is to be said.

ROWS: one broken row among good ones, set aside with a reason. FILES: a file that cannot be used at
all, refused with a message. Nothing here is from elsewhere.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CONTROL = "holds a control or bidirectional-override character"


def line(**values: Any) -> bytes:
    return json.dumps({"question": "What is 2 + 2?", "answer": "4"} | values).encode()


def asked(text: str, *, raw: bool = True) -> bytes:
    row = {"question": text, "answer": "1"}
    return json.dumps(row, ensure_ascii=not raw).encode("utf-8", "surrogatepass")


JSON = "not valid JSON"
EMPTY = "`question` is missing or empty"
UTF8 = "not valid UTF-8"

ROWS: dict[str, tuple[bytes, str]] = {
    # --- not JSON, or not an object ---
    "torn": (b'{"question": "What is', JSON),
    "two objects in a line": (line() + line(), JSON),
    "trailing comma": (b'{"question": "a?", "answer": "1",}', JSON),
    "single quotes": (b"{'question': 'a?', 'answer': '1'}", JSON),
    "comment": (b'{"question": "a?"} // fine', JSON),
    "Python words": (b'{"question": "a?", "answer": None}', JSON),
    "bare text": (b"What is 2 + 2?", JSON),
    "record separator before the object": (b"\x1e" + line(), JSON),
    "raw tab in a string": (b'{"question": "a\tb?", "answer": "1"}', JSON),
    "bad escape": (b'{"question": "\\frac \\q", "answer": "1"}', JSON),
    "number of 5,000 digits": (b'{"question": ' + b"9" * 5000 + b"}", JSON),
    "100,000 open lists": (b"[" * 100_000, JSON),
    "100,000 open objects": (b'{"a":' * 100_000, JSON),
    "byte order mark inside": (b"\xef\xbb\xbf" + line(), JSON),
    "a list": (b"[1, 2]", "the row is a list; expected an object"),
    "a list nested 900 deep": (b"[" * 900 + b"]" * 900, "the row is a list; expected an object"),
    "a number": (b"17", "the row is a number; expected an object"),
    "a string": (b'"What is 2 + 2?"', "the row is a string; expected an object"),
    "a boolean": (b"true", "the row is a boolean; expected an object"),
    "null": (b"null", "the row is empty; expected an object"),
    "NaN": (b"NaN", "the row is a number; expected an object"),
    "a key twice": (b'{"question": "a?", "question": "b?"}', "names a key twice"),
    "a key twice, inside": (b'{"question": "a?", "meta": {"x": 1, "x": 2}}', "names a key twice"),
    "a line of 9 MB": (line(solution="a" * 9_000_000), "a line above 8,000,000 bytes"),
    # --- encodings ---
    "Latin-1": (b'{"question": "caf\xe9?", "answer": "1"}', UTF8),
    "GBK": ('{"question": "求和?", "answer": "1"}'.encode("gbk"), UTF8),
    "overlong form": (b'{"question": "\xc0\xafa?", "answer": "1"}', UTF8),
    "torn character": (b'{"question": "a\xe6\xb1?", "answer": "1"}', UTF8),
    "surrogate as bytes": (b'{"question": "a\xed\xa0\x80?", "answer": "1"}', UTF8),
    "UTF-16 in one line": ('{"question": "a?"}'.encode("utf-16-le"), "holds a NUL byte"),
    "NUL byte": (b'{"question": "a\x00b", "answer": "1"}', "holds a NUL byte"),
    "NUL escape": (b'{"question": "a\\u0000b", "answer": "1"}', "`question` holds a NUL byte"),
    "lone surrogate": (b'{"question": "a \\ud800?"}', "`question` is not valid UTF-8"),
    "lone surrogate in the answer": (b'{"question": "a?", "answer": "\\udfff"}', "`answer` is not valid UTF-8"),
    "lone surrogate in the solution": (b'{"question": "a?", "answer": "1", "solution": "\\udc00"}', "`solution` is not valid UTF-8"),
    "lone surrogate in the id": (b'{"question": "a?", "answer": "1", "id": "\\udc00"}', "`id` is not valid UTF-8"),
    "lone surrogate in a key": (b'{"\\ud800": "a?", "answer": "1"}', EMPTY),
    # --- wrong types ---
    "empty object": (b"{}", EMPTY),
    "question absent": (b'{"answer": "1"}', EMPTY),
    "question null": (line(question=None), EMPTY),
    "question blank": (line(question=" \n\t "), EMPTY),
    "question a zero-width space": (asked("\u200b\u200b"), "`question` holds no letter or digit"),
    "question of marks": (asked("???"), "`question` holds no letter or digit"),
    "question the word nan": (asked("NaN"), EMPTY),
    "question a number": (line(question=5), "`question` is a number; expected a string"),
    "question a fraction": (line(question=0.5), "`question` is a number; expected a string"),
    "question NaN": (b'{"question": NaN, "answer": "1"}', "`question` is a number; expected a string"),
    "question true": (line(question=True), "`question` is a boolean; expected a string"),
    "question a list": (line(question=["a?"]), "`question` is a list; expected a string"),
    "question chat messages": (line(question=[{"role": "user", "content": "a?"}]), "`question` is a list; expected a string"),
    "question an object": (line(question={"text": "a?"}), "`question` is an object; expected a string"),
    "answer true": (line(answer=True), "`answer` is a boolean; expected a string"),
    "answer a list": (line(answer=["1"]), "`answer` is a list; expected a string"),
    "answer an object": (line(answer={"value": 1}), "`answer` is an object; expected a string"),
    "answer infinite": (b'{"question": "a?", "answer": Infinity}', "`answer` is not a finite number"),
    "answer 1e999": (b'{"question": "a?", "answer": -1e999}', "`answer` is not a finite number"),
    "solution a list": (line(solution=["x"]), "`solution` is a list; expected a string"),
    "options a string": (line(choices="A or B"), "`choices` is a string; expected a list of strings"),
    "options of numbers": (line(choices=[1, 2]), "`choices` is a number; expected a string"),
    "options with a hole": (line(choices=["a", None]), "`choices` is empty; expected a string"),
    "an option empty": (line(choices=["a", " "]), "an option is empty"),
    "two options equal": (line(choices=["a", "a"]), "two options are equal"),
    "domain a list": (line(domain=["x"]), "`domain` is a list; expected a string"),
    "garbage nested 500 deep": (b'{"question": ' + b'{"a": [' * 250 + b"1" + b"]}" * 250 + b"}", "`question` is an object; expected a string"),
    "id of another row": (line(id="first"), "duplicate `id`"),
    # --- too much, or not to be seen ---
    "question of 60,000 characters": (asked("a" * 60_000), "`question` is above 50,000 characters"),
    "answer of 4,000 digits and more": (line(answer="9" * 6000), "`answer` is above 5,000 characters"),
    "solution of 1,000,001 characters": (line(solution="a" * 1_000_001), "`solution` is above 1,000,000 characters"),
    "backspace": (line(question="\begin{a} 1?"), f"`question` {CONTROL}"),
    "form feed of a lost \\frac": (line(question="\frac{1}{2}?"), f"`question` {CONTROL}"),
    "form feed of a lost \\frac in the answer": (line(answer="\frac{1}{2}"), f"`answer` {CONTROL}"),
    "escape sequence": (line(question="\x1b[31mWhat is 1?"), f"`question` {CONTROL}"),
    "C1 control": (asked("What\x85 is 1?"), f"`question` {CONTROL}"),
    "bell in the answer": (line(answer="\x074"), f"`answer` {CONTROL}"),
    "bidirectional override": (asked("What is \u202e21\u202c?"), f"`question` {CONTROL}"),
    "bidirectional isolate": (asked("What is \u206621\u2069?"), f"`question` {CONTROL}"),
    "no character": (asked("What is \ufffe1?"), f"`question` {CONTROL}"),
    "control in an option": (line(choices=["a\x01", "b"]), f"an option {CONTROL}"),
}  # fmt: skip
"""Kind → a JSONL line, and the reason it is set aside with."""

CSV: dict[str, tuple[bytes, list[str]]] = {
    "a cell too many": (b"question,answer\na?,1\nb?,2,3\n", ["has 3 cells; expected 2, as the header"]),
    "a cell too few": (b"question,answer\na?,1\nb?\n", ["has 1 cells; expected 2, as the header"]),
    "an open quote": (b'question,answer\na?,1\n"b?,2\nc?,3\n', ["not valid CSV"]),
    "text after a quote": (b'question,answer\na?,1\n"b"?,2\n', ["not valid CSV"]),
    "a lone carriage return": (b"question,answer\na?,1\nb\r?,2\n", ["not valid CSV"]),
    "Latin-1": (b"question,answer\na?,1\ncaf\xe9,2\n", ["not valid UTF-8: convert the file"]),
    "NUL": (b"question,answer\na?,1\nb\x00?,2\n", ["`question` holds a NUL byte"]),
    "no question": (b"question,answer\na?,1\n,2\n", [EMPTY]),
    "a line of 9 MB": (b"question,answer\na?,1\n" + b"b" * 9_000_000 + b",2\n", ["a line above 8,000,000 bytes"]),
}  # fmt: skip
"""Kind → a CSV file with one good row, and the reasons of the others."""


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("pool.jsonl", data)
    return out.getvalue()


def spoilt(data: bytes) -> bytes:
    """A Parquet file whose footer is right and whose pages are not."""
    half = len(data) // 3
    return data[:4] + b"\xff" * (half - 4) + data[half:]


GOOD = pa.table({"question": [f"What is {n} + 1?" for n in range(500)], "answer": ["1"] * 500})
TWINS = pa.Table.from_arrays([pa.array(["a?"]), pa.array(["b?"])], names=["question", "question"])

FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("pool.jsonl", b"", "no rows; expected at least one"),
    "blank lines alone": ("pool.jsonl", b"\n \n\n", "no rows; expected at least one"),
    "byte order mark alone": ("pool.jsonl", b"\xef\xbb\xbf", "no rows; expected at least one"),
    "CSV header alone": ("pool.csv", b"question,answer\n", "no rows; expected at least one"),
    "CSV empty": ("pool.csv", b"", "no rows; expected at least one"),
    "CSV with a column twice": ("pool.csv", b"question,answer,question\na,1,b\n", "two columns are named `question`"),
    "CSV by semicolons": ("pool.csv", b"question;answer\na?;1\n", "the delimiter is ';'"),
    "CSV in UTF-16": ("pool.csv", "question,answer\na?,1\n".encode("utf-16"), "is UTF-16 text"),
    "JSONL in UTF-16": ("pool.jsonl", '{"question": "a?"}\n'.encode("utf-16"), "is UTF-16 text"),
    "zip in disguise": ("pool.jsonl", zipped(line()), "is a zip archive"),
    "zip as Parquet": ("pool.parquet", zipped(line()), "is a zip archive"),
    "gzip in disguise": ("pool.jsonl", gzip.compress(line()), "is a gzip file"),
    "Git LFS pointer": ("pool.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "web page": ("pool.jsonl", b"<!DOCTYPE html><html>Not found</html>", "is a web page"),
    "PDF": ("pool.csv", b"%PDF-1.7\n", "is a PDF"),
    "noise": ("pool.jsonl", bytes(range(128, 256)) * 40, "none of 1 rows can be used"),
    "pretty-printed JSON": ("pool.jsonl", json.dumps([{"question": "a?"}], indent=1).encode(), "none of 5 rows can be used"),
    "JSON torn": ("pool.json", b'[{"question": "a?"', "not valid JSON"),
    "JSON an object": ("pool.json", b'{"question": "a?"}', "contains an object; expected a list"),
    "JSON an empty list": ("pool.json", b"[]", "no rows; expected at least one"),
    "JSON 100,000 deep": ("pool.json", b"[" * 100_000, "not valid JSON"),
    "JSON not UTF-8": ("pool.json", b'[{"question": "caf\xe9"}]', "not valid JSON"),
    "Parquet truncated": ("pool.parquet", parquet(GOOD)[:-40], "not a Parquet file"),
    "Parquet's first half": ("pool.parquet", parquet(GOOD)[: len(parquet(GOOD)) // 2], "not a Parquet file"),
    "Parquet with spoilt pages": ("pool.parquet", spoilt(parquet(GOOD)), "not a Parquet file"),
    "Parquet empty": ("pool.parquet", b"", "not a Parquet file"),
    "Parquet without rows": ("pool.parquet", parquet(GOOD.slice(0, 0)), "no rows; expected at least one"),
    "Parquet with a column twice": ("pool.parquet", parquet(TWINS), "two columns are named `question`"),
    "Parquet of bytes": ("pool.parquet", parquet(pa.table({"question": [b"a?"], "answer": ["1"]})), "`question` is bytes; expected a string"),
    "Parquet of times": ("pool.parquet", parquet(pa.table({"question": ["a?"], "answer": pa.array([2**62], pa.timestamp("us"))})), "a value is out of range"),
    "JSONL called Parquet": ("pool.parquet", line(), "not a Parquet file"),
    "text": ("pool.txt", b"What is 2 + 2?", "a `.txt` file"),
}  # fmt: skip
"""Kind → name, bytes, and what the refusal says."""
