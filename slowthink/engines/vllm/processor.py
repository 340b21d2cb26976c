"""Budget forcing inside vLLM: a logits processor, given by name.

    vllm serve MODEL --logits-processors slowthink.engines.vllm:Forcing
    LLM(MODEL, logits_processors=["slowthink.engines.vllm:Forcing"])

A request sets its budget in `extra_args` (offline) or `vllm_xargs` (HTTP), see `request_args`;
thinking, closing, answer and end are then one request: nothing is prefilled again, and no request
waits for another. One class implements both of vLLM's interfaces: V1, and that of the V2 model
runner, vLLM's default on GPUs. Both run in vLLM's own scheduler and runners in the tests, on CPUs;
on a GPU (H100, c3a0f1e) V2 gave the ids of the transformers engine.

Deliberately not an entry point of the package: vLLM loads every installed plug-in of the group
`vllm.logits_processors`, and its V2 model runner, the default on GPUs, refuses to start if one of
them has only the V1 interface; a server should not depend on what else is installed.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import torch
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor as ProcessorV1
from vllm.v1.sample.logits_processor.builtin import process_dict_updates
from vllm.v1.worker.gpu.sample.logits_processor import (
    LogitsContext,
    LogitsProcessor as ProcessorV2,
    LogitsProcRequestState,
)

from slowthink.engines.session import Compiler
from slowthink.engines.vllm.client import read_eos_ids, read_stop_id
from slowthink.engines.vllm.forced_row import ForcedRow, RowSettings
from slowthink.engines.vllm.request_args import ForcingArgs, read_args, refuse_conflicts
from slowthink.engines.vllm.request_flow import (
    CompiledArgs,
    History,
    RequestArguments,
    check_fits,
    compile_args,
    max_thinking,
)
from slowthink.engines.vllm.rows import Stepper
from slowthink.errors import ConfigError, EngineError
from slowthink.records import Sampling
from slowthink.serialise import digest

_HISTORY_ATTRIBUTE = "_slowthink_history"
"""Set on a request's parameters, which outlive its place in the batch."""
_MIN_TEMPERATURE = 1e-5
"""Below it, vLLM is greedy."""
_log = logging.getLogger(__name__)


