r"""A text's class as a language model says, through any engine, each asked once and kept.

s1's way (arXiv 2501.19393, section 2.2: a model is given all classes and names one code), with our
own prompt and a reply that is checked: its last line must be a code of the taxonomy.

    parse_code("It is about primes.\nCODE: 11", {"05", "11"})  # "11"

An invalid reply is asked again in the same talk, so that a greedy model can say something else;
then the text has no label, and is counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from slowthink.domains.taxonomy import Label, Taxonomy
from slowthink.engines import open_session
from slowthink.engines.base import Point, Session
from slowthink.ledger import Ledger
from slowthink.recipe import DomainModel, Recipe
from slowthink.records import Budget, Problem, Request, Sampling
from slowthink.sampling import Sampler, Task
from slowthink.thinking.chat import messages_ids
from slowthink.thinking.formats import get_format

TAG = "domains"
"""Under what the ledger counts these tokens."""
MAX_CHARS = 8_000
"""Of a question; a longer one keeps its beginning."""
_THOUGHT_ENDS = ("</think>", "<|im_start|>answer")
_CODE = re.compile(r"code\s*[:\uff1a]\s*(\S+?)\.?", re.IGNORECASE)

_SYSTEM = (
    "You sort problems into fields. You do not solve them. You end with one line that is exactly "
    "`CODE: ` and the code of one field from the list."
)
_ASK = """Fields:
{fields}

Problem:
<<<
{question}
>>>

Which field would somebody have to know best to solve the problem? Where several fit, take the one \
of the main idea, not of the wording. Say in at most two sentences why, then give the line, e.g. \
`CODE: {example}`."""
_AGAIN = (
    "That does not end with a code of the list. Reply with one line and nothing else: `CODE: ` and "
    "one of {codes}."
)

Message = dict[str, str]


def parse_code(text: str, codes: Collection[str]) -> str | None:
    """The code in the last line, if it is one of these; None else. Thoughts before are skipped."""
    for end in _THOUGHT_ENDS:
        text = text.rsplit(end, 1)[-1]
    lines = [re.sub(r"[*_`#$>]+", "", line).strip() for line in text.strip().splitlines()]
    lines = [line for line in lines if line]
    said = _CODE.fullmatch(lines[-1]) if lines else None
    return said.group(1) if said and said.group(1) in codes else None


def build_messages(taxonomy: Taxonomy, question: str) -> list[Message]:
    """The chat messages of one question."""
    fields = "\n".join(f"{one.code} {one.name}: {one.about}" for one in taxonomy.classes)
    shown = question[:MAX_CHARS].replace("<<<", "‹‹‹").replace(">>>", "›››")
    asked = _ASK.format(fields=fields, question=shown, example=taxonomy.classes[0].code)
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": asked}]


class Labeller:
    """A model that names classes; a context manager."""

    def __init__(
        self, config: DomainModel, taxonomy: Taxonomy, session: Session, sampler: Sampler
    ) -> None:
        self._config = config
        self._taxonomy = taxonomy
        self._session = session
        self._sampler = sampler
        self.num_asked_again = 0
        """Replies that were no code and were asked again."""

    def __enter__(self) -> Labeller:
        return self

    def __exit__(self, *error: object) -> None:
        self._session.__exit__(*error)

    def labels(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Label]:
        """The class of each problem, whose text is at the same place; asks in rounds."""
        codes = {one.code for one in self._taxonomy.classes}
        talks = {place: build_messages(self._taxonomy, text) for place, text in enumerate(texts)}
        found: dict[int, Label] = {}
        for number in range(self._config.num_asks):
            self.num_asked_again += len(talks) if number else 0
            replies = self._replies(problems, talks)
            for place, reply in replies.items():
                code = None if reply is None else parse_code(reply, codes)
                if reply is None:
                    found[place] = Label(None, "does not fit the model's context")
                else:
                    found[place] = Label(code, "" if code else "no valid code")
            talks = {
                place: _again(talks[place], reply, sorted(codes))
                for place, reply in replies.items()
                if reply is not None and found[place].code is None
            }
        return [found[place] for place in range(len(texts))]

    def _replies(
        self, problems: Sequence[Problem], talks: dict[int, list[Message]]
    ) -> dict[int, str | None]:
        tasks = {place: self._task(problems[place], talk) for place, talk in talks.items()}
        fitting = {place: task for place, task in tasks.items() if self._fits(task.request)}
        completions = self._sampler.complete(list(fitting.values()))
        texts = {place: one[0].thinking for place, one in zip(fitting, completions, strict=True)}
        return {place: texts.get(place) for place in talks}

    def _task(self, problem: Problem, messages: list[Message]) -> Task:
        request = Request(
            model=self._session.fingerprint,
            numerics=self._session.numerics,
            prompt_ids=messages_ids(self._session.tokenizer, messages),
            format=get_format("plain"),
            sampling=Sampling(),
            budget=Budget(max_thinking_tokens=self._config.max_tokens, answer_tokens=1),
            seed=0,
        )
        point = Point(self._config.max_tokens, 0, forced=False)
        return Task(problem=problem, request=request, points=(point,))

    def _fits(self, request: Request) -> bool:
        needed = len(request.prompt_ids) + self._config.max_tokens + 64
        return needed <= self._session.capabilities.max_context


def _again(talk: list[Message], reply: str, codes: Sequence[str]) -> list[Message]:
    again = _AGAIN.format(codes=", ".join(codes))
    return [
        *talk,
        {"role": "assistant", "content": reply.strip()},
        {"role": "user", "content": again},
    ]


def open_labeller(
    config: DomainModel,
    recipe: Recipe,
    taxonomy: Taxonomy,
    *,
    ledger: Ledger,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Labeller:
    """The configured model, ready. Raises ConfigError where it is not to be had."""
    is_base = config.model == "base"
    name = recipe.model if is_base else config.model
    revision = recipe.revision if is_base else config.revision
    session = open_session(name, config.engine or recipe.engine, revision=revision, say=say)
    session.__enter__()
    sampler = Sampler(session, ledger, tag=TAG, progress=progress)
    return Labeller(config, taxonomy, session, sampler)
