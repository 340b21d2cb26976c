"""The settings of a run, read from one YAML file into frozen models, one per stage.

Settings come from YAML, then `--set a.b=c`, and nothing else: no environment variables, no hidden
defaults per model. All errors in a recipe are reported at once, before any work.

    slowthink run quickstart --set train.epochs=1 --set pool.sources.0.num_problems=50
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from slowthink.recipe.base import (
    ChatConfig as ChatConfig,
    ClassControl as ClassControl,
    ControlConfig as ControlConfig,
    EndpointConfig as EndpointConfig,
    EngineConfig as EngineConfig,
    ForcingConfig as ForcingConfig,
    FormatConfig as FormatConfig,
    LoopConfig as LoopConfig,
    PromptedModelConfig as PromptedModelConfig,
    SamplingConfig as SamplingConfig,
    Settings as Settings,
    StepControl as StepControl,
    TokenControl as TokenControl,
    VllmConfig as VllmConfig,
    in_language as in_language,
)
from slowthink.recipe.curation import (
    ContaminationConfig as ContaminationConfig,
    DomainsConfig as DomainsConfig,
    DuplicatesConfig as DuplicatesConfig,
    FilterConfig as FilterConfig,
    NearConfig as NearConfig,
    ParaphraseConfig as ParaphraseConfig,
    QualityConfig as QualityConfig,
    SemanticConfig as SemanticConfig,
)
from slowthink.recipe.difficulty import (
    AttemptModel as AttemptModel,
    DifficultyConfig as DifficultyConfig,
    DifficultyStep as DifficultyStep,
    KeyCheckConfig as KeyCheckConfig,
)
from slowthink.recipe.evaluation import (
    ArmConfig as ArmConfig,
    BenchmarkConfig as BenchmarkConfig,
    DrawsConfig as DrawsConfig,
    EvaluateConfig as EvaluateConfig,
    FunctionScorer as FunctionScorer,
    JudgeConfig as JudgeConfig,
    JudgeScorer as JudgeScorer,
    ModelScorer as ModelScorer,
    ParallelConfig as ParallelConfig,
    ProtocolConfig as ProtocolConfig,
    RebaseConfig as RebaseConfig,
    RejectionConfig as RejectionConfig,
    ReportConfig as ReportConfig,
    ScorerConfig as ScorerConfig,
)
from slowthink.recipe.scores import (
    ChecksScore as ChecksScore,
    GuardedLimoScore as GuardedLimoScore,
    LengthScore as LengthScore,
    LevelsConfig as LevelsConfig,
    LimoV2Score as LimoV2Score,
    LimoWeights as LimoWeights,
    ModelScore as ModelScore,
    PreferenceConfig as PreferenceConfig,
    RedundancyScore as RedundancyScore,
    RubricScore as RubricScore,
    ScoreConfig as ScoreConfig,
    StudentFitScore as StudentFitScore,
    StudentLossScore as StudentLossScore,
    StudentScore as StudentScore,
    check_score_name as check_score_name,
)
from slowthink.recipe.selection import (
    PreselectRule as PreselectRule,
    QuotaConfig as QuotaConfig,
    SelectConfig as SelectConfig,
)
from slowthink.recipe.sources import (
    CatalogueSource as CatalogueSource,
    FamilyConfig as FamilyConfig,
    FileSource as FileSource,
    GymSource as GymSource,
    GymTaskConfig as GymTaskConfig,
    HubSource as HubSource,
    PoolConfig as PoolConfig,
    PoolSource as PoolSource,
    SandboxSource as SandboxSource,
)
from slowthink.recipe.traces import (
    AttemptTraces as AttemptTraces,
    FileTraces as FileTraces,
    GateConfig as GateConfig,
    PriceConfig as PriceConfig,
    SolutionTraces as SolutionTraces,
    TeacherBudget as TeacherBudget,
    TeacherTraces as TeacherTraces,
    TraceConfig as TraceConfig,
)
from slowthink.recipe.training import (
    DevConfig as DevConfig,
    LoraConfig as LoraConfig,
    StopConfig as StopConfig,
    TrainConfig as TrainConfig,
)
from slowthink.serialise import digest

STAGES = ("pool", "filter", "trace", "select", "train", "evaluate", "report")


class Recipe(Settings):
    """Settings of a run. A stage that is null does not run; the first stage reads its `input`."""

    name: str
    """Name of the run; also of the default folder `runs/NAME`, so it is one part of a path."""
    seed: int = Field(default=0, ge=0)
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
    processes: int = Field(default=1, ge=1)
    """Processes that train together on this machine, on a GPU each if it has GPUs. Batches and
    schedule do not depend on it."""
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

    @field_validator("name")
    @classmethod
    def _is_file_name(cls, name: str) -> str:
        is_one_part = name.strip() not in ("", ".", "..") and not re.search(r"[/\\]", name)
        if not is_one_part or not name.isprintable() or len(name.encode("utf-8", "replace")) > 200:
            raise ValueError("expected a folder's name of at most 200 bytes, without / or \\")
        return name

    def stages(self) -> tuple[str, ...]:
        """The stages of this recipe, in order."""
        return tuple(stage for stage in STAGES if getattr(self, stage) is not None)

    def named_model(self, name: str, revision: str | None = None) -> tuple[str, str | None]:
        """Name and revision of the model that a setting names; `base` is the recipe's own."""
        return (self.model, self.revision) if name == "base" else (name, revision)

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
