"""Checkpoints are complete or absent."""

from __future__ import annotations

from slowthink.stages.train.checkpoint import PARTIAL, checkpoints, move_into_place


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
