"""The openai engine: budget forcing over any server with `/v1/completions`.

Thinking is forced by the client, in rounds (`client_forcing`). A server's own thinking budget is
not used, since a failure to keep it would go unnoticed. With `in_flight`, servers started by
`slowthink serve` force inside one request (`server_forcing`). Jobs run concurrently in one thread's
event loop; `completed` returns each as soon as it finishes.

    engine: {kind: openai, endpoints: {urls: [http://a:8000/v1, http://b:8000/v1]}}

The fingerprint is a hash of the server's name of the model, its entry in `/v1/models`, the
tokenizer, and the model's files if the recipe's `model` is a local folder. Servers do not expose
weights: without that folder, different weights under the same name and path have the same
fingerprint; give them different names (`vllm serve --served-model-name`).
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

from slowthink.engines.models import tokenizer_fingerprint
from slowthink.engines.server.base_session import ServerSession
from slowthink.engines.server.client_forcing import ClientForcing
from slowthink.engines.server.replies import ReplyReader, vocabulary_size
from slowthink.engines.server.server_forcing import ServerForcing
from slowthink.engines.server.tokenizer import ServedTokenizer, folder_fingerprint, local_tokenizer
from slowthink.engines.server.unsupported import check_supported
from slowthink.engines.session import Capabilities, Compiler, Job, JobInProgress, check_context
from slowthink.errors import ConfigError
from slowthink.recipe import EngineConfig
from slowthink.serialise import digest


class OpenAISession(ServerSession):
    """Servers of one model with `/v1/completions`."""

    def __init__(
        self,
        name: str,
        config: EngineConfig,
        *,
        revision: str | None = None,
        notify: Callable[[str], None] = lambda _: None,
        tokenizer: Any = None,
    ) -> None:
        self._revision = revision
        self.tokenizer = tokenizer
        super().__init__(name, config, notify)

    @property
    def anomalies(self) -> Counter[str]:
        """Harmless deviations of servers from what was requested, and retries, by kind."""
        return Counter(dict(self._client.anomalies)) + Counter(dict(self._pool.failure_counts))

    def submit(self, job: Job) -> None:
        """Queue a job. Raises ConfigError if these servers cannot keep its budget exactly."""
        check_context(job, max_context=self.capabilities.max_context)
        token_format = self.compiler.token_format(job.request.format)
        check_supported(job, token_format, features=self._features, tokenizer=self.tokenizer)
        if isinstance(self._forcing, ServerForcing):
            self._forcing.check_supported(job)
        self._runner.submit(job)

    def _connect(self, name: str, config: EngineConfig) -> None:
        model = self._probe_common_features(lambda prober: prober.find_model(self._endpoints.model))
        self._open_tokenizer(name, model.model)
        self.compiler = Compiler(self.tokenizer, eos_ids=self.eos_ids)
        self._features = self._probe_common_features(lambda prober: prober.probe(model))
        ask = functools.partial(self._pool.ask, "/completions")
        replied = self._features.reply_model
        if replied not in (None, self._features.model):
            self._notify(f"{self._features.model}: the server's replies name the model {replied}.")
        reader = ReplyReader(replied, vocabulary_size(self.tokenizer))
        self._client = ClientForcing(ask, self._features, self.compiler, reader)
        self._forcing: ClientForcing | ServerForcing = self._client
        if self._endpoints.in_flight:
            self._forcing = self._open_server_forcing()
        self._set_identity(name, config)

    def _open_tokenizer(self, name: str, model: str) -> None:
        if self.tokenizer is not None:
            self.eos_ids = frozenset({self.tokenizer.eos_token_id})
            return
        local = local_tokenizer(name, self._revision)
        if local is not None:
            self.tokenizer, self.eos_ids = local
            return
        self._notify(f"{name}: no local tokenizer of this name; the server's own is used.")
        self.tokenizer = ServedTokenizer(self._endpoints.urls[0], self._pool.key, model)
        self.eos_ids = self.tokenizer.eos_ids

    def _open_server_forcing(self) -> ServerForcing:
        """Raises ConfigError if a server was not started by `slowthink serve`."""
        features = self._features
        are_ours = self._probe_each_server(lambda prober: prober.is_slowthink_serve(features.model))
        for url, is_ours in zip(self._endpoints.urls, are_ours, strict=True):
            if not is_ours or not features.returns_ids or not features.takes_ids:
                raise ConfigError(
                    f"engine.endpoints.in_flight: {url} does not force budgets: it ignored an "
                    "unknown slowthink argument instead of rejecting it; expected a server started "
                    "by `slowthink serve`. Start it so, or set in_flight: false."
                )
        stop_id = self.tokenizer.eos_token_id
        return ServerForcing(self._client, features, stop_id=stop_id)

    def _set_identity(self, name: str, config: EngineConfig) -> None:
        """Set fingerprint, numerics and capabilities."""
        features = self._features
        max_context = config.max_context or features.max_context
        if max_context is None:
            raise ConfigError(
                f"engine.max_context: the server of `{features.model}` does not report its context "
                "length; expected a number, since nothing may be truncated. "
                "Give it: --set engine.max_context=8192"
            )
        tokenizer_hash = tokenizer_fingerprint(self.tokenizer)
        self.fingerprint = digest(
            ["served", features.model, features.facts, tokenizer_hash, folder_fingerprint(name)]
        )
        self.numerics = self._numerics("openai", features.model, features.version)
        self.count_source = "ids" if features.returns_ids else "retokenised"
        self.capabilities = Capabilities(
            takes_ids=features.takes_ids,
            returns_ids=features.returns_ids,
            logprobs=bool(features.logprobs),
            in_flight=isinstance(self._forcing, ServerForcing),
            rollback=not isinstance(self.tokenizer, ServedTokenizer),
            reproducible=False,
            max_context=max_context,
        )
        if not features.returns_ids:
            self._notify(
                f"{features.model}: the server returns no token ids; its text is tokenised again "
                "and those tokens are counted (count_source: retokenised)."
            )

    async def _generate(self, state: JobInProgress) -> None:
        await self._forcing.think(state)
        state.end_thinking()
        errors = await asyncio.gather(
            *(self._client.answer(branch, state) for branch in state.missing_answers),
            return_exceptions=True,  # an answer that fails leaves the others in the result
        )
        for error in errors:
            if error is not None:
                raise error
