"""Presets of how published results were measured. All compared models share a protocol.

`resolve_protocol("limo-v1")` takes 16 samples per problem at temperature 0.7 on a benchmark of
fewer than 50 problems, and one greedy sample per problem on a larger one.
"""

from __future__ import annotations

from slowthink.errors import ConfigError
from slowthink.recipe import DrawsConfig, ProtocolConfig

LIMO_SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
"""LIMO's README (GAIR-NLP/LIMO at 2284c6a), in training and evaluation alike."""

_PRESETS = (
    ProtocolConfig(name="greedy"),
    # arXiv 2501.19393, section 4: greedy; the prompt is the question alone (simplescaling/s1, eval)
    ProtocolConfig(name="s1", question_only=True),
    # arXiv 2502.03387v1, section 4.2
    ProtocolConfig(
        name="limo-v1",
        small_draws=DrawsConfig(temperatures=(0.7,), num_samples=16),
        system_prompt=LIMO_SYSTEM_PROMPT,
    ),
    # arXiv 2502.03387v3 (COLM 2025)
    ProtocolConfig(
        name="limo-v2",
        small_draws=DrawsConfig(temperatures=(0.6,), num_samples=4),
        system_prompt=LIMO_SYSTEM_PROMPT,
    ),
    # GAIR-NLP/AIME-Preview at 7011a9ea: averaged over three temperatures
    ProtocolConfig(
        name="aime-preview",
        draws=DrawsConfig(temperatures=(0.0, 0.3, 0.6), num_samples=8, top_p=0.95),
        system_prompt=LIMO_SYSTEM_PROMPT,
    ),
)
PROTOCOLS = {preset.name: preset for preset in _PRESETS}


def resolve_protocol(protocol: str | ProtocolConfig) -> ProtocolConfig:
    """The preset of that name, or the protocol itself. Raises ConfigError for an unknown name."""
    if isinstance(protocol, ProtocolConfig):
        return protocol
    if protocol not in PROTOCOLS:
        raise ConfigError(
            f"evaluate.protocols: `{protocol}` is unknown; expected one of {', '.join(PROTOCOLS)}, "
            "or a custom one: {name: mine, draws: {temperatures: [0.6], num_samples: 8}}"
        )
    return PROTOCOLS[protocol]


def draws_for(protocol: ProtocolConfig, *, num_problems: int) -> DrawsConfig:
    """Temperatures and number of samples for a benchmark with this number of problems."""
    small = num_problems < protocol.small_below
    return protocol.small_draws if small and protocol.small_draws else protocol.draws


def describe_protocol(protocol: ProtocolConfig, *, num_problems: int) -> str:
    """The protocol as text, to print beside a result: `limo-v1: T=0.7, 16 samples`."""
    draws = draws_for(protocol, num_problems=num_problems)
    description = ", ".join("greedy" if not t else f"T={t:g}" for t in draws.temperatures)
    if draws.top_p < 1:
        description += f", top-p {draws.top_p:g}"
    num_samples = draws.num_samples if any(draws.temperatures) else 1
    description += f", {num_samples} sample{'s' * (num_samples > 1)}"
    if protocol.question_only:
        description += ", question only"
    return description if protocol.name == "greedy" else f"{protocol.name}: {description}"
