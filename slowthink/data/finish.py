"""Why a generation ended, by the names that servers and libraries give to it: one table.

read_finish("MAX_TOKENS") is Finish.LENGTH
"""

from __future__ import annotations

import enum
import re


class Finish(enum.Enum):
    """How a generation ended."""

    STOP = "stop"
    """By itself: the text is whole."""
    LENGTH = "length"
    """Cut, by a limit or a content filter."""
    ERROR = "error"
    """By a failure of the server: another attempt may succeed."""


_NAMES = {
    Finish.STOP: (
        "stop eos eos_token stop_sequence end_turn end_of_turn stop_token stop_str done complete "
        "completed finished finish end tool_calls tool_call tool_use function_call matched_stop"
    ),
    Finish.LENGTH: (
        "length max_tokens max_length model_length max_output_tokens max_new_tokens limit "
        "max_completion_tokens token_limit context_length context_length_exceeded "
        "model_context_window_exceeded incomplete truncated content_filter content_filtered "
        "repetition safety recitation refusal blocklist prohibited_content spii sensitive"
    ),
    Finish.ERROR: (
        "error abort aborted cancel cancelled canceled timeout failed failure server_error "
        "internal_error engine_error network_error overloaded unavailable other "
        "insufficient_system_resource malformed_function_call disconnected interrupted"
    ),
}
_BY_NAME = {name: finish for finish, names in _NAMES.items() for name in names.split()}
_BY_PART = {
    Finish.ERROR: re.compile("error|fail|abort|timeout|timed_out|cancel|overload|disconnect"),
    Finish.LENGTH: re.compile("length|limit|max_|_max|truncat|filter|safety|block|prohibit|polic"),
}
"""What an unlisted name says by its parts."""


def read_finish(reason: object) -> Finish | None:
    """The end that a reason names, in any spelling; None if the reason is absent or unknown."""
    if not isinstance(reason, str):
        return None
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|[- ]", "_", reason.strip()).lower()
    name = name.removeprefix("finish_reason_")
    if name in _BY_NAME:
        return _BY_NAME[name]
    return next((finish for finish, part in _BY_PART.items() if part.search(name)), None)
