"""A sampling run in a separate process, killed at random moments and started again.

python -m benchmarks.killing --kills 50 --model smollm2-135m --json     # default model: scripts
"""

from __future__ import annotations

import argparse
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import show
from slowthink.engines.replay import ReplaySession, Script
from slowthink.engines.session import Point, Session
from slowthink.recipe import ChatConfig, EngineConfig, Recipe
from slowthink.records import Budget, Chain, Problem, Sampling, duplicate_key, problem_id
from slowthink.sampling.ledger import Ledger
from slowthink.sampling.sampler import Sampler, make_tasks
from slowthink.serialise import plain

POINTS = (Point(0), Point(6), Point(12), Point(24), Point(24, 1), Point(24, 2))
SCRIPTED = "scripts"


def make_problems(num: int) -> list[Problem]:
    questions = [f"What is {3 * i + 2} + {i * i % 17}?" for i in range(num)]
    return [
        Problem(id=problem_id(q), duplicate_key=duplicate_key(q), question=q, source="made",
                source_row="0") for q in questions
    ]  # fmt: skip


class SlowReplay(ReplaySession):
    """Sleeps before each result, so that the process is killed in the middle."""

    def completed(self, timeout: float | None = None) -> Any:
        time.sleep(0.003)
        return super().completed(timeout)


def open_test_session(model: str, problems: list[Problem]) -> Session:
    if model == SCRIPTED:
        scripts = {
            problem.question: Script(thinking=(f"t{n}" * (n % 4 + 1), " hm", " so"), answer=f"{n}")
            for n, problem in enumerate(problems)
        }
        return SlowReplay(scripts, tokens_per_call=3)
    from slowthink.engines.transformers.session import TransformersSession

    session = TransformersSession(model, EngineConfig(dtype="float32", batch_size=4))
    session.checkpoint_seconds = 0.2
    return session


def complete_all(path: Path, model: str, num_problems: int) -> list[Any]:
    """Complete all tasks; prints a line after each transaction of the ledger."""

    class ReportingLedger(Ledger):
        def record(self, *args: Any, **options: Any) -> None:
            super().record(*args, **options)
            print(".", flush=True)

    problems = make_problems(num_problems)
    with open_test_session(model, problems) as session, ReportingLedger(path) as ledger:
        print("ready", flush=True)
        tasks = make_tasks(
            session, problems, recipe=Recipe(name="r"), chat=ChatConfig(format="s1"),
            budget=Budget(answer_tokens=12), sampling=Sampling(), points=POINTS,
        )  # fmt: skip
        by_task = Sampler(session, ledger, tag="t").complete(tasks)
    return [plain(completion) for completions in by_task for completion in completions]


def start(path: Path, model: str, num_problems: int, out: Path) -> subprocess.Popen[str]:
    code = (
        "import sys, json; from pathlib import Path; from benchmarks.killing import complete_all; "
        "a = sys.argv; completions = complete_all(Path(a[1]), a[2], int(a[3])); "
        "Path(a[4]).write_text(json.dumps(completions, sort_keys=True))"
    )
    root = Path(__file__).parent.parent
    arguments = [sys.executable, "-c", code, str(path), model, str(num_problems), str(out)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=root)


def finish(path: Path, model: str, num_problems: int, out: Path) -> str:
    child = start(path, model, num_problems, out)
    child.communicate()
    assert child.returncode == 0
    return out.read_text()


@dataclass
class Contents:
    """Contents of a ledger."""

    chains: dict[str, Chain]
    answers: dict[str, Any]
    num_counted: int
    """Number of decoded tokens, as counted by the ledger."""
    num_durable: int
    """Number of decoded tokens in the stored chains and answers."""
    num_rows: int
    num_records: int


def read_contents(path: Path) -> Contents:
    with sqlite3.connect(path) as database:
        keys = [key for (key,) in database.execute("SELECT key FROM chains")]
        num_rows = sum(database.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0]
                  for t in ("chains", "answers"))  # fmt: skip
        (num_records,) = database.execute("SELECT COUNT(*) FROM spent").fetchone()
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    with Ledger(path) as ledger:
        chains, answers = ledger.chains(keys), ledger.answers(keys)
        num_counted = ledger.spent("t")[0].decoded
    num_thinking = sum(
        len(chain.ids) - sum(event.forced for event in chain.events) + len(chain.events)
        for chain in chains.values()
    )
    num_answer = sum(len(a.ids) + (a.end_reason.value == "stop") for a in answers.values())
    return Contents(
        chains=chains, answers=answers, num_counted=num_counted,
        num_durable=num_thinking + num_answer, num_rows=num_rows, num_records=num_records,
    )  # fmt: skip


def killed_run(
    folder: Path, *, model: str, num_problems: int, num_kills: int, most_records: int, seed: int = 0
) -> dict[str, Any]:
    """Kill the run at random moments, check after each that all reported results are stored, and
    finish it."""
    rng, path = random.Random(seed), folder / "killed.sqlite"
    kills = num_counted = num_rows = num_reported = 0
    while kills < num_kills:
        child = start(path, model, num_problems, folder / "killed.json")
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.wait()
        num_read = sum(bool(child.stdout.readline()) for _ in range(rng.randint(0, most_records)))
        time.sleep(rng.random() * 0.01)
        child.send_signal(signal.SIGKILL)
        num_unread = child.stdout.read().count(".")
        child.stdout.close()
        if child.wait() == 0:
            break
        kills += 1
        contents = read_contents(path)
        assert contents.num_counted == contents.num_durable, "counted tokens are those stored"
        num_reported += num_read + num_unread
        assert contents.num_records >= num_reported, "reported transactions are stored"
        assert contents.num_counted >= num_counted and contents.num_rows >= num_rows, "nothing lost"
        num_counted, num_rows = contents.num_counted, contents.num_rows
    killed = finish(path, model, num_problems, folder / "killed.json")
    whole = finish(folder / "whole.sqlite", model, num_problems, folder / "whole.json")
    resumed, complete = read_contents(path), read_contents(folder / "whole.sqlite")
    return {
        "kills": kills,
        "same_completions": killed == whole,
        "same_chains": resumed.chains == complete.chains,
        "same_answers": resumed.answers == complete.answers,
        "tokens_counted": resumed.num_counted,
        "tokens_durable": resumed.num_durable,
        "tokens_without_kills": complete.num_counted,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--model", default=SCRIPTED, help="A model instead of scripts.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    real = options.model != SCRIPTED
    with tempfile.TemporaryDirectory() as folder:
        figures = killed_run(
            Path(folder), model=options.model, num_kills=options.kills,
            num_problems=48 if real else 200, most_records=3 if real else 60, seed=1,
        )  # fmt: skip
    show(figures, json=options.json)
