# %% [markdown]
# # Budgets on any model
#
# A model thinks as long as you let it. This notebook caps its thinking, extends it with "Wait", and
# measures accuracy at several budgets. With the built-in model (135 million parameters, on a CPU)
# it takes about a minute and the answers are mostly wrong; name another model to see it think.

# %%
import slowthink as st

MODEL = "smollm2-135m"  # or "Qwen/Qwen3-0.6B", a folder, …
model = st.load_model(MODEL, settings={"forcing.answer_tokens": 24})

# %% [markdown]
# ## One question, three budgets

# %%
question = "A train leaves at 9:40 and arrives at 11:05. How many minutes does it take?"
for cap, waits in ((16, 0), (64, 0), (64, 1)):
    done = model.think(question, max_thinking_tokens=cap, waits=waits)
    print(f"--- cap {cap}, waits {waits} ---\n{done}\n")
    assert not done.violations

# %% [markdown]
# ## A curve
#
# Any list of rows with a question and an answer will do; so does `st.load_problems("math500")` or a
# file of yours. All budgets share one chain of thought a problem.

# %%
problems = st.load_problems(
    [{"question": f"What is {a} + {b}?", "answer": a + b} for a, b in ((2, 3), (4, 4), (17, 25))]
)
curve = model.sweep(problems, caps=[0, 16, 32], waits=[1])
curve.to_pandas()

# %%
curve.plot()  # the chart of the report; .save("curve.svg") writes it

# %% [markdown]
# ## Which answers changed?

# %%
short = curve.rows.where(max_thinking_tokens=0)
long = curve.rows.where(max_thinking_tokens=32, waits=0)
comparison = st.compare(short, long)
print(comparison)

# %%
curve.rows.to_pandas()[["question", "max_thinking_tokens", "waits", "verdict", "extracted"]]

# %%
model.close()

# %% [markdown]
# ## The same budget in your own `generate()`

# %%
from transformers import AutoModelForCausalLM, AutoTokenizer

from slowthink.engines.models import resolve_model  # only for the built-in model's folder

folder = resolve_model(MODEL)
tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
lm = AutoModelForCausalLM.from_pretrained(folder)
budget = st.ThinkingBudget(
    tokenizer, max_thinking_tokens=48, waits=1, generation_config=lm.generation_config
)
chats = [[{"role": "user", "content": text}] for text in (question, "What is 2 + 3?")]
inputs = tokenizer.apply_chat_template(
    chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
)
output = lm.generate(**inputs, logits_processor=[budget], max_new_tokens=80)
for row in output[:, inputs["input_ids"].shape[1] :]:
    print(tokenizer.decode(row, skip_special_tokens=True), "\n---")
assert budget.violations == [(), ()]
