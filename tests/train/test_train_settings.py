"""Settings of training that depend on each other."""

from __future__ import annotations

import pytest

from slowthink.errors import ConfigError
from slowthink.recipe.loading import parse_recipe


def train_section(**settings):
    return parse_recipe({"name": "made", "train": settings}).train


@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({}, 1e-5),
        ({"lora": {}}, 1e-4),
        ({"lora": None}, 1e-5),
        ({"lora": {}, "learning_rate": 3e-5}, 3e-5),
    ],
)
def test_a_lora_has_ten_times_the_rate_unless_it_is_given(settings, rate):
    assert train_section(**settings).learning_rate == rate


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora": {"quantize": "nf4"}, "parallel": "fsdp2"}, "4-bit weights"),
        ({"offload": True}, "Set parallel: fsdp2"),
        ({"offload": True, "parallel": "data"}, "Set parallel: fsdp2"),
        ({"report_to": ["elsewhere"]}, "report_to"),
    ],
)
def test_an_impossible_pair_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        train_section(**settings)


def test_the_number_of_processes_changes_no_result():
    from slowthink.pipeline.contract import stage_settings

    one, two = (parse_recipe({"name": "m", "processes": n, "train": {}}) for n in (1, 2))
    assert stage_settings(one, "train") == stage_settings(two, "train")
