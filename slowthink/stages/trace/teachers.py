"""Teachers: models that write chains. Their settings, checked before anything is spent, the order
in which they get the problems, and their tasks.

Teacher(model="Qwen/QwQ-32B", engine=EngineConfig(kind="vllm"), setting="trace.sources.0", …)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slowthink.engines.session import Job, Point, Session, max_job_tokens
from slowthink.errors import ConfigError
from slowthink.forcing.formats import AUTO, detect_format
from slowthink.recipe import ChatConfig, EngineConfig, Recipe, TeacherTraces, in_language
from slowthink.records import Budget, Problem, group_by, item_seed
from slowthink.sampling.sampler import Task, make_tasks

THINKING_LINES = {"en": "Think in English.", "zh": "请用中文思考。"}
"""Lines that ask for thinking in a language, after the question."""
UNKNOWN_LIMIT_TOKENS = 32_768
"""Maximum number of thinking tokens where a chat API does not state how many its model can write.
"""
_UNBOUNDED = 2**30
"""A context above this is that of an API that states none."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A source of kind `teacher`, with the recipe's model and engine where it names none."""

    config: TeacherTraces
    setting: str
    """Its place in the recipe, e.g. trace.sources.0."""
    model: str
    revision: str | None
    engine: EngineConfig

    @classmethod
    def from_source(cls, config: TeacherTraces, recipe: Recipe, setting: str) -> Teacher:
        """The teacher of a source."""
        model, revision = recipe.named_model(config.model, config.revision)
        return cls(
            config=config, setting=setting, model=model, revision=revision,
            engine=config.engine or recipe.engine,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The teacher's name in every trace."""
        return self.config.teacher or self.model

    @property
    def tag(self) -> str:
        """Tag of its tokens in the ledger."""
        return f"{self.setting}/{self.name}"

    @property
    def is_chat_api(self) -> bool:
        """Whether it is behind a chat API, which takes messages and no budget."""
        return self.engine.endpoints is not None and self.engine.endpoints.api == "chat"

    def chat(self, language: str, session: Session) -> ChatConfig:
        """The prompt's settings for questions in a language.

        `auto` becomes the format of the model's template; without one, `plain`, so that the whole
        text is the chain.
        """
        chat, wanted = self.config.chat, self.config.thinking_language
        if chat.format == AUTO and detect_format(session.tokenizer) is None:
            chat = chat.model_copy(update={"format": "plain"})
        if wanted is None or wanted == language.split("-")[0].lower():
            return chat
        lines = [in_language(chat.instruction, wanted), THINKING_LINES.get(wanted)]
        texts = {
            "instruction": "\n".join(line for line in lines if line) or None,
            "system_prompt": in_language(chat.system_prompt, wanted),
        }
        return chat.model_copy(update=texts)


def teachers_of(recipe: Recipe) -> list[Teacher]:
    """The teachers of the recipe, best first."""
    sources = recipe.trace.sources if recipe.trace else ()
    return [
        Teacher.from_source(source, recipe, f"trace.sources.{index}")
        for index, source in enumerate(sources)
        if isinstance(source, TeacherTraces)
    ]


def check_teachers(recipe: Recipe) -> None:
    """Raise ConfigError for settings with which a teacher could not run, or no attempts exist."""
    _check_attempts(recipe)
    for teacher in teachers_of(recipe):
        _check_problems(teacher, recipe)
        _check_language(teacher)
        if teacher.is_chat_api:
            _check_chat_api(teacher)


def check_keys(recipe: Recipe) -> None:
    """Raise ConfigError if the API key of any teacher is not set, before the first one runs."""
    from slowthink.engines.server.endpoints import api_key

    for teacher in teachers_of(recipe):
        if teacher.engine.endpoints is not None:
            api_key(teacher.engine.endpoints)


def _check_attempts(recipe: Recipe) -> None:
    has_attempts = recipe.filter is not None and recipe.filter.difficulty is not None
    for index, source in enumerate(recipe.trace.sources if recipe.trace else ()):
        if source.kind == "attempts" and not has_attempts:
            raise ConfigError(
                f"trace.sources.{index}: attempts are drawn by the filter, which has no difficulty "
                "step in this recipe; expected one. Add filter.difficulty, or use a teacher: "
                f"--set 'trace.sources.{index}={{kind: teacher, model: base}}'"
            )


def _check_problems(teacher: Teacher, recipe: Recipe) -> None:
    if not {"pool", "filter"} & set(recipe.stages()):
        raise ConfigError(
            f"{teacher.setting}: the teacher `{teacher.name}` has no problems, since the recipe "
            "has no `pool`; expected one. Add the problems: pool: {sources: [{kind: file, path: "
            "problems.jsonl}]}"
        )


def _check_language(teacher: Teacher) -> None:
    wanted, instruction = teacher.config.thinking_language, teacher.config.chat.instruction
    own = instruction if isinstance(instruction, Mapping) else {}
    if wanted is not None and wanted not in {*THINKING_LINES, *own}:
        raise ConfigError(
            f"{teacher.setting}.thinking_language: no line asks for thinking in `{wanted}`; "
            f"expected one of {', '.join(THINKING_LINES)}, or your own line. Write it: "
            f"--set '{teacher.setting}.chat.instruction={{{wanted}: TEXT}}'"
        )


def _check_chat_api(teacher: Teacher) -> None:
    """Raise ConfigError for a budget that would have to be forced: a chat API takes none."""
    config, free = teacher.config.budget, Budget()
    forced = {
        "waits": config.waits > 0,
        "min_thinking_tokens": config.min_thinking_tokens > 0,
        "max_thinking_steps": config.max_thinking_steps is not None,
        "force_end": config.force_end,
        "end_rule": config.end_rule != free.end_rule,
        "loop": config.loop is not None,
    }
    if names := [name for name, is_forced in forced.items() if is_forced]:
        raise ConfigError(
            f"{teacher.setting}.budget.{names[0]}: a chat API (`{teacher.model}`) cannot continue "
            "a given text, so nothing can be forced there; expected a budget without "
            f"{' or '.join(names)}. Remove it, or use a server's completions: "
            f"--set {teacher.setting}.engine.endpoints.api=completions"
        )


def order_problems(
    problems: Sequence[Problem], *, seed: int, limit: int | None = None
) -> list[Problem]:
    """The problems in an order drawn by seed, the same for all teachers; at most `limit`."""
    by_seed = sorted(problems, key=lambda p: (item_seed(seed, "teach", p.id), p.id))
    return by_seed[:limit]


def make_teacher_tasks(
    teacher: Teacher, session: Session, problems: Sequence[Problem], recipe: Recipe
) -> list[Task]:
    """The first task of each problem, in order. Problems whose prompt leaves no room for a chain in
    the model's context have none."""
    config = teacher.config
    tasks: dict[str, Task] = {}
    for language, group in group_by(problems, lambda problem: problem.language).items():
        budget = config.budget.budget(
            config.budget.max_thinking_tokens, config.budget.waits, language=language
        )
        new = make_tasks(
            session, group, recipe=recipe, chat=teacher.chat(language, session), budget=budget,
            sampling=config.sampling.to_record(), points=[Point(0)],
        )  # fmt: skip
        tasks |= {task.problem.id: task for task in new}
    sized = (_with_limit(tasks[problem.id], teacher, session) for problem in problems)
    return [task for task in sized if task is not None]


def _with_limit(task: Task, teacher: Teacher, session: Session) -> Task | None:
    """The task with as much thinking as its budget and the context have room for; None: no room."""
    budget, context = teacher.config.budget, session.capabilities.max_context
    room = context - max_job_tokens(Job(request=task.request, points=(Point(0),)))
    default = UNKNOWN_LIMIT_TOKENS if context > _UNBOUNDED else room
    cap = min(room, budget.max_thinking_tokens or default)
    point = Point(cap, budget.waits, forced=budget.force_end, steps=budget.max_thinking_steps)
    return replace(task, points=(point,)) if cap >= 1 else None
