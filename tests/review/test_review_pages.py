"""The pages and forms, without a browser: who may, what is blind, what is refused, what is kept."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path
from urllib.parse import unquote

import pytest

pytest.importorskip("starlette", reason="pip install 'slowthink[review]'")
from made_review import HOSTILE, MATHS_ATTACKS, make_run, make_trace, two_problems
from starlette.testclient import TestClient
from test_agreement import brute_alpha

from slowthink.cli.app import main
from slowthink.data.reviews import DATABASE
from slowthink.errors import ConfigError
from slowthink.recipe.scores import LengthScore
from slowthink.review import server
from slowthink.review.app import ReviewPages
from slowthink.review.chains import load_chains
from slowthink.review.store import ReviewStore
from slowthink.review.summary import summarise, summary_text
from slowthink.review.text import render, steps
from slowthink.stages.trace import chains_table
from slowthink.stages.trace.chains import ScoredChain, SourceChain

LOCAL = "http://127.0.0.1"


class Reader:
    """One person with one browser."""

    def __init__(self, pages: ReviewPages, name: str | None = None, base_url: str = LOCAL) -> None:
        self.client = TestClient(pages.app(), base_url=base_url, follow_redirects=False)
        if name is not None:
            self.entered = self.enter(name)
            self.token = token(self.get().text)

    def get(self, path: str = "/"):
        return self.client.get(path)

    def enter(self, name: str):
        return self.client.post("/enter", data={"name": name, "token": token(self.get().text)})

    def save(self, item: str, **fields):
        """Open the item and send its form with these fields."""
        page = self.get(f"/item/{item}").text
        values = {"token": token(page), "seen": re.search(r'name="seen" value="(\d+)"', page)[1]}
        return self.client.post(f"/item/{item}", data=values | {"note": ""} | fields)


def token(page: str) -> str:
    return re.search(r'name="token" value="(\w+)"', page)[1]


@pytest.fixture
def root(tmp_path) -> Path:
    return make_run(tmp_path / "run", two_problems())


@pytest.fixture
def make_pages(root):
    """Pages over the run's one database; opened anew as by a restart."""
    stores = []

    def make(**more) -> ReviewPages:
        stores.append(ReviewStore(root / DATABASE))
        return ReviewPages(stores[-1], load_chains(root), **more)

    yield make
    for store in stores:
        store.__exit__()


def ids(root: Path) -> list[str]:
    return list(load_chains(root).items)


def test_a_reader_goes_from_item_to_item_and_comes_back(make_pages, root) -> None:
    ann = Reader(make_pages(), "Ann")
    first, second, *_, pair = ids(root)
    assert ann.entered.status_code == 303 and "0 of 4 judged" in ann.get().text
    assert ann.get("/next").headers["location"] == f"/item/{first}"
    saved = ann.save(first, level="4", flags=["gap", "unclear"], note="skips a case")
    assert saved.headers["location"] == f"/next?after={first}"
    assert ann.get(saved.headers["location"]).headers["location"] == f"/item/{second}"
    page = ann.get(f"/item/{first}").text
    assert 'value="4" data-key="4" checked' in page and "skips a case</textarea>" in page
    assert "gap, unclear" in page and "1 of 4 judged" in ann.get().text
    assert unquote(ann.save(pair, preferred="equal").headers["location"]) == f"/next?after={pair}"


def test_what_is_shown_is_blind_until_all_have_judged(make_pages, root) -> None:
    pages, item = make_pages(), next(id for id in ids(root) if is_alone(root, id))
    ann, bo, cy = (Reader(pages, name) for name in ("Ann", "Bo", "Cy"))
    secrets = ("secret-teacher", "limo-v2", "correct", "0.125", "Ann", "it says so")
    ann.save(item, level="1", note="it says so")
    assert not any(secret in bo.get(f"/item/{item}").text for secret in secrets)
    assert not any(secret in bo.get().text for secret in secrets)
    assert "secret-teacher" not in ann.get(f"/item/{item}").text, "one of two has judged"
    bo.save(item, level="5")
    for reader, other in ((ann, "Bo"), (bo, "Ann")):
        page = reader.get(f"/item/{item}").text
        assert all(text in page for text in ("secret-teacher", "limo-v2", "correct", other))
        assert "<strong>differ</strong>" in reader.get().text
    assert not any(secret in cy.get(f"/item/{item}").text for secret in secrets)
    ann.save(item, level="5")
    blind = [each.blind for each in pages._store.judgements()]
    assert blind == [True, True, False], "what is changed afterwards is not blind"


