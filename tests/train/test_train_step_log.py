"""The figures of steps, read together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from slowthink.stages.train.step_log import STEPS_PER_READ, StepLog


class _OneDevice:
    """An accelerator without others to average with."""

    num_reads = 0

    def reduce(self, figures, reduction):
        self.num_reads += 1
        return figures


def _state():
    return SimpleNamespace(global_step=0, epoch=0.0, log_history=[])


def _add(log, state, loss):
    state.global_step += 1
    return log.add(state, loss, torch.tensor(2.0), 0.5)


def test_each_step_has_its_entry_though_steps_are_read_together():
    log, state, device, loss = StepLog(), _state(), _OneDevice(), torch.zeros(())
    for number in range(STEPS_PER_READ + 2):
        loss += number
        assert _add(log, state, loss)
        assert loss == 0
        log.flush(state, device, force=False)
    assert [entry["loss"] for entry in state.log_history] == list(range(STEPS_PER_READ))
    log.flush(state, device, force=True)
    assert [entry["step"] for entry in state.log_history] == list(range(1, STEPS_PER_READ + 3))
    assert state.log_history[-1]["grad_norm"] == 2.0
    assert device.num_reads == 2


def test_a_step_is_logged_once_and_no_step_not_at_all():
    log, state, loss = StepLog(), _state(), torch.ones(())
    assert not log.add(state, loss, None, None)
    assert _add(log, state, loss)
    assert not log.add(state, loss, torch.tensor(2.0), 0.5)
