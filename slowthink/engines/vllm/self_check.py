"""The check at start that vLLM outputs the tokens that are forced.

Model runners and ways of scheduling differ in when a logits processor learns the last token. If it
learns a wrong one, forced tokens are lost, so a few short requests are run first: they end at
different steps, and have forced ends, refused ends, wait strings and answers. Each data-parallel
copy runs them: vLLM distributes equal loads in turns.
"""

from __future__ import annotations

from typing import Any

from slowthink.engines.session import Job, Point, Session, generate
from slowthink.errors import ConfigError, EngineError
from slowthink.records import Budget, Request, Sampling, ThinkingFormat

_FORMAT = ThinkingFormat(name="self-check", start="", end="\n", cue_after_natural_end=True)
_PROMPT = "1 2 3 4 5 6 7 8"
_ALWAYS_ENDS: dict[str, Any] = {"end_rule": "probability", "end_probability": 0.0}
"""Each sampled token declares an end."""
_BUDGETS = (
    Budget(max_thinking_tokens=1, answer_tokens=1),
    Budget(max_thinking_tokens=6, answer_tokens=2, waits=1, **_ALWAYS_ENDS),
    Budget(max_thinking_tokens=9, answer_tokens=1, waits=2, min_thinking_tokens=3, **_ALWAYS_ENDS),
    Budget(max_thinking_tokens=12, answer_tokens=3, min_thinking_tokens=12),
)


def check_forcing(session: Session, config: Any) -> None:
    """Raise EngineError, naming the switch, if the session's vLLM loses forced tokens.

    `config`: vLLM's. Nothing is run with the V1 model runner and synchronous scheduling, where a
    token is known before the next step begins, as on CPUs.
    """
    is_asynchronous = bool(config.scheduler_config.async_scheduling)
    if not is_asynchronous and not config.use_v2_model_runner:
        return
    prompt_ids = tuple(session.tokenizer.encode(_PROMPT, add_special_tokens=False))
    requests = [
        Request(
            model="self-check", numerics="", prompt_ids=prompt_ids, format=_FORMAT,
            sampling=Sampling(), budget=budget, seed=0, sample=copy,
        )
        for budget in _BUDGETS
        for copy in range(config.parallel_config.data_parallel_size)
    ]  # fmt: skip
    jobs = [
        Job(request=r, points=(Point(r.budget.max_thinking_tokens or 0, r.budget.waits),))
        for r in requests
    ]
    try:
        list(generate(session, jobs))
    except ConfigError:  # a context too small for the requests
        raise
    except Exception as error:  # garbage ids, or an interface that changed, raise any of them
        raise _forcing_fails(
            error, uses_v2=config.use_v2_model_runner, is_asynchronous=is_asynchronous
        ) from error


def _forcing_fails(error: Exception, *, uses_v2: bool, is_asynchronous: bool) -> EngineError:
    runner = "V2" if uses_v2 else "V1"
    scheduling = "asynchronous" if is_asynchronous else "synchronous"
    switches = ["VLLM_USE_V2_MODEL_RUNNER=0 in the environment"] if uses_v2 else []
    if is_asynchronous:
        switches.append("engine.vllm.async_scheduling=false")
    return EngineError(
        f"engine.kind: vllm ({runner} model runner, {scheduling} scheduling): the check at start "
        f"failed: {str(error) or repr(error)}\n"
        f"Expected the forced tokens in the output. Set {' or '.join(switches)}."
    )
