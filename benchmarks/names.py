"""Names of the package that the GPU benchmarks use, in today's layout or that of commit c3a0f1e.

The benchmarks also measure older checkouts (`python -m benchmarks.gpu --against DIR`).
"""

from __future__ import annotations

from slowthink.engines import open_session
from slowthink.recipe import ChatConfig, EngineConfig, SandboxSource, VllmConfig
from slowthink.records import Budget, Request, Sampling

try:
    from slowthink.engines.session import Job, JobResult, Point, Session, generate
    from slowthink.forcing.formats import FORMATS
    from slowthink.forcing.prompts import prompt_ids
    from slowthink.stages.pool.sandbox import sandbox_problems
except ImportError:
    from slowthink.engines.base import Job, Outcome as JobResult, Point, Session, generate
    from slowthink.pool.sandbox import sandbox_problems
    from slowthink.thinking.chat import prompt_ids
    from slowthink.thinking.formats import FORMATS

__all__ = [
    "FORMATS", "Budget", "ChatConfig", "EngineConfig", "Job", "JobResult", "Point", "Request",
    "Sampling", "SandboxSource", "Session", "VllmConfig", "generate", "open_session", "prompt_ids",
    "sandbox_problems",
]  # fmt: skip
