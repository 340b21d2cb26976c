"""The figures of steps, read together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from slowthink.stages.train.schedule import StepSize
from slowthink.stages.train.step_log import STEPS_PER_READ, StepLog

SIZES = [StepSize(num_tokens=100, num_loss_tokens=40)] * 20


class _Devices:
    """An accelerator of two devices with the same figures."""

    num_processes = 2
    num_reads = 0

    def reduce(self, figures, reduction):
        self.num_reads += 1
        return figures


def _state():
    return SimpleNamespace(global_step=0, epoch=0.0)


def _add(log, state, loss, num_correct=None):
    state.global_step += 1
    right = torch.zeros((), dtype=torch.long) if num_correct is None else num_correct
    return log.add(state, loss, right, torch.tensor(2.0), 0.5)


def test_each_step_has_its_entry_though_steps_are_read_together():
    log, state, devices, loss = StepLog(SIZES), _state(), _Devices(), torch.zeros(())
    entries = []
    for number in range(STEPS_PER_READ + 2):
        loss += number
        assert _add(log, state, loss)
        assert loss == 0
        entries += log.read(devices, force=False)
    assert [entry["loss"] for entry in entries] == list(range(STEPS_PER_READ))
    entries += log.read(devices, force=True)
    assert [entry["step"] for entry in entries] == list(range(1, STEPS_PER_READ + 3))
    assert entries[-1]["grad_norm"] == 2.0
    assert devices.num_reads == 2
    assert log.read(devices, force=True) == []


def test_a_step_is_logged_once_and_no_step_not_at_all():
    log, state, loss = StepLog(SIZES), _state(), torch.ones(())
    right = torch.zeros((), dtype=torch.long)
    assert not log.add(state, loss, right, None, None)
    assert _add(log, state, loss)
    assert not log.add(state, loss, right, torch.tensor(2.0), 0.5)


def test_accuracy_is_that_of_all_devices_and_speed_that_of_the_steps_read():
    log, state, right = StepLog(SIZES, steps_per_read=2), _state(), torch.tensor(15)
    log.start()
    _add(log, state, torch.ones(()), right)
    assert right == 0
    _add(log, state, torch.ones(()), right)
    first, second = log.read(_Devices(), force=False)
    assert (first["token_accuracy"], second["token_accuracy"]) == (0.75, 0.0)
    assert first["tokens_per_second"] == second["tokens_per_second"] > 200
    assert first["memory_mb"] > 10
