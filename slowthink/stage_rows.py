"""Rows of the tables that only single stages write: attempts of filter, steps of train, answers of
evaluate. Problems, chains and traces, which all packages exchange, are in `records`.
"""

from __future__ import annotations

from dataclasses import dataclass

from slowthink.records import AnswerEnd, Grade, ThinkingEnd, Verdict

COST_FILE = "step_costs.jsonl"
"""Of stage `train`, what differs from run to run:
{"step": 1, "tokens_per_second": 5120.0, "memory_mb": 41210}."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One attempt of a model at a problem: a row of the filter's `attempts.parquet`."""

    id: str
    """step | model | problem | sample."""
    problem_id: str
    step: str
    """Name of the difficulty step."""
    model: str
    sample: int
    thinking: str
    response: str
    """The answer that follows the thinking; empty if the text has no such part."""
    truncated: bool
    """It reached a limit, or its end was forced."""
    grade: Grade
    num_tokens: int
    """Number of tokens generated."""
    completion_key: str
    chain_key: str
    """Key of its chain in the ledger, which has its date."""
    provenance: str
    """One JSON object, as in `Trace`, without a date."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingStep:
    """One optimiser step: a row of stage `train`."""

    step: int
    """From 1."""
    epoch: float
    """Number of passes over the training set, after the step."""
    loss: float
    """Mean cross-entropy of the loss tokens, in nats, before the update."""
    learning_rate: float
    grad_norm: float
    """Before clipping."""
    num_tokens: int
    num_loss_tokens: int
    """Tokens of completions: those that the loss is computed on."""
    token_accuracy: float | None = None
    """Share of the loss tokens than which no other token was more likely, in [0, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRow:
    """One answer of an arm to a problem at one point of its curve: a row of stage `evaluate`."""

    id: str
    """arm | protocol | benchmark | problem | temperature | sample | cap | waits | forced or free.
    """
    arm: str
    model: str
    benchmark: str
    """Name of the benchmark; `heldout` for the pool's own held-out problems."""
    protocol: str
    temperature: float
    problem_id: str
    question: str
    domain: str | None
    source: str
    sample: int
    max_thinking_tokens: int
    waits: int
    forced: bool
    """False: nothing was forced. If thinking did not end by itself, the verdict is TRUNCATED."""
    num_prompt_tokens: int
    num_thinking_tokens: int
    num_closing_tokens: int
    """Forced between thinking and answer: delimiter, cue."""
    num_answer_tokens: int
    num_forced_tokens: int
    """Wait strings and closing."""
    count_source: str
    """ids | retokenised: source of the token counts."""
    thinking_end: ThinkingEnd
    answer_end: AnswerEnd
    num_waits_used: int
    answer: str
    """The graded text: the answer, including a forced cue."""
    last_number: bool
    """Whether the last number may be taken as the answer."""
    score: float | None
    """The scorer's score of thinking and answer; None without a scorer."""
    verdict: Verdict
    extracted: str | None
    gold: str | None
    method: str
    violations: tuple[str, ...]
    segments: str
    """The transcript as a JSON list of [kind, text]; kinds: thinking, wait, closing, answer.
    `wait` and `closing` were forced, the others sampled."""
