"""Packed rows: labels, positions and lengths."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from slowthink.stages.train.examples import TrainingExample
from slowthink.stages.train.packing import IGNORE_INDEX, pack

FIRST = TrainingExample(id="a", prompt_ids=(1, 9, 8), completion_ids=(4, 5, 2))
SECOND = TrainingExample(id="b", prompt_ids=(1, 2, 7), completion_ids=(6, 2))


def test_only_completion_tokens_have_labels_and_the_eos_is_one():
    batch = pack([[FIRST, SECOND]])
    assert batch["input_ids"].tolist() == [[1, 9, 8, 4, 5, 2, 1, 2, 7, 6, 2]]
    masked = [IGNORE_INDEX] * 3
    assert batch["labels"].tolist() == [[*masked, 4, 5, 2, *masked, 6, 2]]


def test_positions_start_at_0_in_each_example():
    batch = pack([[FIRST, SECOND]])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 6, 11]
    assert batch["max_length_q"] == 6


def test_an_empty_micro_batch_has_no_loss():
    assert set(pack([[]])["labels"].flatten().tolist()) == {IGNORE_INDEX}


def test_positions_with_loss_are_those_before_a_label():
    batch = pack([[FIRST, SECOND]])
    assert batch["loss_positions"].tolist() == [2, 3, 4, 8, 9]
    labels = batch["labels"][0]
    assert labels[batch["loss_positions"] + 1].tolist() == [4, 5, 2, 6, 2]
    assert pack([[]])["loss_positions"].tolist() == []


def test_lengths_are_ints_of_the_host():
    batch = pack([[FIRST, SECOND]])
    assert batch["lengths"] == (6, 5)
    assert all(type(length) is int for length in (*batch["lengths"], batch["max_length_q"]))