class Forcing(ProcessorV1, ProcessorV2):  # type: ignore[misc]
    """Forces the budgets of all requests of one engine."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        device_or_states: torch.device | LogitsProcRequestState,
        is_pin_memory: bool = False,
    ) -> None:
        if vllm_config.speculative_config is not None:
            raise EngineError(
                "slowthink.engines.vllm: speculative decoding is on; expected it off, since a "
                "draft would run past a forced end. Start vLLM without --speculative-config."
            )
        self._states: Any = None
        device = device_or_states
        if not isinstance(device, torch.device):  # the V2 model runner's
            self._states, device = device, device.device
        self._config = vllm_config
        self._stepper = Stepper(device, ids_from_device=self._states is not None)
        self._rows: dict[int, ForcedRow] = {}
        """By batch index; under V2 by slot."""
        self._v2_slots: Any = None
        """Slots by batch index in the last step under V2. None: rows were added or removed."""
        self._v2_has_rows = False
        """Whether one of these slots has a row."""
        self._staged: list[tuple[int, SamplingParams, CompiledArgs]] = []
        self._compilers: dict[frozenset[int], Compiler] = {}
        """By the ids that end a request's text."""
        self._histories: dict[str, History] = {}
        self._num_seeds = 0

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Raise ConfigError, a ValueError, for impossible arguments: the server answers 400."""
        if isinstance(sampling_params.extra_args, RequestArguments):
            return  # checked when they were made
        args = read_args(sampling_params.extra_args)
        if args is None:
            return
        refuse_conflicts(sampling_params)
        input_processor, num_prompt = _calling_input_processor()
        if input_processor is not None:
            _check_request(input_processor, args, sampling_params, num_prompt=num_prompt)

    def is_argmax_invariant(self) -> bool:
        """False: vLLM must run it before it takes the likeliest id."""
        return False

    # -- V1 --

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Apply the batch's changes: requests added, removed and moved."""
        if batch_update is not None:
            process_dict_updates(self._rows, batch_update, self._add_row)
            slots = [*batch_update.removed, *(index for index, *_ in batch_update.added)]
            for first, second, _ in batch_update.moved:
                slots += first, second
            self._stepper.on_batch_change(slots)

    def _add_row(
        self, params: SamplingParams, prompt_ids: list[int] | None, outputs: list[int]
    ) -> ForcedRow | None:
        compiled = self._compile(params)
        if compiled is None:
            return None
        prompt_ids = prompt_ids or []
        start, end = _cached_span(compiled.args, len(prompt_ids))
        return self._make_row(
            compiled,
            params,
            num_prompt=len(prompt_ids),
            cached_ids=prompt_ids[start:end],
            outputs=outputs,
        )

    def apply(self, logits: torch.Tensor, ctx: LogitsContext | None = None) -> torch.Tensor:
        """Edit the batch's logits (B, V) in place. `ctx` under V2 only."""
        self._stepper.collect_outputs()
        if ctx is not None:
            self._apply_v2(logits, ctx)
        elif self._rows:
            self._stepper.edit_logits(logits, self._rows)
        return logits

    # -- V2 --

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """Register a request; return whether it has a budget. Its tokens are not available yet."""
        if self._rows.pop(req_idx, None) is not None:
            self._v2_slots = None
        self._staged = [request for request in self._staged if request[0] != req_idx]
        compiled = self._compile(sampling_params)
        if compiled is not None:
            self._staged.append((req_idx, sampling_params, compiled))
        return compiled is not None

    def apply_staged_writes(self) -> None:
        """Make rows of the registered requests, whose tokens can be read now."""
        for slot, params, compiled in self._staged:
            num_prompt = int(self._states.prompt_len.np[slot])
            num_tokens = int(self._states.prefill_len.np[slot])
            self._rows[slot] = self._make_row(
                compiled,
                params,
                num_prompt=num_prompt,
                cached_ids=self._read_ids(slot, *_cached_span(compiled.args, num_prompt)),
                outputs=self._read_ids(slot, num_prompt, num_tokens),
            )
            self._v2_slots = None
        self._staged = []

    def _read_ids(self, slot: int, start: int, stop: int) -> list[int]:
        """Ids of a slot; read from the device, unless there are none."""
        if start == stop:
            return []
        ids: list[int] = self._states.all_token_ids.gpu[slot, start:stop].tolist()
        return ids

    def _apply_v2(self, logits: torch.Tensor, ctx: LogitsContext) -> None:
        slots = ctx.idx_mapping_np
        if self._v2_slots is None or not np.array_equal(slots, self._v2_slots):
            self._v2_slots = slots.copy()
            self._v2_has_rows = not self._rows.keys().isdisjoint(slots.tolist())
            self._stepper.on_batch_change()
        if self._v2_has_rows:
            lengths = ctx.seq_lens_upper_bound_np[: len(slots)]  # padded for a CUDA graph
            kept = lengths >= self._states.prefill_len.np[slots]
            self._stepper.edit_logits(
                logits,
                self._rows,
                order=self._v2_slots,
                kept=None if kept.all() else kept.tolist(),
            )

    # -- rows --

    def _make_row(
        self,
        compiled: CompiledArgs,
        params: SamplingParams,
        *,
        num_prompt: int,
        cached_ids: Sequence[int],
        outputs: list[int],
    ) -> ForcedRow:
        args, max_context = compiled.args, self._config.model_config.max_model_len
        fitting = max_thinking(compiled, num_prompt, max_context, params.max_tokens)
        cap = args.budget.max_thinking_tokens
        history = self._history(args, params)
        row = ForcedRow(
            compiled,
            RowSettings(
                cap=max(0, fitting if cap is None else min(cap, fitting)),
                sampling=args.sampling or _request_sampling(params),
                seed=history.seed if history is not None else self._seed(args, params),
                cached_ids=tuple(cached_ids),
                engine_is_greedy=params.temperature < _MIN_TEMPERATURE,
            ),
            outputs=outputs,
            history=history,
        )
        setattr(params, _HISTORY_ATTRIBUTE, row.history)
        if isinstance(params.extra_args, RequestArguments):
            params.extra_args.history = row.history
        if args.log is not None:
            self._histories[args.log] = row.history
        return row

    def _history(self, args: ForcingArgs, params: SamplingParams) -> History | None:
        history: History | None = getattr(params, _HISTORY_ATTRIBUTE, None)
        return history or (self._histories.get(args.log) if args.log else None)

    def _seed(self, args: ForcingArgs, params: SamplingParams) -> int:
        if args.seed is not None:
            return args.seed
        if params.seed is not None:
            return int(params.seed)
        # Not from the system's randomness: the ranks of a tensor-parallel engine must agree.
        self._num_seeds += 1
        parallel = self._config.parallel_config
        seed_key = [self._config.model_config.seed, parallel.data_parallel_index, self._num_seeds]
        return int(digest(seed_key)[:15], 16)

    def _compile(self, params: SamplingParams) -> CompiledArgs | None:
        """The arguments in token ids; None without a budget. If they are invalid, which could not
        be checked at admission, those of a request that ends at once."""
        if isinstance(params.extra_args, RequestArguments):
            return params.extra_args.compiled
        args = read_args(params.extra_args)
        if args is None:
            return None
        eos_ids = frozenset(params.all_stop_token_ids)
        if eos_ids not in self._compilers:
            self._compilers[eos_ids] = Compiler(_tokenizer(self._config), eos_ids=eos_ids)
        compiler = self._compilers[eos_ids]
        stop_id = params.eos_token_id if params.eos_token_id is not None else min(eos_ids)
        try:
            return compile_args(args, compiler, stop_id=stop_id)
        except ConfigError:
            _log.exception("slowthink: invalid request; it is ended without an answer")
            budget = replace(args.budget, max_thinking_tokens=0, answer_tokens=0, wait_strings=())
            format = replace(args.format, name="refused", end_triggers=())
            ended_args = replace(args, budget=budget, format=format)
            return compile_args(ended_args, compiler, stop_id=stop_id)

    # -- called by the engine's worker --

    # Between two steps, when the last ids of running rows may be unknown, so no row is changed.

    def take_histories(self, num_outputs: Mapping[str, int]) -> dict[str, History | None]:
        """Remove and return the histories stored under these names; `num_outputs` as of
        `Stepper.record_last_ends`."""
        self._stepper.record_last_ends(num_outputs)
        return {name: self._histories.pop(name, None) for name in num_outputs}

    def running_rows(self) -> list[tuple[str, ForcedRow, int]]:
        """Name, row and number of outputs without the last step of each request in the batch whose
        history is stored."""
        rows = self._stepper.running_rows()
        return [(name, row, number) for name, row, number in rows if name in self._histories]