def is_alone(root: Path, item: str) -> bool:
    """Whether no pair has this chain."""
    return sum(item in id for id in ids(root)) == 1


def test_a_chain_is_open_once_its_pair_is_judged_too(make_pages, root) -> None:
    pages, pair = make_pages(num_reviewers=1), ids(root)[-1]
    ann, (first, second) = Reader(pages, "Ann"), pair.split("~")
    for item in (first, second):
        ann.save(item, level="3")
        assert "secret-teacher" not in ann.get(f"/item/{first}").text
    ann.save(pair, preferred=first)
    assert all("secret-teacher" in ann.get(f"/item/{id}").text for id in (first, second, pair))


def test_odd_requests_are_refused_in_words(make_pages, root) -> None:
    ann, (item, *_) = Reader(make_pages(), "Ann"), ids(root)
    for fields in ({"level": "9" * 5_000}, {"level": "-1"}, {"level": "x"}, {"level": "²"}):
        assert ann.save(item, **fields).status_code == 422
    assert ann.save(item, level="3", seen="9" * 5_000).status_code == 303, "as none was seen"
    assert ann.client.post("/enter", data={str(n): "" for n in range(99)}).status_code == 400
    for headers in ({"host": "["}, {"host": ""}, {"host": "127.0.0.1.evil.example"}):
        assert ann.client.get("/", headers=headers).status_code == 421
    form = {"token": ann.token}
    assert ann.client.post("/leave", data=form, headers={"origin": "http://["}).status_code == 403


def test_an_incomplete_form_is_shown_again_with_its_text(make_pages, root) -> None:
    ann, (item, *_, pair) = Reader(make_pages(), "Ann"), ids(root)
    answer = ann.save(item, note="no level yet")
    assert answer.status_code == 422 and "level: missing" in answer.text
    assert "no level yet</textarea>" in answer.text
    assert ann.save(item, level="7").status_code == 422 and ann.save(pair).status_code == 422
    assert ann.save(item, level="3", note="n" * 10_001).status_code == 422
    assert ann.save(item, flags="bad").status_code == 303
    assert ann.save(item, level="3", note="n" * 250_000).status_code == 413


def test_a_stale_page_loses_nothing(make_pages, root) -> None:
    ann, (item, *_) = Reader(make_pages(), "Ann"), ids(root)
    page = ann.get(f"/item/{item}").text
    stale = {"token": token(page), "seen": "0", "level": "2", "note": "of the stale page"}
    ann.save(item, level="4", note="of the other tab")
    answer = ann.client.post(f"/item/{item}", data=stale)
    assert answer.status_code == 409 and "judged this meanwhile" in answer.text
    assert "of the stale page</textarea>" in answer.text and "of the other tab" in answer.text
    seen = re.search(r'name="seen" value="(\d+)"', answer.text)[1]
    assert ann.client.post(f"/item/{item}", data=stale | {"seen": seen}).status_code == 303


def test_a_form_sent_after_a_restart_is_saved(make_pages, root) -> None:
    ann, (item, *_) = Reader(make_pages(), "Ann"), ids(root)
    form = {"token": token(ann.get(f"/item/{item}").text), "seen": "0", "level": "2", "note": ""}
    again = Reader(make_pages())
    again.client.cookies = ann.client.cookies
    assert again.client.post(f"/item/{item}", data=form).status_code == 303


