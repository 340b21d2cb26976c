"""The records that all packages exchange, frozen, and their ids.

A problem becomes traces (worked solutions) and requests (samples from a model). A request's
thinking is one *chain*, shared by all caps and numbers of waits; a cut of the chain and a short
answer make a *completion*, which is graded.

One real record: `Problem(id="p-0c1e…", question="What is 17 + 25?", answer="42", source="sandbox",
…)`.
"""

from __future__ import annotations

import enum
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from slowthink.serialise import digest, digest_of_json, ids_as_json, plain

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Split(enum.Enum):
    """Whether a problem is for training or evaluation."""

    TRAIN = "train"
    HELDOUT = "heldout"


class Verdict(enum.Enum):
    """Grade of one answer.

    WRONG, NO_ANSWER and TRUNCATED count as unsolved; UNGRADABLE (no usable reference answer) and
    GRADER_ERROR are excluded from the denominator and counted separately.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TRUNCATED = "truncated"
    UNGRADABLE = "ungradable"
    GRADER_ERROR = "grader_error"

    @property
    def is_counted(self) -> bool:
        """Whether answers with this verdict are in the denominator of an accuracy."""
        return self not in (Verdict.UNGRADABLE, Verdict.GRADER_ERROR)


class ThinkingEnd(enum.Enum):
    """Reason why thinking ended."""

    NATURAL = "natural"
    CAP = "cap"
    """The budget was used up: its cap or its steps."""
    LOOP = "loop"
    NONE = "none"
    """There was no thinking phase, or it did not end."""


class AnswerEnd(enum.Enum):
    """Reason why the answer ended."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"


class ChainState(enum.Enum):
    """Whether a chain can be extended."""

    OPEN = "open"
    """More thinking can be sampled."""
    ENDED = "ended"
    """Its last event is an accepted end; a budget with more waits would refuse it and go on."""
    LOOP = "loop"
    """The loop detector stopped it; it is never extended."""


