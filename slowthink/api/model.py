"""A loaded model that thinks under a budget: `slowthink generate`, `chat` and notebooks.

with load_model("smollm2-135m") as model:
    done = model.think("What is 17 + 25?", max_thinking_tokens=64, waits=1)
    # Thought(thinking="17 + 25 = … Wait …", answer="Final Answer: 42", thinking_end=CAP, …)
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from slowthink.errors import ConfigError, require_count, require_list, wrong_type
from slowthink.records import (
    AnswerEnd,
    Completion,
    Cost,
    Problem,
    ThinkingEnd,
    duplicate_key,
    problem_id,
)
from slowthink.serialise import plain

if TYPE_CHECKING:
    from slowthink.api.curve import Curve
    from slowthink.engines.session import Session
    from slowthink.recipe import Generation
    from slowthink.recipe.loading import Overrides
    from slowthink.sampling.ledger import Ledger

DETECT = "detect"
"""Instead of a format: that of the chat template, or `plain` if it has no thinking delimiters."""
LOADED_SETTINGS = ("model", "revision", "engine", "ledger", "ledger_sync")
"""Settings that a loaded model has once and for all."""
ROW_FIELDS = ("thinking", "answer", "thinking_end", "answer_end", "events", "violations")


@dataclass(frozen=True, kw_only=True)
class Thought:
    """Thinking and answer to one question under a budget."""

    question: str
    completion: Completion
    """All that is recorded: token ids, events, counts."""
    cost: Cost
    """Tokens that the engine spent now; none for what the ledger had."""

    @property
    def thinking(self) -> str:
        """The text between the thinking delimiters, wait strings included."""
        return self.completion.thinking

    @property
    def answer(self) -> str:
        """The text after thinking, with a forced cue ("Final Answer:")."""
        return self.completion.answer.strip()

    @property
    def thinking_end(self) -> ThinkingEnd:
        """Why thinking ended: by itself (NATURAL), at the CAP, in a LOOP."""
        return self.completion.thinking_end

    @property
    def answer_end(self) -> AnswerEnd:
        """Why the answer ended: STOP, or LENGTH at its maximum."""
        return self.completion.answer_end

    @property
    def violations(self) -> tuple[str, ...]:
        """How the token ids violate the budget; empty if it held."""
        return self.completion.violations

    @property
    def num_thinking_tokens(self) -> int:
        """Number of thinking tokens."""
        return self.completion.num_thinking_tokens

    def to_dict(self) -> dict[str, Any]:
        """Question, thinking, answer, token counts, why each ended, budget violations, as JSON."""
        values = plain(self.completion)
        row = {"question": self.question, **{name: values[name] for name in ROW_FIELDS}}
        row["answer"] = self.answer
        row["num_thinking_tokens"] = self.num_thinking_tokens
        row["num_answer_tokens"] = len(self.completion.answer_ids)
        return row

    @property
    def thinking_text(self) -> str:
        """The thinking, and why it ended, to be printed."""
        reason = f"{self.thinking_end.value}, {self.num_thinking_tokens} tokens"
        return f"{self.thinking}\n--- thinking ended: {reason} ---"

    def __str__(self) -> str:
        """Thinking, why it ended, and answer."""
        return f"{self.thinking_text}\n{self.answer}"


class Model:
    """A loaded model; a context manager. `load_model` makes one."""

    def __init__(
        self,
        session: Session,
        ledger: Ledger,
        settings: Generation,
        *,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.session = session
        self.ledger = ledger
        self.settings = settings
        """All settings, `auto` resolved."""
        self._close = close
        self._is_closed = False

    def __repr__(self) -> str:
        closed = ", closed" if self._is_closed else ""
        return f"<Model {self.settings.model} on {self.settings.engine.kind}{closed}>"

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model and close the ledger; a temporary one is deleted."""
        self._is_closed = True
        self._close()

    @property
    def cost(self) -> Cost:
        """All tokens that this model's engine has spent."""
        return self.session.cost

    @overload
    def think(  # type: ignore[overload-overlap]  # a str is an Iterable[str] too
        self, question: str | Problem, *, max_thinking_tokens: int = ..., waits: int = ...,
        history: Sequence[Mapping[str, str]] = ..., settings: Overrides = ...,
    ) -> Thought: ...  # fmt: skip
    @overload
    def think(
        self, question: Iterable[str | Problem], *, max_thinking_tokens: int = ...,
        waits: int = ..., history: Sequence[Mapping[str, str]] = ..., settings: Overrides = ...,
    ) -> list[Thought]: ...  # fmt: skip
    def think(
        self,
        question: str | Problem | Iterable[str | Problem],
        *,
        max_thinking_tokens: int = 512,
        waits: int = 0,
        history: Sequence[Mapping[str, str]] = (),
        settings: Overrides = (),
    ) -> Thought | list[Thought]:
        """Think about a question, or several together, and answer (s1, arXiv 2501.19393, 3.1).

        At `max_thinking_tokens` thinking is ended and the answer forced; the first `waits` ends
        that the model declares are suppressed and "Wait" is appended. `history`: earlier messages,
        with `role` and `content`. `settings`: changes for this call, e.g.
        {"forcing.answer_tokens": 512, "sampling.temperature": 0.6}. Raises ConfigError if the
        context is too short, EngineError if the engine fails; what is finished is in the ledger.
        """
        from slowthink.engines.session import Point
        from slowthink.sampling.sampler import Sampler, make_tasks

        is_single = isinstance(question, str | Problem)
        items = [question] if isinstance(question, str | Problem) else question
        if isinstance(items, bytes | Mapping) or not isinstance(items, Iterable):
            expected = 'a text, a Problem, or a list of them. Write e.g. "What is 17 + 25?".'
            raise ConfigError(wrong_type(question, "question", expected))
        max_thinking_tokens = require_count(max_thinking_tokens, "max_thinking_tokens")
        waits = require_count(waits, "waits")
        history = _require_messages(history)
        config = self.changed(settings)
        tasks = make_tasks(
            self.session, [as_problem(item, index) for index, item in enumerate(items)],
            recipe=config, chat=config.chat, history=history,
            budget=lambda problem: config.forcing.budget(
                max_thinking_tokens, waits, language=problem.language
            ),
            sampling=config.sampling.to_record(),
            points=[Point(max_thinking_tokens, waits, steps=config.forcing.max_thinking_steps)],
        )  # fmt: skip
        sampler = Sampler(self.session, self.ledger, tag="generate")
        thoughts = [
            Thought(
                question=task.problem.question,
                completion=completion,
                cost=sampler.costs.get(completion.chain_key, Cost()),
            )
            for task, (completion,) in zip(tasks, sampler.complete(tasks), strict=True)
        ]
        return thoughts[0] if is_single else thoughts

    def sweep(
        self,
        problems: Iterable[Problem],
        *,
        caps: Sequence[int],
        waits: Sequence[int] = (),
        num_samples: int = 1,
        settings: Overrides = (),
        quiet: bool = False,
    ) -> Curve:
        """Accuracy at each cap, and at the largest cap with each number of waits.

        All points share one chain a problem and sample (s1, arXiv 2501.19393, figures 1 and 4). As
        the stage evaluate does; several samples need {"sampling.temperature": 0.6} or so in
        `settings`. `quiet`: no progress on stderr. An interrupted sweep goes on from the ledger
        when it is called again. Raises DataError if no problem has a reference answer.
        """
        from slowthink.api.curve import sweep

        counts = {
            name: [require_count(count, name) for count in require_list(values, name)]
            for name, values in (("caps", caps), ("waits", waits))
        }
        return sweep(
            self.session, self.ledger, self.changed(settings), _require_problems(problems),
            num_samples=require_count(num_samples, "num_samples", minimum=1), quiet=quiet, **counts,
        )  # fmt: skip

    def changed(self, settings: Overrides) -> Generation:
        """The model's settings with these changes. Raises ConfigError naming each wrong one, each
        of LOADED_SETTINGS, and for a model that is closed."""
        from slowthink.pipeline.run_folder import changed_settings
        from slowthink.recipe import Generation
        from slowthink.recipe.loading import parse_settings

        if self._is_closed:
            raise ConfigError(
                f"{self.settings.model}: the model is closed; expected an open one. Load it again: "
                "st.load_model(…), and ask inside its `with` block."
            )
        if isinstance(settings, Mapping | Sequence) and not settings:
            return self.settings
        data = self.settings.model_dump(mode="json")
        changed = parse_settings(Generation, data, where="settings", overrides=settings)
        old, new = (
            config.model_dump(mode="json", include=set(LOADED_SETTINGS))
            for config in (self.settings, changed)
        )
        if names := changed_settings(old, new):
            raise ConfigError(
                f"settings: {', '.join(names)}: set when the model is loaded; expected settings "
                "of one call. Load a model with it: st.load_model(…, settings={…})"
            )
        return changed


