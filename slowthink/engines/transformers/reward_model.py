"""Reward models on transformers: a language model with a linear head at the last token.

Sequence classification (outcome reward models) and token classification (process reward models).
A score is the sigmoid of the logit; with two labels, of the second logit minus the first. A text
that is a prefix of another one shares its forward pass, so all steps of a chain need one pass. Also
makes reward models: `fit_head` fits a head on the hidden states of a causal model.

Legend: N texts, B texts of a batch, T tokens, D hidden size, L labels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowthink.engines.models import from_folder, tokenizer_fingerprint
from slowthink.engines.transformers.session import import_transformers, pick_device
from slowthink.errors import ConfigError
from slowthink.forcing.prompts import prompt_ids, user_message
from slowthink.recipe import ChatConfig, EngineConfig, FormatConfig
from slowthink.records import Cost, Problem

if TYPE_CHECKING:
    import torch

CARD_FILE = "scorer.json"
"""In the folder of a scorer made here: how it was trained, and how its texts are rendered."""


class RewardModel:
    """A loaded reward model."""

    def __init__(self, folder: Path, config: EngineConfig, *, batch_size: int = 16) -> None:
        self._model, self._tokenizer = _load(folder, config)
        self._head = find_head(self._model, folder)
        self._batch_size = batch_size
        self._rendering = Rendering.from_folder(folder)
        self.cost = Cost()
        self.facts = {
            "labels": int(self._model.config.num_labels),
            "layers": int(self._model.config.num_hidden_layers),
            "tokenizer": tokenizer_fingerprint(self._tokenizer),
        }

    def render(self, problem: Problem, text: str) -> tuple[int, ...]:
        """Input ids of a problem and a text."""
        return self._rendering.ids(self._tokenizer, problem, text)

    def score(self, sequences: Sequence[tuple[int, ...]]) -> list[float]:
        """The probability that each text is of a correct chain, in [0, 1]."""
        import torch

        states = last_token_states(self._model, sequences, batch_size=self._batch_size)
        self.cost += Cost(prefilled=states.num_tokens)
        with torch.inference_mode():
            logits_NL = self._head.float()(states.states_ND)
        logits_N = logits_NL[:, -1] - logits_NL[:, 0] if logits_NL.shape[1] > 1 else logits_NL[:, 0]
        return [sigmoid(float(logit)) for logit in logits_N.tolist()]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """How a problem and a text are tokenised. With `chat` (scorers made here): the prompt of the
    base model, then the text. Without: the model's own chat template."""

    chat: ChatConfig | None = None
    formats: Mapping[str, Any] | None = None
    _prompts: dict[str, tuple[int, ...]] = field(default_factory=dict, compare=False)

    @classmethod
    def from_folder(cls, folder: Path) -> Rendering:
        """The rendering that the folder's card describes."""
        if not (folder / CARD_FILE).is_file():
            return cls()
        card = json.loads((folder / CARD_FILE).read_text("utf-8"))
        formats = {name: FormatConfig(**fields) for name, fields in card["formats"].items()}
        return cls(chat=ChatConfig(**card["chat"]), formats=formats)

    def ids(self, tokenizer: Any, problem: Problem, text: str) -> tuple[int, ...]:
        """Token ids of the prompt and the text."""
        if self.chat is not None:
            if problem.id not in self._prompts:
                ids = prompt_ids(tokenizer, problem, self.chat, self.formats)
                self._prompts[problem.id] = ids
            return (*self._prompts[problem.id], *tokenizer.encode(text, add_special_tokens=False))
        messages = [
            {"role": "user", "content": user_message(problem, ChatConfig())},
            {"role": "assistant", "content": text},
        ]
        conversation = tokenizer.apply_chat_template(messages, tokenize=False)
        return tuple(tokenizer.encode(conversation, add_special_tokens=False))


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), for any logit."""
    if logit < 0:
        return math.exp(logit) / (1 + math.exp(logit))
    return 1 / (1 + math.exp(-logit))


# --- hidden states --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HiddenStates:
    """Hidden states at the last token of each sequence."""

    states_ND: torch.Tensor
    """float32, on the CPU or the head's device."""
    num_tokens: int
    """Number of tokens processed."""


def last_token_states(
    model: Any, sequences: Sequence[tuple[int, ...]], *, batch_size: int
) -> HiddenStates:
    """The backbone's last hidden state at the last token of each sequence, in the given order.

    A sequence that is a prefix of another one shares its forward pass.
    """
    import torch

    prefixes = _group_by_longest(sequences)
    longest = sorted(prefixes, key=lambda ids: (len(ids), ids))
    states: dict[tuple[int, ...], torch.Tensor] = {}
    with torch.inference_mode():
        for start in range(0, len(longest), batch_size):
            batch = longest[start : start + batch_size]
            hidden_BTD = _forward(model, batch)
            for row, ids in enumerate(batch):
                for prefix in prefixes[ids]:
                    states[prefix] = hidden_BTD[row, len(prefix) - 1].float()
    states_ND = torch.stack([states[ids] for ids in sequences])
    return HiddenStates(states_ND=states_ND, num_tokens=sum(map(len, longest)))


def _group_by_longest(
    sequences: Sequence[tuple[int, ...]],
) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
    """Group sequences by the longest one that they are a prefix of."""
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    longest: tuple[int, ...] = ()
    for ids in sorted(set(sequences), reverse=True):  # prefixes follow the longest
        if not groups or longest[: len(ids)] != ids:
            longest = ids
        groups.setdefault(longest, []).append(ids)
    return groups


