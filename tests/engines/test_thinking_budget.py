"""ThinkingBudget in transformers' own generate(): the tokens of our engine, in batches, and holds."""

from __future__ import annotations

import pytest

from slowthink import ConfigError
from slowthink.api.model import generation_settings, open_model
from slowthink.forcing.prompts import prompt_ids
from tests.tiny import make_tiny_model

pytestmark = pytest.mark.slow

QUESTIONS = ["What is 17 + 25?", "Name a prime number between 20 and 30, please.", "6 * 7 = ?"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, smollm_tokenizer):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), smollm_tokenizer)


def load(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from slowthink.engines.models import resolve_model

    path = resolve_model(str(folder))
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval(), tokenizer


def expected(folder, *, format, cap, waits, **forcing):
    """Prompt ids, and the ids that our own engine generates after them, by question."""
    from slowthink.api.model import as_problem

    settings = generation_settings(
        "test", model=str(folder), engine="transformers", format=format, answer_tokens=12,
        settings={"engine.dtype": "float32", **{f"forcing.{k}": v for k, v in forcing.items()}},
    )  # fmt: skip
    with open_model(settings) as model:
        done = model.think(QUESTIONS, max_thinking_tokens=cap, waits=waits)
        chat = model.settings.chat
        prompts = [prompt_ids(model.session.tokenizer, as_problem(q), chat) for q in QUESTIONS]
    return (
        prompts,
        [
            (*t.completion.thinking_ids, *t.completion.closing_ids, *t.completion.answer_ids)
            for t in done
        ],
        done,
    )


def generate(model, tokenizer, prompts, budget, **more):
    """New ids of each row, of one call with left padding."""
    import torch

    batch = tokenizer.pad({"input_ids": [list(p) for p in prompts]}, return_tensors="pt")
    more = {"do_sample": False, "max_new_tokens": 110} | more
    with torch.inference_mode():
        out = model.generate(
            **batch, logits_processor=[budget], pad_token_id=tokenizer.pad_token_id, **more
        )
    return [tuple(row) for row in out[:, batch["input_ids"].shape[1] :].tolist()]


@pytest.mark.parametrize(
    ("format", "cap", "waits", "more"),
    [
        ("s1", 40, 0, {}),
        ("s1", 0, 0, {}),
        ("plain", 24, 0, {}),
        ("s1", 60, 2, {}),
        ("s1", 60, 1, {"min_thinking_tokens": 20}),
    ],
)
def test_generate_gives_the_tokens_of_our_engine(tiny, format, cap, waits, more) -> None:
    from slowthink import ThinkingBudget

    prompts, ids, _ = expected(tiny, format=format, cap=cap, waits=waits, **more)
    model, tokenizer = load(tiny)
    budget = ThinkingBudget(
        tokenizer, max_thinking_tokens=cap, waits=waits, format=format,
        generation_config=model.generation_config, **more,
    )  # fmt: skip
    for prompt, want in zip(prompts, ids, strict=True):
        (row,) = generate(model, tokenizer, [prompt], budget)
        assert row[: len(want)] == want
    assert budget.violations == [()]


def bias_towards(token, *, after):
    """Makes a model declare the end after so many new tokens, and again later."""
    from transformers import LogitsProcessor

    class Bias(LogitsProcessor):
        start = None

        def __call__(self, input_ids, scores):
            self.start = self.start or input_ids.shape[1]
            if (input_ids.shape[1] - self.start) % after == after - 1:
                scores = scores.clone()
                scores[:, token] += 1e4
            return scores

    return Bias()


def test_waits_replace_the_end_and_never_leave_it_in_the_text(tiny) -> None:
    from transformers import LogitsProcessorList

    from slowthink import ThinkingBudget

    model, tokenizer = load(tiny)
    end = tokenizer.convert_tokens_to_ids("<|im_start|>")
    budget = ThinkingBudget(tokenizer, max_thinking_tokens=60, waits=2, format="s1")
    prompt = tokenizer("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n").input_ids
    import torch

    out = model.generate(
        torch.tensor([prompt, prompt]), do_sample=False, max_new_tokens=90,
        attention_mask=torch.ones(2, len(prompt), dtype=torch.long),
        pad_token_id=tokenizer.pad_token_id,
        logits_processor=LogitsProcessorList([bias_towards(end, after=8), budget]),
    )  # fmt: skip
    text = tokenizer.decode(out[0, len(prompt) :])
    start, answer = "<|im_start|>think\n", "<|im_start|>answer\n"
    assert text.startswith(start) and text.count("<|im_start|>") >= 2
    thinking = text[len(start) :].split(answer)[0]
    assert thinking.count("Wait") >= 2 and "<|im_start|>" not in thinking
    cut = budget.cuts[0]
    assert cut is not None and cut.end_reason.value == "natural"
    assert sum(event.kind.value == "wait" for event in cut.events) == 2
    assert budget.violations == [(), ()]


def test_a_processor_that_overrules_the_budget_is_reported(tiny) -> None:
    import torch
    from transformers import LogitsProcessorList

    from slowthink import ThinkingBudget

    model, tokenizer = load(tiny)
    budget = ThinkingBudget(tokenizer, max_thinking_tokens=4, format="s1")
    prompt = torch.tensor([tokenizer("Hi").input_ids])
    newline = tokenizer("\n").input_ids[0]

    def overrule(input_ids, scores):
        scores = scores.clone()
        scores[:, newline] = 1e4
        return scores

    model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=20,
        pad_token_id=tokenizer.pad_token_id,
        logits_processor=LogitsProcessorList([budget, overrule]),
    )  # fmt: skip
    assert budget.violations == [("generated tokens are not the forced ones",)]


