"""Settings of the filter's step that says which field each problem belongs to.

filter:
  domains: {methods: [lexical, llm]}
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from slowthink.recipe.base import AskedModel, Settings

DomainMethod = Literal["lexical", "embedding", "llm"]


class DomainsConfig(Settings):
    """Give each problem a domain; none is dropped."""

    methods: tuple[DomainMethod, ...] = Field(default=("lexical",), min_length=1, max_length=2)
    """The first one labels; with a second, the agreement of the two is measured. lexical: words,
    English and Chinese. embedding: nearest description, English only. llm: a model names a code."""
    taxonomy: str = "msc"
    """msc: the 61 classes of the Mathematics Subject Classification; or a YAML or JSONL file."""
    overwrite: bool = False
    """Label problems that have a domain from their source, too."""
    llm: AskedModel = AskedModel()
    """The model of method llm."""

    @field_validator("methods")
    @classmethod
    def _different(cls, methods: tuple[DomainMethod, ...]) -> tuple[DomainMethod, ...]:
        if len(set(methods)) < len(methods):
            raise ValueError("a method agrees with itself; name two different ones")
        return methods
