"""A sampling run in a process of its own, killed at random moments and started again.

python -m benchmarks.killing --kills 50 --model smollm2-135m --json     # without: on scripts
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
    """Takes its time, so that a kill finds it at work."""

    def completed(self, timeout: float | None = None) -> Any:
        time.sleep(0.003)
        return super().completed(timeout)


def open_made(model: str, problems: list[Problem]) -> Session:
    if model == SCRIPTED:
        scripts = {
            one.question: Script(thinking=(f"t{n}" * (n % 4 + 1), " hm", " so"), answer=f"{n}")
            for n, one in enumerate(problems)
        }
        return SlowReplay(scripts, tokens_per_call=3)
    from slowthink.engines.transformers.session import TransformersSession

    session = TransformersSession(model, EngineConfig(dtype="float32", batch_size=4))
    session.checkpoint_seconds = 0.2
    return session


def work(path: Path, model: str, num_problems: int) -> list[Any]:
    """Ask everything; prints a line for each record that is on the disk."""

    class Telling(Ledger):
        def record(self, *args: Any, **more: Any) -> None:
            super().record(*args, **more)
            print(".", flush=True)

    problems = make_problems(num_problems)
    with open_made(model, problems) as session, Telling(path) as ledger:
        print("ready", flush=True)
        tasks = make_tasks(
            session, problems, recipe=Recipe(name="r"), chat=ChatConfig(format="s1"),
            budget=Budget(answer_tokens=12), sampling=Sampling(), points=POINTS,
        )  # fmt: skip
        found = Sampler(session, ledger, tag="t").complete(tasks)
    return [plain(completion) for completions in found for completion in completions]


def start(path: Path, model: str, num_problems: int, out: Path) -> subprocess.Popen[str]:
    code = (
        "import sys, json; from pathlib import Path; from benchmarks.killing import work; "
        "a = sys.argv; found = work(Path(a[1]), a[2], int(a[3])); "
        "Path(a[4]).write_text(json.dumps(found, sort_keys=True))"
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
    """What a ledger holds."""

    chains: dict[str, Chain]
    answers: dict[str, Any]
    counted: int
    """Tokens that it says were decoded."""
    durable: int
    """Tokens of the chains and answers that it holds which somebody decoded."""
    num_rows: int
    num_records: int


def contents(path: Path) -> Contents:
    with sqlite3.connect(path) as database:
        keys = [key for (key,) in database.execute("SELECT key FROM chains")]
        num = sum(database.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0]
                  for t in ("chains", "answers"))  # fmt: skip
        (records,) = database.execute("SELECT COUNT(*) FROM spent").fetchone()
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    with Ledger(path) as ledger:
        chains, answers = ledger.chains(keys), ledger.answers(keys)
        counted = ledger.spent("t")[0].decoded
    thought = sum(
        len(chain.ids) - sum(event.forced for event in chain.events) + len(chain.events)
        for chain in chains.values()
    )
    said = sum(len(one.ids) + (one.end_reason.value == "stop") for one in answers.values())
    return Contents(
        chains=chains, answers=answers, counted=counted, durable=thought + said, num_rows=num,
        num_records=records,
    )  # fmt: skip


def killed_run(
    folder: Path, *, model: str, num_problems: int, num_kills: int, most_records: int, seed: int = 0
) -> dict[str, Any]:
    """Kill the run at random moments, see after each kill that all told is there, and finish it."""
    rng, path = random.Random(seed), folder / "killed.sqlite"
    kills = counted = rows = told = 0
    while kills < num_kills:
        child = start(path, model, num_problems, folder / "killed.json")
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.wait()
        read = sum(bool(child.stdout.readline()) for _ in range(rng.randint(0, most_records)))
        time.sleep(rng.random() * 0.01)
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().count(".")
        child.stdout.close()
        if child.wait() == 0:
            break
        kills += 1
        found = contents(path)
        assert found.counted == found.durable, "counted is durable, and the other way round"
        told += read + rest
        assert found.num_records >= told, "what was told to be recorded is there"
        assert found.counted >= counted and found.num_rows >= rows, "nothing is lost"
        counted, rows = found.counted, found.num_rows
    killed = finish(path, model, num_problems, folder / "killed.json")
    whole = finish(folder / "whole.sqlite", model, num_problems, folder / "whole.json")
    one, other = contents(path), contents(folder / "whole.sqlite")
    return {
        "kills": kills,
        "same_completions": killed == whole,
        "same_chains": one.chains == other.chains,
        "same_answers": one.answers == other.answers,
        "tokens_counted": one.counted,
        "tokens_durable": one.durable,
        "tokens_without_kills": other.counted,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--model", default=SCRIPTED, help="A model in place of scripts.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    real = options.model != SCRIPTED
    with tempfile.TemporaryDirectory() as folder:
        figures = killed_run(
            Path(folder), model=options.model, num_kills=options.kills,
            num_problems=48 if real else 200, most_records=3 if real else 60, seed=1,
        )  # fmt: skip
    show(figures, json=options.json)
