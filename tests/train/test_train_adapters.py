"""LoRA and QLoRA: merged, or kept and merged when an engine loads them."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from slowthink.engines.models import NF4_FILE, fingerprint, load_tokenizer, resolve_model
from slowthink.recipe import LoraConfig, TrainConfig
from tests.needs import needs

pytestmark = [pytest.mark.slow, needs("trl")]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def train(source, tokenizer, examples, work, **lora):
    from slowthink.stages.train.loop import fine_tune

    config = TrainConfig(
        epochs=2, batch_size=4, learning_rate=0.02, lora=LoraConfig(rank=4, alpha=8, **lora)
    )
    work.mkdir()
    tuned = fine_tune(source, tokenizer, examples, config, work=work, seed=3)
    return tuned, config.lora


def logits_of(model, examples, **more):
    ids = torch.tensor([examples[0].prompt_ids])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits.float()


def load(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize(
    "quantize", [None, pytest.param("nf4", marks=needs("bitsandbytes"))], ids=["lora", "qlora"]
)
def test_merged_and_kept_adapters_are_the_trained_model(
    quantize, tiny_model, smollm_tokenizer, examples, tmp_path, own_cache
):
    from slowthink.stages.train.model import save_for_serving

    tuned, lora = train(
        tiny_model, smollm_tokenizer, examples, tmp_path / "work", quantize=quantize
    )
    trained = logits_of(tuned.model, examples, lengths=(len(examples[0].prompt_ids),))
    for merge in (True, False):
        save_for_serving(
            tuned.model, smollm_tokenizer, tmp_path / str(merge) / "model", source=tiny_model,
            lora=lora.model_copy(update={"merge": merge}),
        )  # fmt: skip
    merged, kept = tmp_path / "True" / "model", tmp_path / "False" / "model"
    assert (merged.parent / "adapter" / "adapter_config.json").exists()
    assert not (kept / "model.safetensors").exists() and not (kept.parent / "adapter").exists()
    assert (kept / NF4_FILE).exists() is (quantize == "nf4")
    loaded = resolve_model(str(kept))
    assert fingerprint(loaded) == fingerprint(merged)
    assert load_tokenizer(str(kept)).chat_template == smollm_tokenizer.chat_template
    untrained = logits_of(load(tiny_model), examples)
    assert (trained - untrained).abs().max() > 0.05
    torch.testing.assert_close(logits_of(load(merged), examples), trained, atol=0.03, rtol=0.05)


@needs("bitsandbytes")
def test_qlora_has_its_layers_in_nf4_with_quantised_scales_and_fp32_masters(
    tiny_model, smollm_tokenizer, examples, tmp_path
):
    import bitsandbytes as bnb

    tuned, _ = train(tiny_model, smollm_tokenizer, examples, tmp_path / "work", quantize="nf4")
    layers = [m for m in tuned.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(layers) == 2 * 7
    for layer in layers:
        assert layer.weight.quant_state.quant_type == "nf4" and layer.weight.quant_state.nested
    trained = [weight for weight in tuned.model.parameters() if weight.requires_grad]
    assert len(trained) == 2 * 2 * 7 and all(w.dtype is torch.float32 for w in trained)
    losses = [entry["loss"] for entry in tuned.log if "loss" in entry]
    assert losses[-1] < losses[0]


def test_a_changed_adapter_is_merged_anew(
    tiny_model, smollm_tokenizer, examples, tmp_path, own_cache
):
    from slowthink.stages.train.model import save_for_serving

    tuned, lora = train(tiny_model, smollm_tokenizer, examples, tmp_path / "work", merge=False)
    folder = tmp_path / "model"
    save_for_serving(tuned.model, smollm_tokenizer, folder, source=tiny_model, lora=lora)
    first = resolve_model(str(folder))
    assert resolve_model(str(folder)) == first
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tiny_model)
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": 80}))
    assert resolve_model(str(folder)) != first


def test_without_bitsandbytes_qlora_is_refused_before_any_weight(
    tiny_model, smollm_tokenizer, examples, tmp_path, monkeypatch
):
    from slowthink.errors import ConfigError
    from slowthink.stages.train import packages

    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=r"lora\.quantize.*pip install bitsandbytes"):
        train(tiny_model, smollm_tokenizer, examples, tmp_path / "work", quantize="nf4")
