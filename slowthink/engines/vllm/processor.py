"""Budget forcing inside vLLM: a logits processor, given by name.

    vllm serve MODEL --logits-processors slowthink.engines.vllm:Forcing
    LLM(MODEL, logits_processors=["slowthink.engines.vllm:Forcing"])

A request says what it wants in `extra_args` (offline) or `vllm_xargs` (HTTP), see `vllm_args`;
thinking, closing, answer and end then lie in this one request: nothing is prefilled again, and no
request waits for another. One class for both of vLLM's interfaces: V1, and that of the V2 model
runner, which is written and tested against its interface but has not run on a GPU.

It is not an entry point of the package on purpose: vLLM loads every installed plug-in of the group
`vllm.logits_processors`, and its V2 model runner, the default on GPUs, refuses to start where one
of them is of the V1 interface alone; nobody's server should depend on what else is installed.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.sample.logits_processor import BatchUpdate
from vllm.v1.sample.logits_processor import LogitsProcessor as ProcessorV1
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcRequestState
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as ProcessorV2

from slowthink.engines.vllm.client import eos_ids_of, stop_id_of
from slowthink.engines.vllm.request_args import ForcingArgs, read_args, refuse_conflicts
from slowthink.engines.vllm.request_flow import Compiler, Spec, check_room, room, thinking_budget
from slowthink.engines.vllm.rows import ForcedRow, History, RowSettings, Stepper
from slowthink.errors import ConfigError, EngineError
from slowthink.records import Sampling
from slowthink.serialise import digest

_KEPT = "_slowthink_history"
"""Attribute of a request's parameters that survives its leaving the batch."""
_LEAST_TEMPERATURE = 1e-5
"""vLLM is greedy below it."""
_log = logging.getLogger(__name__)


