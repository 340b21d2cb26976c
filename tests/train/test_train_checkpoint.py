"""Checkpoints are complete or absent."""

from __future__ import annotations

import pytest

from slowthink.errors import ConfigError, DataError
from slowthink.stages.train.checkpoint import (
    PARTIAL,
    check_files,
    check_processes,
    checkpoints,
    move_into_place,
    write_processes,
)


def _write(work, number):
    folder = work / PARTIAL / f"checkpoint-{number}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_text(str(number))


def test_a_checkpoint_being_written_is_ignored(tmp_path):
    _write(tmp_path, 50)
    assert checkpoints(tmp_path) == []
    move_into_place(tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-50"]


def test_the_last_two_are_kept_by_number_not_by_name(tmp_path):
    for number in (50, 100, 150):
        _write(tmp_path, number)
        move_into_place(tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-100", "checkpoint-150"]


def test_a_checkpoint_written_again_replaces_the_old_one(tmp_path):
    for _ in range(2):
        _write(tmp_path, 50)
        move_into_place(tmp_path)
    assert (checkpoints(tmp_path)[0] / "optimizer.pt").read_text() == "50"


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "the digests"])
def test_a_damaged_checkpoint_is_not_resumed(damage, tmp_path):
    _write(tmp_path, 50)
    move_into_place(tmp_path)
    (checkpoint,) = checkpoints(tmp_path)
    check_files(checkpoint)
    file = checkpoint / ("digests.json" if damage == "the digests" else "optimizer.pt")
    file.unlink() if damage == "remove" else file.write_text(
        {"flip": "40", "cut": "5"}.get(damage, "{")
    )
    with pytest.raises(DataError, match=rf"{file.name}: is missing or has changed.*rm -r .*-50"):
        check_files(checkpoint)


def test_an_older_checkpoint_has_no_digests(tmp_path):
    check_files(tmp_path)


@pytest.mark.parametrize(("number", "sharded"), [(2, False), (1, True), (4, True)])
def test_a_checkpoint_of_other_processes_is_refused(number, sharded, tmp_path):
    write_processes(tmp_path, num_processes=4, sharded=False)
    check_processes(tmp_path, num_processes=4, sharded=False)
    with pytest.raises(ConfigError, match="--processes 4 --set train.parallel=data"):
        check_processes(tmp_path, num_processes=number, sharded=sharded)


def test_a_checkpoint_without_a_record_is_that_of_one_process(tmp_path):
    check_processes(tmp_path, num_processes=1, sharded=False)
    with pytest.raises(ConfigError, match=r"written by 1 process\(es\)"):
        check_processes(tmp_path, num_processes=2, sharded=False)
