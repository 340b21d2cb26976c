"""Settings of the filter's step that assigns a domain to each problem.

filter:
  domains: {methods: [lexical, llm]}
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from slowthink.recipe.base import PromptedModelConfig, Settings

DomainMethod = Literal["lexical", "embedding", "llm"]


class DomainsConfig(Settings):
    """Assign a domain to each problem; none is dropped."""

    methods: tuple[DomainMethod, ...] = Field(default=("lexical",), min_length=1, max_length=2)
    """The first method labels; with a second, their agreement is measured. lexical: by words,
    English and Chinese. embedding: nearest description, English only. llm: a model names a class.
    """
    taxonomy: str = "msc"
    """msc: the 61 classes of the Mathematics Subject Classification; or a YAML or JSONL file."""
    overwrite: bool = False
    """Also relabel problems whose source gives a domain."""
    llm: PromptedModelConfig = PromptedModelConfig()
    """The model of method llm."""

    @field_validator("methods")
    @classmethod
    def _different(cls, methods: tuple[DomainMethod, ...]) -> tuple[DomainMethod, ...]:
        if len(set(methods)) < len(methods):
            raise ValueError("methods: both are the same; name two different ones")
        return methods