class Reading:
    """Adds methods that read the processor to an engine's worker; vLLM's `worker_extension_cls`.

    A declared end is a list: output index, id sampled, P(end), likeliest id, and the id that
    replaced it. All methods return None on a worker that samples nothing.
    """

    def slowthink_processor(self) -> Forcing | None:
        """The processor itself, for an engine in the same process."""
        return _find_processor(self)

    def slowthink_histories(self, num_outputs: dict[str, int]) -> dict[str, Any] | None:
        """The declared ends of finished requests, given by name and number of output ids; None for
        an unknown request."""
        processor = _find_processor(self)
        if processor is None:
            return None
        histories = processor.take_histories(num_outputs)
        return {name: _declared_ends_as_lists(history) for name, history in histories.items()}

    def slowthink_open(self) -> list[Any] | None:
        """Name, output ids up to the step before the last, and declared ends of each running
        request."""
        processor = _find_processor(self)
        if processor is None:
            return None
        return [
            [name, row.outputs[:number], _declared_ends_as_lists(row.history)]
            for name, row, number in processor.running_rows()
        ]


def _find_processor(worker: Any) -> Forcing | None:
    runner = worker.model_runner
    if hasattr(runner, "input_batch"):
        processors = runner.input_batch.logitsprocs.all
    else:
        processors = getattr(getattr(runner, "sampler", None), "logits_processors", ())
    return next((p for p in processors if isinstance(p, Forcing)), None)


def _declared_ends_as_lists(history: History | None) -> list[list[float]] | None:
    if history is None:
        return None
    return [
        [index, end.token, end.end_probability, end.argmax, end.replacement]
        for index, end in history.ends.items()
    ]


def _request_sampling(params: SamplingParams) -> Sampling:
    if params.temperature < _MIN_TEMPERATURE:
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


def _cached_span(args: ForcingArgs, num_prompt: int) -> tuple[int, int]:
    """Where the prompt's thinking begins and ends."""
    end = num_prompt - args.num_closing
    return end - args.num_cached, end


# --- admission ------------------------------------------------------------------------------------


def _calling_input_processor() -> tuple[InputProcessor | None, int | None]:
    """The input processor that is validating a request, and the prompt's length if it is known.

    vLLM passes `validate_params` neither model nor prompt, and only an error raised there becomes a
    clear 400; so the callers' frames are read. If a later vLLM has other frames, checks that need
    the model are made in the engine only.
    """
    frame: FrameType | None = sys._getframe(1)
    input_processor = None
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, InputProcessor):
            input_processor = caller
            if frame.f_code.co_name == "process_inputs":
                return input_processor, _prompt_length(frame.f_locals.get("prompt"))
        frame = frame.f_back
    return input_processor, None


def _prompt_length(prompt: Any) -> int | None:
    ids = prompt.get("prompt_token_ids") if isinstance(prompt, dict) else None
    return len(ids) if ids is not None else None


def _check_request(
    caller: InputProcessor, args: ForcingArgs, params: SamplingParams, *, num_prompt: int | None
) -> None:
    """Raise ConfigError if the model's tokenizer or context does not allow these arguments."""
    if caller.tokenizer is None:
        return
    num_given = args.num_cached + args.num_closing
    if num_prompt is not None and num_given > num_prompt:
        raise ConfigError(
            f"slowthink_known: {args.num_cached} and slowthink_closed: {args.num_closing}, but the "
            f"prompt has {num_prompt} tokens; expected no more. Send the thinking in the prompt."
        )
    compiler, stop_id = _compiler_for(caller)
    check_fits(
        compile_args(args, compiler, stop_id=stop_id),
        num_prompt=num_prompt if num_prompt is not None else 1,
        max_context=caller.model_config.max_model_len,
        max_tokens=params.max_tokens,
    )


@functools.lru_cache(maxsize=8)
def _compiler_for(input_processor: InputProcessor) -> tuple[Compiler, int]:
    """With the id that ends a request."""
    eos_ids = read_eos_ids(input_processor)
    if not eos_ids:
        raise ConfigError(
            "slowthink: the model has no end-of-text token; expected one, since it ends the "
            "request. Set eos_token_id in its generation_config.json."
        )
    return Compiler(input_processor.tokenizer, eos_ids=eos_ids), read_stop_id(input_processor)