class Forcing(ProcessorV1, ProcessorV2):  # type: ignore[misc]
    """Forces the budgets of all requests of one engine."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        place: torch.device | LogitsProcRequestState,
        is_pin_memory: bool = False,
    ) -> None:
        if vllm_config.speculative_config is not None:
            raise EngineError(
                "slowthink.engines.vllm: speculative decoding is on; expected it off, since a "
                "draft would run past a forced end. Start vLLM without --speculative-config."
            )
        self._states: Any = None if isinstance(place, torch.device) else place
        device = place if isinstance(place, torch.device) else place.device
        self._config = vllm_config
        self._stepper = Stepper(device, ids_from_device=self._states is not None)
        self._rows: dict[int, ForcedRow] = {}
        """By batch index; under V2 by slot."""
        self._new: list[tuple[int, SamplingParams, ForcingArgs]] = []
        self._compilers: dict[Any, Compiler] = {}
        self._histories: dict[str, History] = {}
        self._num_seeds = 0

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raise ConfigError, a ValueError, for what cannot be done: the server answers 400."""
        ask = read_args(sampling_params.extra_args)
        if ask is None:
            return
        refuse_conflicts(sampling_params)
        asking = _asking()
        if asking is not None:
            _check(asking[0], ask, sampling_params, num_prompt=asking[1])

    def is_argmax_invariant(self) -> bool:
        """False: it runs before the greedy draw."""
        return False

    # -- V1 --

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch: requests added, removed and moved."""
        if batch_update is not None:
            self._stepper.batch_changed()
            process_dict_updates(self._rows, batch_update, self._added)

    def _added(
        self, params: SamplingParams, prompt_ids: list[int] | None, outputs: list[int]
    ) -> ForcedRow | None:
        ask = _ask_of(params)
        if ask is None:
            return None
        return self._row(ask, params, prompt=prompt_ids or [], outputs=outputs)

    def apply(self, logits: torch.Tensor, ctx: LogitsContext | None = None) -> torch.Tensor:
        """Edit the batch's logits (B, V) in place. `ctx` under V2 only."""
        self._stepper.collect()
        if ctx is not None:
            self._apply_v2(logits, ctx)
        elif self._rows:
            self._stepper.act(logits, self._rows.items())
        return logits

    # -- V2 --

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """A request takes a slot; whether it is ours. Its tokens are there a little later."""
        self._rows.pop(req_idx, None)
        self._new = [one for one in self._new if one[0] != req_idx]
        ask = _ask_of(sampling_params)
        if ask is not None:
            self._new.append((req_idx, sampling_params, ask))
        return ask is not None

    def apply_staged_writes(self) -> None:
        """Make rows of the new requests: now their prompts can be read."""
        if not self._new:
            return
        for slot, params, ask in self._new:
            prompt, outputs = self._tokens(slot)
            self._rows[slot] = self._row(ask, params, prompt=prompt, outputs=outputs)
        self._new = []

    def _tokens(self, slot: int) -> tuple[list[int], list[int]]:
        """A slot's prompt and outputs: read from the device once, when the request enters."""
        num_prompt = int(self._states.prompt_len.np[slot])
        num_all = int(self._states.prefill_len.np[slot])
        ids = self._states.all_token_ids.gpu[slot, :num_all].tolist()
        return ids[:num_prompt], ids[num_prompt:]

    def _apply_v2(self, logits: torch.Tensor, ctx: LogitsContext) -> None:
        slots = ctx.idx_mapping_np.tolist()
        here = [(at, slot) for at, slot in enumerate(slots) if slot in self._rows]
        if not here:
            return
        lengths, whole = ctx.seq_lens_upper_bound_np, self._states.prefill_len.np
        kept = [bool(lengths[at] >= whole[slot]) for at, slot in here]
        self._stepper.batch_changed()  # rows are ordered anew in every step
        self._stepper.act(logits, [(at, self._rows[slot]) for at, slot in here], kept=kept)

    # -- rows --

    def _row(
        self, ask: ForcingArgs, params: SamplingParams, *, prompt: Sequence[int], outputs: list[int]
    ) -> ForcedRow:
        spec = self._spec(ask, params)
        limit = self._config.model_config.max_model_len
        most = room(spec, num_prompt=len(prompt), max_context=limit, max_tokens=params.max_tokens)
        history = self._history(ask, params)
        row = ForcedRow(
            spec,
            RowSettings(
                cap=thinking_budget(spec.ask.budget, room=most),
                sampling=ask.sampling or _own_sampling(params),
                seed=history.seed if history is not None else self._seed(ask, params),
                known_ids=tuple(prompt[len(prompt) - ask.known - ask.closed :][: ask.known]),
                engine_is_greedy=params.temperature < _LEAST_TEMPERATURE,
            ),
            outputs=outputs,
            history=history,
        )
        setattr(params, _KEPT, row.history)
        if ask.log is not None:
            self._histories[ask.log] = row.history
        return row

    def _history(self, ask: ForcingArgs, params: SamplingParams) -> History | None:
        kept: History | None = getattr(params, _KEPT, None)
        return kept or (self._histories.get(ask.log) if ask.log else None)

    def _seed(self, ask: ForcingArgs, params: SamplingParams) -> int:
        if ask.seed is not None:
            return ask.seed
        if params.seed is not None:
            return int(params.seed)
        # Not from the system's randomness: the ranks of a tensor-parallel engine must agree.
        self._num_seeds += 1
        parallel = self._config.parallel_config
        name = [self._config.model_config.seed, parallel.data_parallel_index, self._num_seeds]
        return int(digest(name)[:15], 16)

    def _spec(self, ask: ForcingArgs, params: SamplingParams) -> Spec:
        """Checked when the request was admitted; what no one could check there ends at once."""
        compiler = self._compiler(params)
        try:
            return compiler.spec(ask)
        except ConfigError:
            _log.exception("slowthink: this request is ended without an answer")
            budget = replace(ask.budget, max_thinking_tokens=0, answer_tokens=0, wait_strings=())
            plain = replace(ask.format, name="refused", end_triggers=())
            return compiler.spec(replace(ask, budget=budget, format=plain))

    def _compiler(self, params: SamplingParams) -> Compiler:
        eos_ids = frozenset(params.all_stop_token_ids)
        stop_id = params.eos_token_id if params.eos_token_id is not None else min(eos_ids)
        if (eos_ids, stop_id) not in self._compilers:
            tokenizer = _tokenizer(self._config)
            self._compilers[eos_ids, stop_id] = Compiler(
                tokenizer, eos_ids=eos_ids, stop_id=stop_id
            )
        return self._compilers[eos_ids, stop_id]

    # -- what was drawn --

    def take_histories(self, names: Sequence[str]) -> list[History | None]:
        """What was drawn where ends were declared, of the requests logged under these names;
        forgotten here."""
        self._stepper.collect()
        return [self._histories.pop(name, None) for name in names]

    def open_rows(self) -> dict[str, ForcedRow]:
        """The logged requests in the batch, as far as they have come."""
        self._stepper.collect()
        named = {row.spec.ask.log: row for row in self._rows.values() if row.is_ready}
        return {name: row for name, row in named.items() if name in self._histories}