def _forward(model: Any, batch: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """Hidden states (B, T, D) of the backbone, padded on the right."""
    import torch

    T = max(map(len, batch))
    ids_BT = torch.zeros(len(batch), T, dtype=torch.long)
    mask_BT = torch.zeros(len(batch), T, dtype=torch.long)
    for row, ids in enumerate(batch):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        mask_BT[row, : len(ids)] = 1
    out = model.base_model(
        input_ids=ids_BT.to(model.device), attention_mask=mask_BT.to(model.device), use_cache=False
    )
    hidden_BTD: torch.Tensor = out.last_hidden_state
    return hidden_BTD


# --- loading and building -------------------------------------------------------------------------


def find_head(model: Any, folder: Path) -> Any:
    """The linear layer on top of the backbone. Raises ConfigError for any other kind of head."""
    import torch

    backbone = model.base_model
    heads = [
        module
        for module in model.children()
        if module is not backbone and isinstance(module, torch.nn.Linear)
    ]
    if len(heads) != 1 or backbone is model:
        raise ConfigError(
            f"{folder}: {type(model).__name__} has {len(heads)} linear heads; expected one on top "
            "of a language model. Use a sequence- or token-classification model with one."
        )
    return heads[0]


def _load(folder: Path, config: EngineConfig) -> tuple[Any, Any]:
    library = import_transformers()
    import torch

    names = json.loads((folder / "config.json").read_text("utf-8")).get("architectures") or [""]
    is_token_classifier = names[0].endswith("ForTokenClassification")
    if not is_token_classifier and not names[0].endswith("ForSequenceClassification"):
        raise ConfigError(
            f"scorer `{folder}`: architecture {names[0] or 'not named'} in its config; expected a "
            "sequence- or token-classification model. Make one: slowthink scorer RUN --out DIR"
        )
    task = "Token" if is_token_classifier else "Sequence"
    auto_class = getattr(library, f"AutoModelFor{task}Classification")
    trust = config.trust_remote_code
    model = from_folder(
        auto_class, folder, trust_remote_code=trust, dtype=getattr(torch, config.dtype)
    )
    device = pick_device(config.device)
    try:
        model = model.to(device).eval()
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"scorer `{folder}`: it does not fit in what is free of the memory of {device}; "
            "expected it to, beside the model that is scored. Lower "
            "engine.batch_tokens (or engine.vllm.gpu_memory_utilization), or name a smaller scorer."
        ) from None
    return model, from_folder(library.AutoTokenizer, folder, trust_remote_code=trust)


def build_untrained(folder: Path, config: EngineConfig, *, num_layers: int) -> Any:
    """Build a reward model: a causal model's first layers, and an untrained head of one label.

    Raises ConfigError if transformers has no sequence-classification class for it.
    """
    library = import_transformers()
    import torch

    trust = config.trust_remote_code
    model_config = from_folder(library.AutoConfig, folder, trust_remote_code=trust)
    model_config.num_hidden_layers = num_layers
    model_config.num_labels = 1
    if getattr(model_config, "layer_types", None):
        model_config.layer_types = model_config.layer_types[:num_layers]
    if model_config.pad_token_id is None:
        tokenizer = from_folder(library.AutoTokenizer, folder, trust_remote_code=trust)
        model_config.pad_token_id = tokenizer.pad_token_id or tokenizer.eos_token_id
    library.utils.logging.set_verbosity_error()  # no list of dropped layers and the new head
    try:
        model = from_folder(
            library.AutoModelForSequenceClassification, folder, trust_remote_code=trust,
            config=model_config, dtype=getattr(torch, config.dtype),
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(
            f"{folder}: transformers has no sequence-classification class for "
            f"{model_config.model_type} ({str(error)[:80]}). Use a judge or a function as scorer."
        ) from None
    finally:
        library.utils.logging.set_verbosity_warning()
    return model.to(pick_device(config.device)).eval()


def read_num_layers(folder: Path) -> int:
    """Number of layers of the causal model in this folder."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return int(config["num_hidden_layers"])


def fit_head(
    states_ND: torch.Tensor, labels: Sequence[bool], *, l2: float, bias: bool
) -> tuple[torch.Tensor, float]:
    """Fit a logistic regression on the states; returns its weight (D,) and bias.

    Minimises the mean cross-entropy plus l2 / 2 times the squared norm of the weight, by LBFGS, so
    deterministically. States are divided by their standard deviation, and with `bias` also centred;
    the returned weight and bias are those of the original states.
    """
    import torch

    targets_N = torch.tensor(labels, dtype=torch.float64)
    states_ND = states_ND.double().cpu()
    scale_D = states_ND.std(0).clamp(min=1e-6)
    mean_D = states_ND.mean(0) if bias else torch.zeros_like(scale_D)
    scaled_ND = (states_ND - mean_D) / scale_D
    weight_D = torch.zeros(states_ND.shape[1], dtype=torch.float64, requires_grad=True)
    offset = torch.zeros((), dtype=torch.float64, requires_grad=bias)
    parameters = [weight_D, offset] if bias else [weight_D]
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=300, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits_N = scaled_ND @ weight_D + offset
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits_N, targets_N)
        total = entropy + l2 / 2 * weight_D.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        unscaled_D = weight_D / scale_D
        return unscaled_D.float(), float(offset - unscaled_D @ mean_D)


def save(model: Any, tokenizer: Any, head: tuple[Any, float], folder: Path) -> None:
    """Save the model with this head in transformers' format."""
    import torch

    weight_D, bias = head
    layer = find_head(model, folder)
    with torch.no_grad():
        layer.weight.copy_(weight_D[None])
        if layer.bias is not None:
            layer.bias.fill_(bias)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
