"""The encoding of a user's CSV file: UTF-8, or that of Chinese spreadsheets on Windows.

csv_encoding(Path("exam.csv"))  # "gb18030"
"""

from __future__ import annotations

import codecs
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

MIN_COMMON = 0.9
"""Minimum share of frequent characters in Chinese text."""
_log = logging.getLogger(__name__)


def csv_encoding(path: Path) -> str:
    """UTF-8; or GB18030 (GBK is a part of it), where the whole file decodes as Chinese text in it,
    which is printed."""
    if _decodes(path, "utf-8") or not _decodes(path, "gb18030", is_plausible=_is_mostly_chinese):
        return "utf-8"
    _say_encoding(path)
    return "gb18030"


def _decodes(
    path: Path, encoding: str, is_plausible: Callable[[str], bool] = lambda text: True
) -> bool:
    """Whether the whole file has this encoding, and its first non-ASCII block is plausible."""
    decoder = codecs.getincrementaldecoder(encoding)()
    checked = False
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                text = decoder.decode(block)
                if not checked and not text.isascii():
                    checked = True
                    if not is_plausible(text):
                        return False
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_mostly_chinese(text: str) -> bool:
    """Whether nearly all characters beyond ASCII are frequent Chinese ones or their punctuation, as
    they hardly are where text of another encoding is decoded as Chinese."""
    beyond_ascii = [char for char in text if not char.isascii()]
    return sum(_is_common(char) for char in beyond_ascii) >= MIN_COMMON * len(beyond_ascii)


def _is_common(char: str) -> bool:
    """Whether a character is in level 1 of GB 2312, or among its punctuation."""
    code = char.encode("gb2312", "ignore")
    return len(code) == 2 and (code[0] in (0xA1, 0xA3) or 0xB0 <= code[0] <= 0xD7)


@cache
def _say_encoding(path: Path) -> None:
    """Print once that a file is not UTF-8; on stderr, unless the logging is configured."""
    _log.warning(
        "%s: not UTF-8; it is read as GB18030 (GBK). If its texts look wrong, save it as "
        "CSV UTF-8.",
        path,
    )
