"""Progress on stderr: one line per event, and a bar or a line with the remaining time."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

from slowthink.recipe import STAGES
from slowthink.serialise import printable

LINE_INTERVAL_SECONDS = 15


class ProgressReporter:
    """Prints the messages and the progress of a run to stderr, unless `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar: Any = None
        self._bar_task: Any = None
        self._last_line_time = 0.0
        self._start: tuple[int, float] | None = None
        """Items done, and the time, at the first report of the current task."""
        self._done = self._total = 0

    def __enter__(self) -> ProgressReporter:
        return self

    def __exit__(self, *error: object) -> None:
        self._close_bar()

    def notify(self, text: str) -> None:
        """Print one message."""
        if not self.quiet:
            self._close_bar()
            _print(text)

    def report_start(self, stage: str) -> None:
        """Report that a stage starts."""
        self.notify(f"[{STAGES.index(stage) + 1}/{len(STAGES)}] {stage}")

    def report_end(self, stage: str, manifest: dict[str, Any], seconds: float) -> None:
        """Report that a stage is done."""
        self.notify(
            f"      {manifest['num_records']} rows, {manifest['num_dropped']} dropped, "
            f"{seconds:.1f} s, {manifest['peak_rss_mb']} MB"
        )

    def progress(self, done: int, total: int) -> None:
        """Report the number of items done: a bar on a terminal, else a line every 15 seconds.

        Speed is measured from the first report, since the items done until then may be cached.
        """
        if self.quiet or not total:
            return
        if sys.stderr.isatty():
            self._draw_bar(done, total)
            return
        now = time.monotonic()
        is_new_task = self._start is None or total != self._total or done < self._done
        self._done = done
        if self._start is None or is_new_task:
            self._start, self._total, self._last_line_time = (done, now), total, now
        elif now - self._last_line_time > LINE_INTERVAL_SECONDS or done == total:
            self._last_line_time = now
            start_done, start_time = self._start
            estimate = ""
            if done > start_done:
                seconds = (now - start_time) * (total - done) / (done - start_done)
                estimate = f", about {seconds:.0f} s left"
            _print(f"      {done}/{total}{estimate}")

    def _draw_bar(self, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn

        if self._bar is None:
            columns = (*Progress.get_default_columns()[:3], TimeElapsedColumn())
            self._bar = Progress(
                *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
            )
            self._bar.start()
            self._bar_task = self._bar.add_task("      ", total=total)
        self._bar.update(self._bar_task, completed=done, total=total)
        if done >= total:
            self._close_bar()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _print(text: str) -> None:
    """Print on stderr, if that can still be written: a run does not end with its terminal."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)