def load_model(
    name: str = "smollm2-135m",
    *,
    engine: str = "auto",
    urls: Sequence[str] = (),
    format: str = DETECT,
    revision: str | None = None,
    seed: int = 0,
    settings: Overrides = (),
    notify: Callable[[str], None] = lambda _: None,
) -> Model:
    """Load a model: a folder, a Hub id, or `smollm2-135m`, the built-in one. Use it in `with`.

    `engine`: auto, transformers, vllm, openai (any server with /v1/completions, at `urls`) or
    replay. `format`: the thinking delimiters (docs/forcing.md); by default those of the chat
    template, else `plain`. A model trained on s1's texts, as recipes here train it, needs
    `format="s1"`. `settings`: any other setting, e.g. {"engine.dtype": "float32", "ledger":
    "cache.sqlite"}. `notify` receives notices, e.g. what `auto` became. Raises
    ConfigError if the model is unavailable or the engine's package is not installed.
    """
    config = generation_settings(
        "load_model", model=name, engine=engine, urls=urls, format=format, revision=revision,
        seed=seed, settings=settings,
    )  # fmt: skip
    return open_model(config, notify=notify)


def generation_settings(
    where: str,
    *,
    model: str,
    format: str,
    engine: str = "auto",
    urls: Sequence[str] = (),
    revision: str | None = None,
    seed: int = 0,
    answer_tokens: int = 256,
    wait_strings: Sequence[str] | None = None,
    temperature: float = 0.0,
    settings: Overrides = (),
) -> Generation:
    """The settings of a model from a call or a command, `where`. Raises ConfigError naming each
    wrong one."""
    from slowthink.recipe import Generation
    from slowthink.recipe.loading import parse_settings

    data: dict[str, Any] = {
        "model": model, "revision": revision, "seed": seed, "chat": {"format": format},
        "engine": {"kind": "openai" if urls and engine == "auto" else engine},
        "forcing": {"answer_tokens": answer_tokens}, "sampling": {"temperature": temperature},
    }  # fmt: skip
    if urls:
        data["engine"]["endpoints"] = {"urls": require_list(urls, "urls")}
    if wait_strings:
        data["forcing"]["wait_strings"] = list(wait_strings)
    return parse_settings(Generation, data, where=where, overrides=settings)


