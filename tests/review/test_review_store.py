"""The database of reviews: what is saved stays, also after kills, on a full disk, of another run."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from made_review import judgement, loaded, write_lines

from slowthink.data.reviews import DATABASE, read_reviews, review_digest, to_judgement
from slowthink.errors import DataError, EngineError
from slowthink.review import exchange
from slowthink.review.store import SEAT_SECONDS, Changed, ReviewStore, Taken
from slowthink.serialise import plain

WRITER = """
import sys
from contextlib import closing
from pathlib import Path
from slowthink.data.reviews import Judgement
from slowthink.review.store import ReviewStore
with ReviewStore(Path(sys.argv[1])) as store:
    for number in range(10_000):
        item = f"c-{sys.argv[2]}-{number}"
        store.add(Judgement(kind="chain", item=item, problem_id="p", reviewer="Ann", level=3,
                            note="n" * 500, at="2026-01-01T00:00:00Z"), seen=0)
        print(item, flush=True)
"""
"""Saves judgements, and prints each one that is saved, until it is killed."""


@pytest.fixture
def reviewed(tmp_path):
    return loaded(tmp_path / "run")


@pytest.fixture
def store(tmp_path, reviewed):
    with ReviewStore(tmp_path / "run" / DATABASE) as opened:
        yield opened


def test_the_last_judgement_counts_and_none_is_lost(store, reviewed) -> None:
    item = next(iter(reviewed.items))
    first = store.add(judgement(reviewed, item, "Ann", level=2), seen=0)
    with pytest.raises(Changed):
        store.add(judgement(reviewed, item, "Ann", level=4), seen=0)
    store.add(judgement(reviewed, item, "Ann", level=4, note="wait"), seen=first)
    assert [each.level for each in store.judgements()] == [2, 4]
    assert store.add(judgement(reviewed, item, "Bo", level=1), seen=0) == 3


def test_a_name_has_one_seat_until_it_is_left_or_not_seen_any_more(store) -> None:
    session = store.enter("Ann")
    with pytest.raises(Taken):
        store.enter("ann")
    assert store.reviewer_of(session) == "Ann" and store.reviewer_of("x") is None
    store.leave(session)
    assert store.reviewer_of(session) is None
    again = store.enter("ANN")
    assert store.reviewer_of(again) == "Ann", "in the case of the first time"
    later = store.enter("Ann", clock=1e10)
    assert SEAT_SECONDS < 1e10 and store.reviewer_of(again) is None
    assert store.reviewer_of(later) == "Ann"


def test_two_programs_may_have_it_open(store, reviewed, tmp_path) -> None:
    item = next(iter(reviewed.items))
    with ReviewStore(store.path) as other:
        other.add(judgement(reviewed, item, "Bo", level=5), seen=0)
        assert other.form_token("s") == store.form_token("s")
    assert store.judgements()[0].reviewer == "Bo"
    assert read_reviews(store.path) == [store.judgements()[0]]


def test_a_full_disk_is_reported_and_nothing_is_lost(store, reviewed) -> None:
    item, *others = reviewed.items
    store.add(judgement(reviewed, item, "Ann", level=2), seen=0)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(EngineError, match=r"full; expected .* What was saved before is safe"):
        store.add(judgement(reviewed, others[0], "Ann", level=2, note="n" * 9_000), seen=0)
    assert [each.item for each in store.judgements()] == [item]
    store._db.execute("PRAGMA max_page_count = 10000")
    store.add(judgement(reviewed, others[0], "Ann", level=2, note="n" * 9_000), seen=0)


def test_a_file_of_another_kind_is_refused_unchanged(tmp_path) -> None:
    path = tmp_path / DATABASE
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE chains (x)")
    before = path.read_bytes()
    for use in (ReviewStore, read_reviews):
        with pytest.raises(DataError, match="another"):
            use(path)
    assert path.read_bytes() == before
    path.write_bytes(b"not a database, but long enough to be read as one" * 30)
    with pytest.raises(DataError, match="not a database; expected a database of reviews"):
        ReviewStore(path)
    with pytest.raises(DataError, match="no such file; expected judgements"):
        read_reviews(tmp_path / "none")


def test_reviews_of_another_run_are_refused(tmp_path, reviewed, store) -> None:
    foreign = judgement(reviewed, next(iter(reviewed.items)), "Ann", level=2)
    own = plain(foreign)
    row = to_judgement(own | {"item": "c-0", "flags": []})
    path = write_lines(tmp_path / "foreign.jsonl", [row])
    with pytest.raises(DataError, match="none of its 1 judged chains is in this run's"):
        exchange.import_reviews(tmp_path / "run", path, reviewed)
    assert store.judgements() == []
    mixed = write_lines(tmp_path / "mixed.jsonl", [row, foreign])
    assert exchange.import_reviews(tmp_path / "run", mixed, reviewed)["num_unknown"] == 1


def test_jsonl_out_and_in_gives_the_same_judgements(tmp_path, reviewed, store) -> None:
    ids = list(reviewed.items)
    for number, item in enumerate(ids):
        more = {"preferred": "equal"} if "~" in item else {"level": 1 + number, "flags": ("gap",)}
        store.add(judgement(reviewed, item, "Ann", note="<b>\u2028 ∑", **more), seen=0)
    out = tmp_path / "out.jsonl"
    assert exchange.export_reviews(tmp_path / "run", out)["num_judgements"] == len(ids)
    with pytest.raises(DataError, match="exists already"):
        exchange.export_reviews(tmp_path / "run", out)
    other = loaded(tmp_path / "other")
    for num_new in (len(ids), 0):
        assert exchange.import_reviews(tmp_path / "other", out, other)["num_new"] == num_new
    assert read_reviews(tmp_path / "other" / DATABASE) == read_reviews(store.path)
    assert review_digest(out) == review_digest(store.path)


@pytest.mark.parametrize(("change", "message"), [
    ({"level": 6}, "level: expected 1 to 5"), ({"level": "3"}, "`level` is of type str"),
    ({"level": True}, "`level` is of type bool"), ({"flags": ["x"]}, "flags: expected some of bad"),
    ({"reviewer": ""}, "reviewer: expected"), ({"reviewer": "a\nb"}, "reviewer: expected"),
    ({"level": None}, "level: missing"), ({"at": "today"}, "does not match format"),
    ({"kind": "x"}, "kind: expected"), ({"more": 1}, "expected an object"),
    ({"kind": "pair"}, "preferred: missing"), ({"note": "n" * 10_001}, "note: expected"),
])  # fmt: skip
def test_rows_that_are_no_judgement_are_listed_and_none_is_imported(
    tmp_path, reviewed, store, change, message
) -> None:
    good = judgement(reviewed, next(iter(reviewed.items)), "Ann", level=2)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(plain(good)) + "\n" + json.dumps(plain(good) | change) + "\nx\n")
    with pytest.raises(DataError) as error:
        exchange.import_reviews(tmp_path / "run", path, reviewed)
    assert f"{path}:2: " in str(error.value) and message in str(error.value)
    assert "2 rows cannot be used" in str(error.value) and store.judgements() == []


@pytest.mark.slow
def test_it_survives_a_kill_at_twenty_moments(tmp_path) -> None:
    path = tmp_path / DATABASE
    printed: set[str] = set()
    for moment in range(20):
        command = [sys.executable, "-c", WRITER, str(path), str(moment)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            printed |= {writer.stdout.readline().strip() for _ in range(3 * moment + 1)}
            writer.send_signal(signal.SIGKILL)
            printed |= {line for line in writer.stdout.read().split("\n")[:-1] if line}
        saved = [judgement.item for judgement in read_reviews(path)]
        assert printed <= set(saved) and len(saved) == len(set(saved))
        assert len(saved) <= len(printed) + moment + 1, "at most one more a kill"
        with ReviewStore(path) as store:
            assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert [each.item for each in store.judgements()] == saved
    assert len(printed) > 500