def test_a_form_whose_session_has_ended_is_kept(make_pages, root) -> None:
    pages, (item, *_) = make_pages(), ids(root)
    ann = Reader(pages, "Ann")
    form = {
        "token": token(ann.get(f"/item/{item}").text),
        "seen": "0",
        "level": "2",
        "note": "mine",
    }
    ann.client.post("/leave", data={"token": form["token"]})
    answer = ann.client.post(f"/item/{item}", data=form)
    assert answer.status_code == 401 and "mine</textarea>" in answer.text
    ann.enter("Ann")
    answer = ann.client.post(f"/item/{item}", data=form)
    assert answer.status_code == 409 and "mine</textarea>" in answer.text
    assert (
        ann.client.post(f"/item/{item}", data=form | {"token": token(answer.text)}).status_code
        == 303
    )


def test_a_form_of_a_chain_that_is_gone_is_kept(make_pages) -> None:
    ann = Reader(make_pages(), "Ann")
    answer = ann.client.post("/item/c-gone", data={"token": "x", "level": "2", "note": "mine"})
    assert answer.status_code == 409 and "mine</textarea>" in answer.text
    assert ann.get("/item/c-gone").status_code == 404
    assert ann.get("/item/c-a~c-b~c-c").status_code == 404


def test_a_full_disk_keeps_the_form(make_pages, root) -> None:
    pages, (item, *_) = make_pages(), ids(root)
    ann = Reader(pages, "Ann")
    pages_used = pages._store._db.execute("PRAGMA page_count").fetchone()[0]
    pages._store._db.execute(f"PRAGMA max_page_count = {pages_used}")
    answer = ann.save(item, level="3", note="n" * 9_000)
    assert answer.status_code == 507 and "database or disk is full" in answer.text
    assert "n" * 9_000 in answer.text


def test_two_of_one_name_at_once_are_refused(make_pages) -> None:
    pages = make_pages()
    Reader(pages, "Ann")
    second = Reader(pages, "ann")
    assert second.entered.status_code == 409
    assert "ann is reviewing in another browser. Leave there first" in second.entered.text
    only = make_pages(names=("Ann", "Bo"))
    assert Reader(only, "Eve").entered.status_code == 409
    assert Reader(only, "Bo").entered.status_code == 303
    with pytest.raises(ConfigError, match="two reviewers are called ann; expected a name each"):
        server.check_names(["Ann", "Bo", "ann"])
    for bad in ("", " ", "a\nb", "x" * 41, "\u202e"):
        assert Reader(pages, bad).entered.status_code == 409