def open_model(
    settings: Generation, *, num_tokens: int = 0, notify: Callable[[str], None] = lambda _: None
) -> Model:
    """Open the model and the ledger, a temporary one unless the settings name one.

    `num_tokens`: how many are to be decoded, at most; 0 if that is unknown. Raises ConfigError if
    the model is unavailable.
    """
    from slowthink.engines import open_session
    from slowthink.engines.auto import Workload
    from slowthink.environment import hide_import_warnings
    from slowthink.forcing.formats import resolve_format
    from slowthink.pipeline.resolve import resolve
    from slowthink.recipe.models import code_that_runs
    from slowthink.sampling.ledger import Ledger

    hide_import_warnings()
    resolved = resolve(settings, workload=lambda _: Workload(num_tokens))
    if resolved.choices:
        notify(f"auto: {resolved.text}")
    for notice in code_that_runs(resolved.recipe):
        notify(f"note: {notice}")
    config = resolved.recipe
    with contextlib.ExitStack() as stack:
        session = open_session(
            config.model, config.engine, revision=config.revision, notify=notify
        )  # fmt: skip
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(session)
        path = Path(config.ledger or Path(folder) / "ledger.sqlite")
        ledger = stack.enter_context(Ledger(path, full_sync=config.ledger_sync == "full"))
        if config.chat.format == DETECT:
            config = config.model_copy(update={"chat": _detected(config, session)})
        resolve_format(
            config.chat.format, session.tokenizer, config.formats
        )  # raises for an unknown one
        return Model(session, ledger, config, close=stack.pop_all().close)


def _detected(config: Generation, session: Session) -> Any:
    from slowthink.forcing.formats import detect_format

    format = detect_format(session.tokenizer)
    return config.chat.model_copy(update={"format": format.name if format else "plain"})


def as_problem(item: str | Problem, row: int = 0, *, language: str | None = None) -> Problem:
    """A question as a problem without a reference answer; its language is detected unless given.

    Raises ConfigError for text that is not UTF-8, and for what is neither text nor a problem.
    """
    from slowthink.data.language import detect_language

    if isinstance(item, Problem):
        return item
    if not isinstance(item, str):
        expected = "a text or a Problem. Give the text; st.load_problems makes problems of rows."
        raise ConfigError(wrong_type(item, f"question {row}", expected))
    try:
        item.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"question: {item[:80]!r} is not UTF-8; expected text. Convert it."
        ) from None
    return Problem(
        id=problem_id(item), duplicate_key=duplicate_key(item), question=item, source="question",
        source_row=str(row), language=language or detect_language(item),
    )  # fmt: skip


def _require_problems(problems: Any) -> list[Problem]:
    """The problems of an argument. Raises ConfigError for a file's name, and for rows."""
    expected = "a Problem. Load them first: st.load_problems(FILE or rows)"
    if isinstance(problems, str | Path):
        raise ConfigError(f"problems: {str(problems)!r:.80} is a text; expected {expected}")
    items: list[Problem] = require_list(problems, "problems")
    for row, problem in enumerate(items):
        if not isinstance(problem, Problem):
            raise ConfigError(wrong_type(problem, f"problem {row}", expected))
    return items


def _require_messages(history: Any) -> list[Mapping[str, str]]:
    """The messages of an argument. Raises ConfigError for what is no list of messages."""
    messages: list[Mapping[str, str]] = require_list(history, "history")
    for row, message in enumerate(messages):
        is_mapping = isinstance(message, Mapping)
        if not is_mapping or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise ConfigError(
                f"history[{row}]: {message!r:.80}; expected a mapping of the texts `role` and "
                '`content`. Write e.g. {"role": "user", "content": "Hello"}.'
            )
    return messages
