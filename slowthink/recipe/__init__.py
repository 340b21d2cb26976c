"""The settings of a run, read from one YAML file into frozen models, one per stage.

Settings come from YAML, then `--set a.b=c`, and nothing else: no environment variables, no hidden
defaults per model. All errors in a recipe are reported at once, before any work.

    slowthink run quickstart --set train.epochs=1 --set pool.sources.0.num_problems=50
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slowthink.recipe.base import (
    ChatConfig,
    ClassControl,
    ControlConfig,
    EndpointConfig,
    EngineConfig,
    ForcingConfig,
    FormatConfig,
    LoopConfig,
    PromptedModelConfig,
    SamplingConfig,
    Settings,
    StepControl,
    TokenControl,
    VllmConfig,
)
from slowthink.recipe.curation import (
    ContaminationConfig,
    DomainsConfig,
    DuplicatesConfig,
    FileTraces,
    FilterConfig,
    NearConfig,
    ParaphraseConfig,
    QualityConfig,
    SemanticConfig,
    SolutionTraces,
    TraceConfig,
)
from slowthink.recipe.difficulty import (
    AttemptModel,
    DifficultyConfig,
    DifficultyStep,
    KeyCheckConfig,
)
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
from slowthink.recipe.training import LoraConfig, TrainConfig
from slowthink.serialise import digest

STAGES = ("pool", "filter", "trace", "select", "train", "evaluate", "report")


class Recipe(Settings):
    """Settings of a run. A stage that is null does not run; the first stage reads its `input`."""

    name: str
    """Name of the run; also of the default folder `runs/NAME`."""
    seed: int = 0
    """Random seed, from which a seed is derived for each stage and item."""
    model: str = "smollm2-135m"
    """The base model: `smollm2-135m`, a folder, or a Hub id."""
    revision: str | None = None
    """Revision of a hub model. null: the newest; the loaded one is recorded."""
    engine: EngineConfig = EngineConfig()
    """The engine that runs models."""
    chat: ChatConfig = ChatConfig()
    """How problems become prompts, in training and evaluation alike."""
    formats: dict[str, FormatConfig] = Field(default_factory=dict)
    """Custom thinking formats, by name."""
    runner: Literal["local", "ray"] = "local"
    """Where rows are processed: in this process, or on Ray Data. Results are the same."""
    ledger: str | None = None
    """Path of the ledger, to share it between runs. null: in the run folder."""
    ledger_sync: Literal["normal", "full"] = "normal"
    """full: entries also survive a power cut, but each write is flushed to the disk."""
    pool: PoolConfig | None = None
    """Gather problems."""
    filter: FilterConfig | None = None
    """Drop problems and assign domains."""
    trace: TraceConfig | None = None
    """Gather chains of thought."""
    select: SelectConfig | None = None
    """Select the training set."""
    train: TrainConfig | None = None
    """Fine-tune the model."""
    evaluate: EvaluateConfig | None = None
    """Measure models under thinking budgets."""
    report: ReportConfig | None = ReportConfig()
    """Write the HTML report."""

    def stages(self) -> tuple[str, ...]:
        """The stages of this recipe, in order."""
        return tuple(stage for stage in STAGES if getattr(self, stage) is not None)

    def digest(self) -> str:
        """Hash of all settings."""
        return digest(self.model_dump(mode="json"))


class Generation(Recipe):
    """Settings of `slowthink generate` and `chat`: a recipe's common settings, and these."""

    name: str = "generate"
    """Unused: no run folder is written."""
    chat: ChatConfig = ChatConfig(format="plain")
    """How questions become prompts."""
    forcing: ForcingConfig = ForcingConfig(answer_tokens=64)
    """Budget forcing, except cap and waits."""
    sampling: SamplingConfig = SamplingConfig()
    """How tokens are sampled."""