class Reading:
    """Gives an engine's worker methods that read the processor; vLLM's `worker_extension_cls`.

    Marks are rows of output index, id, P(end), likeliest id, and the id that they stand for. Both
    give None on a worker that draws nothing.
    """

    def slowthink_histories(self, names: Sequence[str]) -> list[Any] | None:
        """The marks of finished requests, None for one that is not known here."""
        processor = _processor_of(self)
        if processor is None:
            return None
        return [_plain(history) for history in processor.take_histories(names)]

    def slowthink_open(self) -> list[Any] | None:
        """Name, output ids and marks of each request at work."""
        processor = _processor_of(self)
        if processor is None:
            return None
        rows = processor.open_rows().items()
        return [[name, row.outputs[: row.count], _plain(row.history)] for name, row in rows]


def _processor_of(worker: Any) -> Forcing | None:
    runner = worker.model_runner
    if hasattr(runner, "input_batch"):
        found = runner.input_batch.logitsprocs.all
    else:
        found = getattr(getattr(runner, "sampler", None), "logits_processors", ())
    return next((one for one in found if isinstance(one, Forcing)), None)


def _plain(history: History | None) -> list[list[float]] | None:
    if history is None:
        return None
    return [
        [at, mark.token, mark.end_probability, mark.argmax, mark.stands_for]
        for at, mark in history.marks.items()
    ]


def _ask_of(params: SamplingParams) -> ForcingArgs | None:
    return read_args(params.extra_args) if params.extra_args else None


def _own_sampling(params: SamplingParams) -> Sampling:
    if params.temperature < _LEAST_TEMPERATURE:
        return Sampling()
    return Sampling(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=max(params.top_k, 0),
        min_p=params.min_p,
    )


def _tokenizer(config: VllmConfig) -> Any:
    from vllm.tokenizers import cached_tokenizer_from_config

    tokenizer = cached_tokenizer_from_config(config.model_config)
    if tokenizer is None:
        raise EngineError(
            "slowthink.engines.vllm: the engine has no tokenizer, and formats are texts. "
            "Start vLLM without --skip-tokenizer-init."
        )
    return tokenizer


# --- admission ------------------------------------------------------------------------------------


def _asking() -> tuple[InputProcessor, int | None] | None:
    """The engine front that validates a request just now, and the prompt's length if it is known.

    vLLM hands `validate_params` neither model nor prompt, and only a refusal raised there becomes a
    clear 400; so its callers' frames are read. Where they look different in another version, what
    needs the model is checked in the engine only.
    """
    frame: FrameType | None = sys._getframe(1)
    front = None
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, InputProcessor):
            front = caller
            if frame.f_code.co_name == "process_inputs":
                return front, _prompt_length(frame.f_locals.get("prompt"))
        frame = frame.f_back
    return (front, None) if front is not None else None


def _prompt_length(prompt: Any) -> int | None:
    ids = prompt.get("prompt_token_ids") if isinstance(prompt, dict) else None
    return len(ids) if ids is not None else None


def _check(
    front: InputProcessor, ask: ForcingArgs, params: SamplingParams, *, num_prompt: int | None
) -> None:
    """Raise ConfigError where the model's tokenizer or context cannot do what is asked."""
    if front.tokenizer is None:
        return
    check_room(
        _compiler_of(front).spec(ask),
        num_prompt=num_prompt if num_prompt is not None else 1,
        max_context=front.model_config.max_model_len,
        max_tokens=params.max_tokens,
    )


@functools.lru_cache(maxsize=8)
def _compiler_of(front: InputProcessor) -> Compiler:
    eos_ids = eos_ids_of(front)
    if not eos_ids:
        raise ConfigError(
            "slowthink: the model names no end-of-text token; expected one, since a request ends "
            "by it. Set eos_token_id in its generation_config.json."
        )
    return Compiler(front.tokenizer, eos_ids=eos_ids, stop_id=stop_id_of(front))