@pytest.mark.parametrize("headers", [
    {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:81"},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
], ids=str)  # fmt: skip
def test_a_form_of_another_site_is_refused(make_pages, root, headers) -> None:
    pages, (item, *_) = make_pages(), ids(root)
    ann = Reader(pages, "Ann")
    form = {"token": token(ann.get(f"/item/{item}").text), "seen": "0", "level": "2", "note": ""}
    for path in (f"/item/{item}", "/leave", "/enter", "/alive"):
        assert ann.client.post(path, data=form, headers=headers).status_code == 403
    assert pages._store.judgements() == []
    assert ann.client.post("/leave", data=form | {"token": "0"}).status_code == 403
    assert ann.client.post(f"/item/{item}", data=form | {"token": "é"}).status_code == 409
    assert pages._store.judgements() == []
    assert ann.client.post(f"/item/{item}", data=form, headers={"origin": LOCAL}).status_code == 303


def test_only_this_machine_is_answered_without_a_token(make_pages) -> None:
    pages = make_pages()
    assert Reader(pages, base_url="http://evil.example").get().status_code == 421
    for host in ("http://localhost:9", "http://[::1]:8", LOCAL):
        assert Reader(pages, base_url=host).get().status_code == 200
    assert Reader(pages).client.put("/").status_code == 405


def test_wider_addresses_need_the_token(make_pages) -> None:
    pages = make_pages(key="k" * 32)
    other = Reader(pages, base_url="http://10.0.0.7:8384")
    for path in ("/", "/?token=" + "x" * 32, "/static/review.js", "/?token=é"):
        assert other.get(path).status_code == 403
    assert other.client.post("/alive").status_code == 403
    first = other.get("/?token=" + "k" * 32)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    assert "httponly" in first.headers["set-cookie"].lower()
    assert other.get().status_code == 200 and other.enter("Ann").status_code == 303


def test_every_answer_has_the_policy_and_no_inline_code(make_pages, root) -> None:
    ann, (item, *_, pair) = Reader(make_pages(), "Ann"), ids(root)
    for path in ("/", f"/item/{item}", f"/item/{pair}", "/static/review.js", "/none", "/item/x"):
        answer = ann.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy and answer.headers["x-content-type-options"] == "nosniff"
        if answer.headers["content-type"].startswith("text/html"):
            assert not re.search(r"<style|<script>|\son\w+=|\sstyle=|https?://", answer.text)


@pytest.mark.parametrize(
    "text", [*HOSTILE, *MATHS_ATTACKS], ids=range(len(HOSTILE) + len(MATHS_ATTACKS))
)
def test_hostile_text_is_escaped(text) -> None:
    tags = set(re.findall(r"<\s*/?\s*([^\s>/]+)", render(text)))
    assert tags <= {"div", "math", "mrow", "mi", "mo", "mn", "mtext", "mstyle"}
    attributes = set(re.findall(r'\s([\w-]+)="', render(text)))
    assert attributes <= {"class", "display", "title", "mathvariant", "stretchy"}
    assert steps(text)[0].html == render(text)


def test_maths_is_converted_or_stays_as_it_was() -> None:
    assert "<mfrac><mn>1</mn><mn>2</mn></mfrac>" in render(r"so $\frac12$")
    for text in (r"$\frac{$", r"$\nosuchcommand x$", "$5 and $6", "$" + "{" * 900 + "$", r"\[ x"):
        assert "<math" not in render(text) and text.replace("&", "&amp;") in render(text)
    assert render(r"\begin{align}a&=b\\c&=d\end{align}").count("<mtr>") == 2
    assert '<math display="block"' in render(r"\[x < y\]") and "<mo>&lt;</mo>" in render("$x<y$")


@pytest.mark.parametrize("text", [
    "$", "\\[", "\\(", "\\begin{align}", "$$ a ", "\n \n", " ", "a\n", "$x ", "\\[ x \\( y ",
    "{", "$" + "{" * 300 + "}" * 300 + "$", "\\[x\\] ",
])  # fmt: skip
def test_no_text_takes_long(text) -> None:
    started = time.process_time()
    steps(text * (60_000 // len(text)))
    assert time.process_time() - started < 2


def test_steps_are_paragraphs_of_some_length() -> None:
    long = "word " * 60
    assert [step.gist[:4] for step in steps(f"{long}\n\n{long}\n\nend")] == ["word", "word", "end"]
    assert [str(step.html) for step in steps("a\n\nb")] == ["a\n\nb"]
    assert len(steps("\n".join([long] * 3))) == 3, "lines, if there are no paragraphs"
    assert len(steps(f"\\[ {'x' * 300}\n\ny \\]\n\nz")) == 2, "a formula is not cut"


def test_fifty_chains_by_two_readers_agree_as_their_noise_says(tmp_path) -> None:
    """B is one level off for every third chain; figures by the definitions, through the forms."""
    rng = random.Random(3)
    truth = {f"chain {number}": 1 + number % 5 for number in range(50)}
    traces = [
        make_trace(f"Question {number}?", text, level=level, scores=json.dumps({"student-fit": -level}))
        for number, (text, level) in enumerate(truth.items())
    ]  # fmt: skip
    root = make_run(tmp_path / "fifty", traces)
    reviewed, pairs = load_chains(root), []
    with ReviewStore(root / DATABASE) as store:
        pages = ReviewPages(store, reviewed)
        ann, bo = Reader(pages, "Ann"), Reader(pages, "Bo")
        for number, item in enumerate(reviewed.items):
            a = truth[reviewed.chains[item].thinking]
            b = a if number % 3 else min(5, max(1, a + rng.choice((-1, 1))))
            for reader, level in ((ann, a), (bo, b)):
                form = {"token": reader.token, "level": level, "note": ""}
                assert reader.client.post(f"/item/{item}", data=form).status_code == 303
            pairs.append((a, b))
        page = ann.get().text
        figures = summarise(reviewed, store.judgements(), num_reviewers=2)
    alpha = brute_alpha(pairs)
    between = sum((a - b) ** 2 for a, _ in pairs for _, b in pairs) / 2500
    kappa = 1 - sum((a - b) ** 2 for a, b in pairs) / 50 / between
    exact = sum(a == b for a, b in pairs) / 50
    assert figures["alpha"] == pytest.approx(alpha, abs=1e-4) and 0.9 < alpha < 1
    assert figures["pairs_of_reviewers"] == [
        {"a": "Ann", "b": "Bo", "n": 50, "exact": exact, "kappa": round(kappa, 4)}
    ]
    assert figures["num_done"] == 50 and f"{alpha:.2f} of 50 chains" in page
    fit, own = figures["scores"][1], figures["scores"][0]
    assert own["score"] == "level of the trace stage" and own["spearman"] > 0.95
    assert fit["spearman"] == own["spearman"] > 0.9, "low values of student-fit are good"
    assert "alpha" in summary_text(figures) and "Ann" in summary_text(figures)


def test_the_command_reports_what_is_wrong(tmp_path, root, capsys) -> None:
    def error_of(*arguments: str, code: int = 1) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["review", *arguments])
        assert stop.value.code == code
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    assert "has no traces yet. Run: slowthink trace" in error_of(str(tmp_path / "empty"))
    run = str(root)
    assert "no such file; expected judgements" in error_of(run, "--summary")
    assert "has no texts of chains that were dropped" in error_of(run, "--all")
    twice = error_of(run, "--reviewer", "Ann", "--reviewer", "ANN", code=2)
    assert "two reviewers are called ANN" in twice
    assert "expected an address of this machine" in error_of(run, "--host", "192.0.2.1", code=2)
    assert "expected one of --export" in error_of(run, "--summary", "--export", "x", code=2)


def test_a_package_that_is_missing_is_named_with_its_pip_line(monkeypatch) -> None:
    monkeypatch.setattr(server, "PACKAGES", ("no_such_package",))
    with pytest.raises(ConfigError, match=r"pip install 'slowthink\[review\]'"):
        server.check_packages()


def test_dropped_chains_are_reviewed_with_all(tmp_path, root) -> None:
    kept, wrong = (
        ScoredChain(
            chain=SourceChain(location=f"a:{trace.thinking}", problem=trace.problem, imported=False,
                              thinking=trace.thinking, response="5", teacher="t"),
            grade=trace.grade, num_thinking_tokens=1, num_response_tokens=1, scores={"length": 0.5},
        )
        for trace in (two_problems()[0], make_trace("2 + 2?", "5"))
    )  # fmt: skip
    chains_table.write(
        root / "trace" / "chains.parquet", [kept, wrong], [], kept=[kept], scores=[LengthScore()],
        dropped=[wrong.chain.to_dropped("grade", "wrong")],
    )  # fmt: skip
    assert len(load_chains(root).chains) == 3
    everything = load_chains(root, all_chains=True)
    dropped = everything.chains[wrong.chain.chain_id]
    assert (dropped.question, dropped.thinking, dropped.scores) == ("2 + 2?", "5", {"length": 0.5})
    assert len(everything.chains) == 4 and kept.chain.chain_id not in everything.chains
    drawn = [load_chains(root, num_problems=1, seed=seed) for seed in range(8)]
    assert len({frozenset(each.items) for each in drawn}) == 2
    assert drawn[0].items == load_chains(root, num_problems=1, seed=0).items