class EventKind(enum.Enum):
    """Outcome of a declared end."""

    WAIT = "wait"
    """Refused; a wait string followed or, without wait strings, the runner-up token."""
    MINIMUM = "minimum"
    """Refused below the minimum of thinking; the runner-up token followed. Uses no wait."""
    END = "end"
    """Accepted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One question and what is needed to grade its answers."""

    id: str
    """`problem_id(question, choices)`: depends on the text only, so it is the same in every run."""
    duplicate_key: str
    """`duplicate_key(question, choices)`: equal for questions that differ in formatting only."""
    question: str
    choices: tuple[str, ...] = ()
    answer: str | None = None
    answer_derived: bool = False
    """The answer was extracted from the solution's last box."""
    answer_type: str | None = None
    tolerance: float | None = None
    """Relative tolerance that the source states."""
    unit: str | None = None
    solution: str | None = None
    source: str
    source_row: str
    """Row number or id in the source."""
    licence: str | None = None
    language: str = "en"
    domain: str | None = None
    split: Split = Split.TRAIN
    meta: str = "{}"
    """One JSON object with all other fields of the source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """One row that a stage dropped."""

    id: str
    step: str
    reason: str
    evidence: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How tokens are sampled. Temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0: no limit."""
    min_p: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopRule:
    """When a chain counts as a loop: it ends in `repeats` or more equal runs of tokens."""

    max_period: int = 64
    """Longest run, in tokens."""
    repeats: int = 4
    min_tokens: int = 128
    """Fewest tokens of the whole repetition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Limits of a model's thinking, and how they are forced (s1, arXiv 2501.19393, section 3.1)."""

    max_thinking_tokens: int | None = None
    """None: as many as the context has room for, in addition to prompt and answer."""
    min_thinking_tokens: int = 0
    """An earlier end is refused, and the runner-up token is taken."""
    max_thinking_steps: int | None = None
    """None: no limit."""
    step_delimiter: str = "\n\n"
    """Ends a step (`forcing.steps`)."""
    waits: int = 0
    """Number of declared ends that are refused with a wait string."""
    wait_strings: tuple[str, ...] = ("Wait",)
    """Used in rotation. Empty: the delimiter is suppressed and the runner-up token taken."""
    final_answer_cue: str | None = "Final Answer:"
    """Begins the answer after a forced end. None: no cue."""
    end_rule: str = "drawn"
    """drawn | argmax | probability (P(end) >= `end_probability`): when an end counts as declared.
    """
    end_probability: float = 1.0
    answer_tokens: int = 512
    """Maximum number of answer tokens; reserved in the context."""
    loop: LoopRule | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkingFormat:
    """The delimiters of a model family, as text."""

    name: str
    start: str
    """Opens thinking, right after the assistant's header."""
    end: str
    """Ends thinking and begins the answer."""
    end_triggers: tuple[str, ...] = ()
    """Texts that declare the end if sampled, in addition to end-of-sequence tokens. A text of
    several tokens needs an engine that can roll back."""
    newline_before_forced_end: bool = True
    """A forced end starts on a new line."""
    cue_after_natural_end: bool = False
    """The cue follows a natural end too: for formats without a delimiter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A declared end of thinking and its outcome."""

    position: int
    """Number of thinking tokens before it."""
    kind: EventKind
    drawn: tuple[int, ...]
    """Token ids that declared it; they are not thinking tokens."""
    forced: int = 0
    """Number of forced thinking tokens after it: the length of the wait string."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One sample from one model: the unit that is sampled, and stored by its key.

    `chain_key` excludes the cap, the steps and the number of waits, so that all points of a sweep
    share their thinking; `key` includes everything.
    """

    model: str
    """Fingerprint of config, tokenizer, chat template and weights; never a path."""
    numerics: str
    """Engine, dtype and quantisation."""
    prompt_ids: tuple[int, ...]
    """Rendered prompt, up to and including the thinking start."""
    format: ThinkingFormat
    sampling: Sampling
    budget: Budget
    seed: int
    sample: int = 0

    def chain_key(self) -> str:
        """Key of the thinking, which requests with other caps and numbers of waits share."""
        budget = self.budget
        end_probability = budget.end_probability if budget.end_rule == "probability" else None
        rules = [
            budget.min_thinking_tokens, budget.wait_strings, budget.end_rule, end_probability,
            plain(budget.loop),
        ]  # fmt: skip
        return digest(["chain", 1, *self._common_fields(), rules])

    def answer_key(
        self, thinking_ids: tuple[int, ...], closing: tuple[int, ...], *, chain_key: str = ""
    ) -> str:
        """Key of the answer that follows this thinking and these closing ids. `chain_key`: the
        request's, if it is at hand."""
        chain_key = chain_key or self.chain_key()
        thinking, closing_text = ids_as_json(thinking_ids), ids_as_json(closing)
        return digest_of_json(
            f'["answer",1,"{chain_key}",{thinking},{closing_text},{self.budget.answer_tokens}]'
        )

    def key(self) -> str:
        """Key of the whole completion."""
        return digest(["request", 1, *self._common_fields(), plain(self.budget)])

    def _common_fields(self) -> list[Any]:
        return [
            self.model, self.numerics, self.prompt_ids, plain(self.format), plain(self.sampling),
            self.seed, self.sample,
        ]  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Reported:
    """What an API states about its reply: its own counts of tokens, and thinking that it hides."""

    num_prompt_tokens: int | None = None
    num_completion_tokens: int | None = None
    """Thinking included."""
    num_thinking_tokens: int | None = None
    hidden: str | None = None
    """How it hides thinking: counted only, encrypted, summary. None: nothing is known to be hidden.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """A chain of thought: all tokens between the delimiters, wait strings included."""

    key: str
    ids: tuple[int, ...] = ()
    events: tuple[Event, ...] = ()
    state: ChainState = ChainState.OPEN
    reported: Reported | None = None
    """Of a chat API's reply."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer after one cut of a chain and its closing."""

    key: str
    chain_key: str
    num_thinking_tokens: int
    """Number of thinking tokens before the closing."""
    closing: tuple[int, ...]
    """Forced ids between thinking and answer: delimiter, cue."""
    ids: tuple[int, ...]
    end_reason: AnswerEnd


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """A cut of a chain and its answer: the result of one request."""

    key: str
    chain_key: str
    num_prompt_tokens: int
    thinking_ids: tuple[int, ...]
    thinking: str
    answer_ids: tuple[int, ...]
    answer: str
    """The answer as text, including a forced cue; the whole text in a format without thinking."""
    closing_ids: tuple[int, ...]
    thinking_end: ThinkingEnd
    answer_end: AnswerEnd
    events: tuple[Event, ...]
    events_source: str = "machine"
    """machine | log | inferred."""
    count_source: str = "ids"
    """ids | retokenised | usage."""
    num_forced_tokens: int = 0
    """Tokens of wait strings and closing; all others were sampled."""
    violations: tuple[str, ...] = ()
    """Violations of the budget, found by checking the ids."""
    seed: int = 0
    reported: Reported | None = None
    """Of a chat API's reply."""

    @property
    def num_thinking_tokens(self) -> int:
        """Number of tokens between the delimiters."""
        return len(self.thinking_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """A verdict, and the texts that were compared."""

    verdict: Verdict
    extracted: str | None = None
    gold: str | None = None
    method: str = ""
    """Rule that decided the verdict."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One worked solution of one problem, with its author, grade and scores.

    A problem may have several traces.
    """

    chain_id: str = ""
    """`chain_id(problem_id, thinking, response)`. Empty in tables of older versions."""
    problem: Problem
    thinking: str
    response: str
    """The answer that follows the thinking."""
    teacher: str
    grade: Grade
    scores: str = "{}"
    """One JSON object: component scores by name."""
    level: int | None = None
    num_thinking_tokens: int
    num_response_tokens: int
    tokenizer: str
    """Fingerprint of the tokenizer used for the counts."""
    completion_key: str | None = None
    """None for human and imported chains."""
    provenance: str = "{}"
    """One JSON object: model, revision, engine, sampling, digest of the prompt, date, tokens (see
    `sampling.provenance`)."""

    @property
    def key(self) -> str:
        """`chain_id`, computed for a row of an older version."""
        return self.chain_id or chain_id(self.problem.id, self.thinking, self.response)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Number of tokens that an engine processed."""

    prefilled: int = 0
    decoded: int = 0
    forced: int = 0
    re_prefilled: int = 0
    """Tokens of `prefilled` that had been prefilled or decoded before."""

    def __add__(self, other: Cost) -> Cost:
        return self._add(other, sign=1)

    def __sub__(self, other: Cost) -> Cost:
        return self._add(other, sign=-1)

    def _add(self, other: Cost, *, sign: int) -> Cost:
        return Cost(
            prefilled=self.prefilled + sign * other.prefilled,
            decoded=self.decoded + sign * other.decoded,
            forced=self.forced + sign * other.forced,
            re_prefilled=self.re_prefilled + sign * other.re_prefilled,
        )


# --- identity -------------------------------------------------------------------------------------


def problem_id(question: str, choices: tuple[str, ...] = ()) -> str:
    """Hash of a question's exact text and options (NFC, outer white space stripped)."""
    parts = [unicodedata.normalize("NFC", part).strip() for part in (question, *choices)]
    return "p-" + digest(parts)[:16]


def chain_id(problem_id: str, thinking: str, response: str) -> str:
    """Hash of a chain's exact texts and its problem."""
    return "c-" + digest([problem_id, thinking, response])[:16]


def row_ids(traces: Sequence[Trace]) -> list[str]:
    """Names of these traces: the problem's id, or the chain's if the problem has several."""
    counts = Counter(trace.problem.id for trace in traces)
    return [trace.problem.id if counts[trace.problem.id] == 1 else trace.key for trace in traces]


def duplicate_key(question: str, choices: tuple[str, ...] = ()) -> str:
    """Hash of a question's normal form (NFKC, case, white space, order of options)."""
    parts = [
        " ".join(unicodedata.normalize("NFKC", part).casefold().split())
        for part in (question, *choices)
    ]
    return digest([parts[0], *sorted(parts[1:])])[:16]


def item_seed(seed: int, *names: object) -> int:
    """A 63-bit seed for one item. Results do not depend on order, workers or resuming."""
    return int(digest([seed, *map(str, names)])[:16], 16) >> 1


def group_by(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Group items by key; keys and items are in order of appearance."""
    groups: dict[K, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)
