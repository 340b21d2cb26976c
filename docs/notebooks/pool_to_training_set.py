# %% [markdown]
# # My pool to a training set
#
# From a file of problems with worked solutions to a training set: load, look, drop duplicates and
# leaked test problems, keep correct chains, select. Every row that is dropped has a reason.

# %%
import json
from pathlib import Path

import slowthink as st

# %% [markdown]
# A pool to begin with: worked solutions of small problems. Put your own file here; rows have a
# `question`, an `answer` and a `solution`.

# %%
rows = [
    {
        "id": f"q{a}-{b}",
        "question": f"A shop sells {a} boxes with {b} pens each. How many pens does it sell?",
        "solution": f"Each box has {b} pens, and there are {a} boxes. {a} times {b} is {a * b}. "
        rf"The shop sells \boxed{{{a * b}}} pens.",
        "answer": str(a * b),
    }
    for a in range(3, 12)
    for b in range(2, 8)
]
exam = rows[:6]  # test problems, which must not be trained on
rows += [rows[20] | {"id": "copy"}, rows[30] | {"id": "wrong", "question": "", "answer": "1"}]
Path("pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
Path("exam.jsonl").write_text("".join(json.dumps(row) + "\n" for row in exam))

# %% [markdown]
# ## Look at it

# %%
problems = st.load_problems("pool.jsonl")
print(problems)
for row in problems.dropped:
    print(row.id, "|", row.reason)

# %%
leaks = st.find_leaks(problems, ["exam.jsonl"])
copies = [
    problem.source_row
    for problem, hits in zip(problems, leaks, strict=True)
    if any(leak.kind == "copy" for leak in hits)
]
print(f"{len(copies)} problems are copies of exam problems: {copies}")
assert copies == [row["id"] for row in exam]
print(len(st.find_duplicates(problems)), "clusters of near duplicates")

# %% [markdown]
# ## Curate it
#
# The same as a run: the stages pool, filter, trace and select, without a model. `pool.yaml` is all
# that somebody else needs to repeat it.

# %%
Path("pool.yaml").write_text(
    """
name: my-pool
pool: {sources: [{kind: file, path: pool.jsonl}]}
filter:
  quality: s1
  duplicates: {}
  contamination: {benchmarks: [{name: exam, path: exam.jsonl}]}
  domains: {}
trace: {}
select: {method: random, num_problems: 20}
"""
)
run = st.run("pool.yaml", out="my-run", quiet=True)
for stage in ("pool", "filter", "trace", "select"):
    print(f"{stage:8}{len(run.rows(stage)):4} rows, {len(run.rows(stage).dropped)} dropped")

# %%
run.rows("filter").to_pandas()[["question", "answer", "domain"]].head()

# %% [markdown]
# ## Choose differently
#
# Selections can be compared without running anything again.

# %%
traces = run.rows("trace")
longest = st.select(traces, method="longest", num_problems=20)
diverse = st.select(traces, method="diverse", num_problems=20)
shared = {t.problem.id for t in longest} & {t.problem.id for t in diverse}
print(f"{len(longest)} longest and {len(diverse)} diverse chains share {len(shared)}")
assert all(trace.grade.verdict is st.Verdict.CORRECT for trace in longest)

# %% [markdown]
# ## Train on it
#
# `st.run("pool.yaml", out="my-run", settings={"train": {"epochs": 3}})` goes on from here; the
# stages above are skipped. The page has the funnel with examples:

# %%
print(run.report)
