"""One YAML file says what a run does: read here into frozen settings, one model per stage.

YAML, then `--set a.b=c`, and nothing else: no environment variables, no hidden defaults per model.
Everything wrong with a recipe is reported at once, before any work.

    slowthink run quickstart --set train.epochs=1 --set pool.sources.0.num_problems=50
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slowthink.recipe.base import (
    AskedModel,
    ChatConfig,
    ClassControl,
    ControlConfig,
    EndpointConfig,
    EngineConfig,
    ForcingConfig,
    FormatConfig,
    LoopConfig,
    SamplingConfig,
    Settings,
    StepControl,
    TokenControl,
    VllmConfig,
)
from slowthink.recipe.contamination import ContaminationConfig, ParaphraseConfig
from slowthink.recipe.curation import (
    FileTraces,
    FilterConfig,
    SolutionTraces,
    TraceConfig,
    TraceSource,
)
from slowthink.recipe.difficulty import (
    AttemptModel,
    DifficultyConfig,
    DifficultyStep,
    KeyCheckConfig,
)
from slowthink.recipe.domains import DomainsConfig
from slowthink.recipe.duplicates import DuplicatesConfig, NearConfig, SemanticConfig
from slowthink.recipe.evaluation import (
    ArmConfig,
    BenchmarkConfig,
    DrawsConfig,
    EvaluateConfig,
    FunctionScorer,
    JudgeConfig,
    JudgeScorer,
    ModelScorer,
    ParallelConfig,
    ProtocolConfig,
    RebaseConfig,
    RejectionConfig,
    ReportConfig,
    ScorerConfig,
)
from slowthink.recipe.quality import QualityConfig
from slowthink.recipe.selection import PreselectRule, QuotaConfig, SelectConfig
from slowthink.recipe.sources import (
    CatalogueSource,
    FamilyConfig,
    FileSource,
    GymSource,
    GymTaskConfig,
    HubSource,
    PoolConfig,
    PoolSource,
    SandboxSource,
)
from slowthink.recipe.training import (
    LoraConfig,
    TrainConfig,
)
from slowthink.serialise import digest

__all__ = [
    "STAGES",
    "ArmConfig",
    "AskedModel",
    "AttemptModel",
    "BenchmarkConfig",
    "CatalogueSource",
    "ChatConfig",
    "ClassControl",
    "ContaminationConfig",
    "ControlConfig",
    "DifficultyConfig",
    "DifficultyStep",
    "DomainsConfig",
    "DrawsConfig",
    "DuplicatesConfig",
    "EndpointConfig",
    "EngineConfig",
    "EvaluateConfig",
    "FamilyConfig",
    "FileSource",
    "FileTraces",
    "FilterConfig",
    "ForcingConfig",
    "FormatConfig",
    "FunctionScorer",
    "Generation",
    "GymSource",
    "GymTaskConfig",
    "HubSource",
    "JudgeConfig",
    "JudgeScorer",
    "KeyCheckConfig",
    "LoopConfig",
    "LoraConfig",
    "ModelScorer",
    "NearConfig",
    "ParallelConfig",
    "ParaphraseConfig",
    "PoolConfig",
    "PoolSource",
    "PreselectRule",
    "ProtocolConfig",
    "QualityConfig",
    "QuotaConfig",
    "RebaseConfig",
    "Recipe",
    "RejectionConfig",
    "ReportConfig",
    "SamplingConfig",
    "SandboxSource",
    "ScorerConfig",
    "SelectConfig",
    "SemanticConfig",
    "Settings",
    "SolutionTraces",
    "StepControl",
    "TokenControl",
    "TraceConfig",
    "TraceSource",
    "TrainConfig",
    "VllmConfig",
]

STAGES = ("pool", "filter", "trace", "select", "train", "evaluate", "report")


class Recipe(Settings):
    """A whole run. A stage that is null is not run; the first one present reads its `input`."""

    name: str
    """Names the run; also the default folder `runs/NAME`."""
    seed: int = 0
    """All randomness derives from it, by stage and item."""
    model: str = "smollm2-135m"
    """The base model: `smollm2-135m`, a folder, or a hub id."""
    revision: str | None = None
    """Of a hub model. None: the newest; the one found is recorded."""
    engine: EngineConfig = EngineConfig()
    """How models are run."""
    chat: ChatConfig = ChatConfig()
    """How problems are put, in training and evaluation alike."""
    formats: dict[str, FormatConfig] = Field(default_factory=dict)
    """Thinking formats of the user's own, by name."""
    runner: Literal["local", "ray"] = "local"
    """Where row-wise work runs: in this process, or on Ray Data. Decisions are the same."""
    ledger: str | None = None
    """Path of the ledger, to share it between runs. None: inside the run folder."""
    ledger_sync: Literal["normal", "full"] = "normal"
    """full: what is recorded survives a power cut too, at the price of a flush each time."""
    pool: PoolConfig | None = None
    """Gather problems."""
    filter: FilterConfig | None = None
    """Drop problems."""
    trace: TraceConfig | None = None
    """Gather chains."""
    select: SelectConfig | None = None
    """Choose the training set."""
    train: TrainConfig | None = None
    """Fine-tune."""
    evaluate: EvaluateConfig | None = None
    """Measure."""
    report: ReportConfig | None = ReportConfig()
    """Write the page."""

    def stages(self) -> tuple[str, ...]:
        """The stages that this recipe runs, in order."""
        return tuple(stage for stage in STAGES if getattr(self, stage) is not None)

    def digest(self) -> str:
        """Hash of all settings."""
        return digest(self.model_dump(mode="json"))


class Generation(Recipe):
    """What `slowthink generate` can be told: a recipe's common settings, and these."""

    name: str = "generate"
    """Names nothing on disk."""
    chat: ChatConfig = ChatConfig(format="plain")
    """How questions are put."""
    forcing: ForcingConfig = ForcingConfig(answer_tokens=64)
    """Budget forcing, less cap and waits."""
    sampling: SamplingConfig = SamplingConfig()
    """How tokens are drawn."""
