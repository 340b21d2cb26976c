"""What a model's own chat template makes of the exported messages, compared with our ids.

Trainers render messages with that template. Qwen3's adds an empty think block to a reply without
one, R1's drops the thinking, gpt-oss's refuses its own delimiters in a reply, and ChatML's ends
with a new line after the end token.
"""

from __future__ import annotations

from dataclasses import dataclass

from slowthink.errors import SlowthinkError
from slowthink.export.training import ExportSource, TrainingRow


@dataclass(frozen=True, kw_only=True)
class RenderingDifference:
    """How the rendered rows differ from those that stage `train` trains on."""

    tail: str = ""
    """Text that the template adds after the end-of-sequence token: trained on, and harmless."""
    row_id: str = ""
    """The first row that is another text; empty if all are as they should be."""
    difference: str = ""
    """What is different there."""
    is_same_text: bool = False
    """The text there is the same, in other tokens: the parts were not tokenised separately."""

    @property
    def is_same(self) -> bool:
        """Whether all rows have our prompts and completions, up to the tail."""
        return not self.row_id


def compare_rendering(training: ExportSource) -> RenderingDifference:
    """Render every row as TRL does, up to the first that is another text.

    Without the tokenizer nothing is compared, which the training set's notes say.
    """
    tail = ""
    if training.tokenizer is None:
        return RenderingDifference()
    for row in training.rows:
        expected = row.ids
        try:
            ids, num_prompt = render(training, row)
        except SlowthinkError:
            raise
        except Exception as error:  # a template is a program that its author wrote
            return RenderingDifference(
                row_id=row.id, difference=f"it raised {type(error).__name__}: {str(error)[:200]}"
            )
        ours = [*expected.prompt_ids, *expected.completion_ids]
        tail = training.tokenizer.decode(ids[len(ours) :])
        if ids[: len(ours)] != ours or num_prompt != len(expected.prompt_ids) or tail.strip():
            return _different(training, row, ours, ids)
    return RenderingDifference(tail=tail)


def rendering_notes(
    training: ExportSource, rendering: RenderingDifference | None = None
) -> tuple[str, ...]:
    """What the model's chat template makes of the messages, for the README. `rendering`: the
    comparison, if it is done already."""
    if training.tokenizer is None:
        return ()
    rendering = rendering or compare_rendering(training)
    if not rendering.is_same:
        remedy = (
            "Trainers tokenise a reply as a whole, slowthink part by part, as when a model is "
            "prompted; --form trl writes rows of token ids, which are the same."
            if rendering.is_same_text
            else "Give the trainer a template that writes replies as they are, set chat.format to "
            "the model's own (--set chat.format=auto), or take --form trl, whose rows are then "
            "token ids."
        )
        return (f"Compared row by row, {_reason(training, rendering)}. {remedy}",)
    same = (
        "Every row, rendered by the model's chat template, has the prompt and completion ids that "
        "`slowthink train` trains on"
    )
    tail = f"; the template adds {rendering.tail!r} after the end token" if rendering.tail else ""
    return (f"{same}{tail}.",)


def ids_note(training: ExportSource, rendering: RenderingDifference) -> str:
    """Why rows hold token ids."""
    return (
        "The rows hold token ids and where the completion is, which are trained on as they are: "
        f"{_reason(training, rendering)}. They fit this model's tokenizer only."
    )


def _reason(training: ExportSource, rendering: RenderingDifference) -> str:
    return (
        f"the chat template of {training.recipe.model} does not give the ids that `slowthink "
        f"train` trains on (row {rendering.row_id}: {rendering.difference})"
    )


def render(training: ExportSource, row: TrainingRow) -> tuple[list[int], int]:
    """Token ids of prompt and reply by the chat template, and how many belong to the prompt.

    As TRL: the completion begins where the prompt alone, with the assistant's header, ends or
    differs.
    """
    variables = training.recipe.chat.template_variables or {}

    def encode(messages: list[dict[str, str]], *, add_header: bool) -> list[int]:
        encoded = training.tokenizer.apply_chat_template(
            messages, tokenize=True, return_dict=True, add_generation_prompt=add_header, **variables
        )
        ids: list[int] = encoded["input_ids"]
        return ids

    prompt = encode(row.prompt, add_header=True)
    whole = encode([*row.prompt, row.reply], add_header=False)
    return whole, _num_equal(prompt, whole)


def _num_equal(first: list[int], second: list[int]) -> int:
    """Length of the common beginning."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _different(
    training: ExportSource, row: TrainingRow, ours: list[int], rendered: list[int]
) -> RenderingDifference:
    decode = training.tokenizer.decode
    start = max(0, _num_equal(ours, rendered) - 4)
    parts = [repr(decode(ids[start : start + 16])) for ids in (ours, rendered)]
    if decode(rendered).startswith(decode(ours)):
        difference = f"the same text in other tokens, near {parts[0]}"
        return RenderingDifference(row_id=row.id, difference=difference, is_same_text=True)
    difference = f"expected {parts[0]}, rendered {parts[1]}"
    return RenderingDifference(row_id=row.id, difference=difference)
