"""Teachers behind servers: chat APIs, refusals, faults and a kill in the middle, hidden thinking."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.needs import needs

pytestmark = needs("aiohttp")

from slowthink.errors import ConfigError, EngineError
from slowthink.pipeline.run_folder import make_context
from slowthink.recipe.loading import parse_recipe
from slowthink.records import Problem
from slowthink.serialise import from_plain, plain
from slowthink.stages.trace.chains import SourceChains
from slowthink.stages.trace.gather import gather_chains
from tests.servers.completions import Behaviour, Faults, Server, serve


@pytest.fixture
def problems(make_problem) -> list[Problem]:
    questions = [f"How long is this{'!' * n}?" for n in range(16)]
    return [make_problem(question, str(len(question)), source="t") for question in questions]


def settings(urls: Sequence[str], **teacher: Any) -> dict[str, Any]:
    endpoints = {"urls": list(urls), "api": "chat", "model": "toy", "max_retries": 8,
                 "max_concurrency": 4}  # fmt: skip
    engine = {"kind": "openai", "endpoints": endpoints | teacher.pop("endpoints", {})}
    source = {"kind": "teacher", "model": "toy", "engine": engine} | teacher
    pool = {"sources": [{"kind": "sandbox"}]}
    return {"name": "t", "pool": pool, "trace": {"sources": [source]}}


def gather(
    folder: Path, problems: Sequence[Problem], urls: Sequence[str], **teacher: Any
) -> SourceChains:
    recipe = parse_recipe(settings(urls, **teacher))
    context = make_context(recipe, folder, "trace", notify=lambda text: None)
    return gather_chains(context, problems)


def rows(gathered: SourceChains) -> list[Any]:
    """The chains, without the dates and the place of the server."""
    ignored = {"date": None, "engine": None, "fingerprint": None, "prompt_digest": None}
    return [
        plain(replace(chain, completion_key=None, provenance={**chain.provenance, **ignored}))
        for chain in gathered.chains
    ]


def test_a_chat_api_gives_reasoning_answer_and(tmp_path, problems) -> None:
    with serve() as server:
        gathered = gather(tmp_path, problems[:4], [server.url])
        assert "max_tokens" not in server.bodies[-1] or server.bodies[-1]["max_tokens"] > 2000
    chain = min(gathered.chains, key=lambda chain: len(chain.problem.question))
    assert (chain.thinking, chain.response) == ("Counting 'How long is this?'.", "It is 17.")
    assert (chain.provenance["tokens"], chain.provenance["prompt_tokens"]) == (12, 9)
    (facts,) = gathered.facts["teacher_runs"]
    assert (facts["num_right"], facts["num_no_thinking"], facts["num_hidden_thinking"]) == (4, 0, 0)


def test_faulty_servers_give_the_same_chains(tmp_path, problems) -> None:
    with serve() as server:
        expected = rows(gather(tmp_path / "calm", problems[:10], [server.url]))
    faults = Faults(broken=0.1, torn=0.15, busy=0.15, retry_after_seconds=0.01, seed=1)
    with serve(faults=faults) as one, serve(faults=replace(faults, seed=2)) as two:
        gathered = gather(tmp_path / "run", problems[:10], [one.url, two.url])
        assert one.counts["good"] and two.counts["good"]
    assert rows(gathered) == expected
    (facts,) = gathered.facts["teacher_runs"]
    assert sum(facts["server"].values()) >= 2


REFUSALS = {401: "engine.endpoints.api_key_env", 402: "status 402", 404: "engine.endpoints.model"}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_is_an_error_and_what_was_paid_is_kept(tmp_path, problems, status) -> None:
    from aiohttp import web

    with serve() as server:

        def refuse(data: dict[str, Any]) -> Any:
            if server.counts["good"] > 5:
                return web.Response(status=status, text="no")
            return data

        server.tamper = refuse
        with pytest.raises(EngineError, match=REFUSALS[status]):
            gather(tmp_path, problems, [server.url])
        server.tamper = None
        num_before = len(server.bodies)
        assert len(gather(tmp_path, problems, [server.url]).chains) == 16
        assert len(server.bodies) - num_before == 11


def test_an_unknown_model_is_refused_before_it_is_asked(tmp_path, problems) -> None:
    with serve() as server:
        with pytest.raises((ConfigError, EngineError), match="other"):
            gather(tmp_path, problems, [server.url], endpoints={"model": "other"})
        assert server.bodies == []


def test_hidden_thinking_is_recorded_as_hidden(tmp_path, problems) -> None:
    def hide(data: dict[str, Any]) -> dict[str, Any]:
        data["usage"]["completion_tokens_details"] = {"reasoning_tokens": 900}
        data["usage"]["completion_tokens"] = 912
        return data

    with serve(behaviour=Behaviour(returns_reasoning=False)) as server:
        never = gather(tmp_path / "never", problems[:3], [server.url])
        server.tamper = hide
        hidden = gather(tmp_path / "hidden", problems[:3], [server.url])
    (facts,) = never.facts["teacher_runs"]
    assert (facts["num_no_thinking"], facts["num_hidden_thinking"]) == (3, 0)
    (facts,) = hidden.facts["teacher_runs"]
    assert (facts["num_no_thinking"], facts["num_hidden_thinking"]) == (0, 3)
    assert {chain.provenance["hidden"] for chain in hidden.chains} != {None}
    assert (facts["tokens"], "hides" in hidden.facts["warnings"][0]) == (3 * 912, True)


# --- a kill in the middle -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_run_goes_on_and_asks_nothing_twice(tmp_path, problems) -> None:
    with serve() as server:
        expected = rows(gather(tmp_path / "calm", problems, [server.url]))
    with serve(faults=Faults(delay_seconds=0.05)) as server:
        work = {"settings": settings([server.url], endpoints={"max_concurrency": 1}),
                "folder": str(tmp_path / "run"), "problems": [plain(p) for p in problems]}  # fmt: skip
        (tmp_path / "work.json").write_text(json.dumps(work))
        command = [
            sys.executable,
            "-m",
            "tests.trace.test_teachers_servers",
            str(tmp_path / "work.json"),
        ]
        child = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        wait_for(server, 6)
        child.kill()
        child.wait()
        num_asked = len(server.bodies)
        with closing(sqlite3.connect(tmp_path / "run/ledger.sqlite")) as ledger:
            ((num_stored,),) = ledger.execute("SELECT COUNT(*) FROM chains")
        gathered = gather(tmp_path / "run", problems, [server.url])
        assert 0 < num_stored < 16
        assert len(server.bodies) - num_asked == 16 - num_stored
    assert rows(gathered) == expected


def wait_for(server: Server, num_bodies: int) -> None:
    deadline = time.monotonic() + 30
    while len(server.bodies) < num_bodies:
        assert time.monotonic() < deadline, "the run asks nothing"
        time.sleep(0.01)


def _gather_as_written(path: str) -> None:
    """Gather the chains that a file describes; a process of its own, to be killed."""
    work = json.loads(Path(path).read_text())
    recipe = parse_recipe(work["settings"])
    context = make_context(recipe, Path(work["folder"]), "trace", notify=lambda text: None)
    gather_chains(context, [from_plain(Problem, row) for row in work["problems"]])


if __name__ == "__main__":
    _gather_as_written(sys.argv[1])
