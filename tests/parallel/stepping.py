"""A toy model that thinks in steps, seeded like a real one."""

from __future__ import annotations

from slowthink.engines.replay import ReplaySession, Script
from slowthink.engines.session import draw_uniform


class SteppingSession(ReplaySession):
    """Thinks lines of `+1`, `+2` or `+3`, chosen by the request's seed, until their sum is 6 or more;
    answers with the sum. So chains differ, and good ones can be recognised early."""

    def __init__(self) -> None:
        super().__init__({})
        self.num_jobs = 0

    def _replay(self, job):
        self.num_jobs += 1
        self._seed = job.request.seed, job.request.sample
        return super()._replay(job)

    def _script(self, prompt_ids):
        thinking = self.tokenizer.decode(prompt_ids).split("think\n", 1)[1]
        text = "\n" if thinking and not thinking.endswith("\n") else ""
        total = total_of(thinking)
        while total < 6:
            step = 1 + int(3 * draw_uniform(*self._seed, len(thinking + text)))
            text, total = f"{text}+{step}\n", total + step
        return Script(thinking=(text,), answer=str(total_of(thinking)))


def total_of(text: str) -> int:
    """The sum of the steps in a text."""
    return sum(int(line[1:]) for line in text.split("\n") if line[:1] == "+" and line[1:].isdigit())
