"""Talk on stderr: a line per event, and a bar with an estimate on long work."""

from __future__ import annotations

import sys
import time
from typing import Any

from slowthink.recipe import STAGES

EVERY_SECONDS = 15


class ProgressReporter:
    """What a run tells its user while it works; everything goes to stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._last = 0.0
        self._first: tuple[int, float] | None = None
        """Done and the clock when this work was first heard of."""
        self._total = 0

    def __enter__(self) -> ProgressReporter:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def notify(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            self._close()
            print(text, file=sys.stderr, flush=True)

    def begin(self, stage: str) -> None:
        """A stage starts."""
        self.notify(f"[{STAGES.index(stage) + 1}/{len(STAGES)}] {stage}")

    def end(self, stage: str, manifest: dict[str, Any], seconds: float) -> None:
        """A stage is done."""
        self.notify(
            f"      {manifest['num_records']} rows, {manifest['num_dropped']} dropped, "
            f"{seconds:.1f} s, {manifest['peak_rss_mb']} MB"
        )

    def progress(self, done: int, total: int) -> None:
        """So much of the long work is done: a bar on a terminal, else a line every 15 seconds.

        What was done at the first call (an earlier run's, say) tells nothing about the speed.
        """
        if self.quiet or not total:
            return
        if sys.stderr.isatty():
            self._draw(done, total)
            return
        now = time.monotonic()
        if self._first is None or total != self._total or done < self._first[0]:
            self._first, self._total, self._last = (done, now), total, now
        elif now - self._last > EVERY_SECONDS or done == total:
            self._last = now
            before, started = self._first
            rest = ""
            if done > before:
                left = (now - started) * (total - done) / (done - before)
                rest = f", about {left:.0f} s left"
            print(f"      {done}/{total}{rest}", file=sys.stderr, flush=True)

    def _draw(self, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress, TimeElapsedColumn, TimeRemainingColumn

        if self._bar is None:
            columns = (
                *Progress.get_default_columns()[:3],
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("      ", total=total)
        self._bar.update(self._task, completed=done, total=total)
        if done >= total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