def test_rows_of_a_batch_are_forced_each_by_its_own_state(tiny) -> None:
    from slowthink import ThinkingBudget

    prompts, _, _ = expected(tiny, format="s1", cap=16, waits=0)
    model, tokenizer = load(tiny)
    budget = ThinkingBudget(tokenizer, max_thinking_tokens=16, format="s1")
    rows = generate(model, tokenizer, prompts, budget)
    closing = tokenizer("\n<|im_start|>answer\nFinal Answer:").input_ids
    for row in rows:
        assert tuple(row[16 : 16 + len(closing)]) == tuple(closing) or "\n" in tokenizer.decode(
            row[:16]
        )
    assert budget.violations == [()] * len(prompts)
    assert [len(cut.ids) for cut in budget.cuts] == [16] * len(prompts)
    again = generate(model, tokenizer, prompts, budget)
    assert again == rows, "a second call begins anew"


def test_sampling_follows_the_generation_config_and_the_budget_holds(tiny) -> None:
    import torch

    from slowthink import ThinkingBudget

    model, tokenizer = load(tiny)
    config = model.generation_config
    config.do_sample, config.temperature, config.top_k, config.top_p = True, 1.5, 0, 0.98
    prompts, _, _ = expected(tiny, format="s1", cap=8, waits=0)
    budget = ThinkingBudget(
        tokenizer, max_thinking_tokens=20, waits=1, format="s1", generation_config=config
    )
    sampled = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        sampled.append(
            generate(model, tokenizer, prompts, budget, do_sample=True, num_return_sequences=3)
        )
        assert budget.violations == [()] * 9
        assert all(cut is not None and len(cut.ids) <= 20 for cut in budget.cuts)
    assert sampled[0] == sampled[1] != sampled[2]
    assert len({row[:20] for row in sampled[0]}) == 9


def test_beams_and_broken_prompts_are_refused(tiny) -> None:
    from slowthink import ThinkingBudget

    model, tokenizer = load(tiny)
    budget = ThinkingBudget(tokenizer, max_thinking_tokens=30, format="s1")
    with pytest.raises(ConfigError, match=r"several tokens|is \d tokens"):
        ThinkingBudget(tokenizer, max_thinking_tokens=30, format="think-tags")
    with pytest.raises(ConfigError, match="expected counts of 0 or more"):
        ThinkingBudget(tokenizer, max_thinking_tokens=-1)
    for wrong in ({"max_thinking_tokens": None}, {"max_thinking_tokens": 8, "waits": "2"}):
        with pytest.raises(ConfigError, match="expected counts of 0 or more"):
            ThinkingBudget(tokenizer, **wrong)
    prompt = tokenizer("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n").input_ids
    with pytest.raises(ConfigError, match="beams, which reorder sequences"):
        generate(model, tokenizer, [prompt], budget, num_beams=2)
    with pytest.raises(ConfigError, match="assisted decoding, which takes tokens back"):
        generate(model, tokenizer, [prompt], budget, prompt_lookup_num_tokens=3)
    closed = tokenizer("<|im_start|>think\n<|im_start|>answer\n").input_ids
    with pytest.raises(ConfigError, match="closes thinking before it begins"):
        generate(model, tokenizer, [closed], budget)


def test_smollm_thinks_as_in_our_engine(smollm) -> None:
    from slowthink import ThinkingBudget

    prompts, ids, done = expected(smollm, format="s1", cap=48, waits=1)
    model, tokenizer = load(smollm)
    budget = ThinkingBudget(
        tokenizer, max_thinking_tokens=48, waits=1, format="s1",
        generation_config=model.generation_config,
    )  # fmt: skip
    for prompt, want, thought in zip(prompts, ids, done, strict=True):
        (row,) = generate(model, tokenizer, [prompt], budget, max_new_tokens=80)
        assert row[: len(want)] == want, thought.thinking
        assert budget.cuts[0].end_reason is thought.thinking_end
