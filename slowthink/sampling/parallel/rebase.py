"""REBASE: reward-balanced tree search (Wu et al. 2024, arXiv 2408.00724; s1, section 6.2).

The root is expanded into `width` first steps. At each depth all new nodes are scored, and the
remaining width (less the chains that have ended) is divided among the open nodes by a softmax of
their scores; nodes without children are pruned. The `width` chains at the end are closed with an
answer each, and the answers vote. All open nodes of all problems are expanded in one batch. One
real record: `SearchResult(chains=(4 of them), num_tokens=212, scorer_tokens=1480, depth=7, …)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from slowthink.recipe import RebaseConfig
from slowthink.records import Completion, Grade, Problem
from slowthink.sampling.parallel.context import (
    ParallelContext,
    make_sample,
    num_completion_tokens,
    votes_for,
)
from slowthink.sampling.parallel.expansion import NodeExpander, NodeState, PartialChain
from slowthink.sampling.parallel.scorers import ScoreItem, Scorer
from slowthink.sampling.parallel.votes import ProblemVotes, Sample, VotePoint, curve_point, vote


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchedChain:
    """A chain that the search kept, with its answer."""

    thinking: str
    end: NodeState
    score: float
    completion: Completion
    """Of the closing alone: its thinking is empty."""
    grade: Grade


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """What the search made of one problem."""

    problem: Problem
    chains: tuple[SearchedChain, ...]
    votes: tuple[Sample, ...]
    """The chains that can be graded, as samples that vote."""
    num_tokens: int
    """Of all steps, dropped ones too, and all answers."""
    scorer_tokens: int
    num_re_prefilled: int
    """Prompt tokens of expansions and answers that had been prefilled or decoded before."""
    depth: int


def allocate(scores: Sequence[float], width: int, *, temperature: float) -> list[int]:
    """How many children each node gets: ceil(width times its softmax share), in descending order of
    score, until the width is used up. Sums to `width`; equal scores go in the given order."""
    top = max(scores, default=0.0)
    powers = [math.exp((score - top) / temperature) for score in scores]
    found, left = [0] * len(scores), width
    for place in sorted(range(len(scores)), key=lambda i: -scores[i]):
        share = width * powers[place] / sum(powers)
        found[place] = min(left, math.ceil(share - 1e-9))  # a share of 2.0000000001 is 2
        left -= found[place]
    return found


def rebase_curves(
    asking: ParallelContext, problems: Sequence[Problem], scorer: Scorer, config: RebaseConfig
) -> dict[str, list[VotePoint]]:
    """A point a width, for the majority of the kept chains and for the score-weighted one.

    The weighted one is left out where a score is negative.
    """
    trees = {width: search(asking, problems, scorer, config, width) for width in config.widths}
    found = {"majority": [_point(asking, width, one) for width, one in trees.items()]}
    scores = [s.score for one in trees.values() for tree in one for s in tree.votes]
    if all(score is not None and score >= 0 for score in scores):
        found["weighted"] = [_point(asking, w, one, weighted=True) for w, one in trees.items()]
    return {name: points for name, points in found.items() if points}


def _point(
    asking: ParallelContext, width: int, trees: Sequence[SearchResult], *, weighted: bool = False
) -> VotePoint:
    outcomes = [
        ProblemVotes(
            accuracy=vote(tree.votes, weighted=weighted),
            num_tokens=tree.num_tokens,
            scorer_tokens=tree.scorer_tokens,
        )
        for tree in trees
        if tree.votes
    ]
    return curve_point(width, outcomes, seed=asking.seed, num_resamples=asking.num_resamples)


# --- the search -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Node:
    path: tuple[int, ...] = ()
    grown: PartialChain
    score: float = 0.0
    num_children: int = 0


@dataclass(kw_only=True)
class _Growing:
    """A tree at work."""

    problem: Problem
    frontier: list[_Node]
    done: list[_Node] = field(default_factory=list)
    num_tokens: int = 0
    scorer_tokens: int = 0
    num_re_prefilled: int = 0
    depth: int = 0

    def children(self) -> list[tuple[_Node, tuple[int, ...]]]:
        """Node and path of each child to be made."""
        return [
            (node, (*node.path, number))
            for node in self.frontier
            for number in range(node.num_children)
        ]

    def settle(self, children: Sequence[_Node], *, width: int, temperature: float) -> None:
        """Put ended children aside and share what is left of the width out over the others."""
        self.depth += 1
        self.done += [child for child in children if child.grown.end is not NodeState.OPEN]
        live = [child for child in children if child.grown.end is NodeState.OPEN]
        scores = [child.score for child in live]
        counts = allocate(scores, width - len(self.done), temperature=temperature) if live else []
        for child, count in zip(live, counts, strict=True):
            child.num_children = count
        self.frontier = [child for child in live if child.num_children]


def search(
    asking: ParallelContext,
    problems: Sequence[Problem],
    scorer: Scorer,
    config: RebaseConfig,
    width: int,
) -> list[SearchResult]:
    """One tree a problem. Raises ConfigError for greedy sampling or a minimum of thinking."""
    asking.require_draws("REBASE")
    steps = NodeExpander(asking, step_ends=config.step_ends, max_step_tokens=config.max_step_tokens)
    root = PartialChain(ids=(), end=NodeState.OPEN)
    trees = [
        _Growing(problem=one, frontier=[_Node(grown=root, num_children=width)]) for one in problems
    ]
    for depth in range(1, config.max_steps + 1):
        growing = [tree for tree in trees if tree.frontier]
        for tree, children in zip(growing, _expand(steps, growing, scorer), strict=True):
            if depth == config.max_steps:
                for child in children:
                    child.grown = child.grown.cut()
            tree.settle(children, width=width, temperature=config.softmax_temperature)
    return _answered(steps, trees)


def _expand(steps: NodeExpander, trees: Sequence[_Growing], scorer: Scorer) -> list[list[_Node]]:
    """All children of all open nodes, one batch; scored, in another."""
    places = [(tree, node, path) for tree in trees for node, path in tree.children()]
    completions = steps.asking.sampler().complete(
        [steps.expansion(tree.problem, node.grown.ids, path) for tree, node, path in places]
    )
    children: dict[str, list[_Node]] = {tree.problem.id: [] for tree in trees}
    prefixes: set[tuple[str, tuple[int, ...]]] = set()  # equal ones are prefilled once
    for (tree, node, path), (completion,) in zip(places, completions, strict=True):
        child = _Node(path=path, grown=steps.grown(node.grown.ids, completion))
        children[tree.problem.id].append(child)
        tree.num_tokens += len(child.grown.ids) - len(node.grown.ids)
        prefix = (tree.problem.id, node.grown.ids)
        if node.path and prefix not in prefixes:
            tree.num_re_prefilled += completion.num_prompt_tokens
        prefixes.add(prefix)
    made = [children[tree.problem.id] for tree in trees]
    _score(steps, trees, made, scorer)
    return made


def _score(
    steps: NodeExpander, trees: Sequence[_Growing], made: Sequence[Sequence[_Node]], scorer: Scorer
) -> None:
    members = [(tree, child) for tree, nodes in zip(trees, made, strict=True) for child in nodes]
    scored = scorer.score_texts(
        [ScoreItem(tree.problem, steps.real.decode(child.grown.ids)) for tree, child in members]
    )
    for (tree, child), one in zip(members, scored, strict=True):
        child.score = one.score
        tree.scorer_tokens += one.num_tokens


# --- answers --------------------------------------------------------------------------------------


def _answered(steps: NodeExpander, trees: Sequence[_Growing]) -> list[SearchResult]:
    """Close all kept chains, in one batch, and grade them."""
    closings = [
        [steps.closing(tree.problem, node.grown, node.path) for node in tree.done] for tree in trees
    ]
    tasks = [closing.task for found in closings for closing in found]
    completions = iter(steps.asking.sampler().complete(tasks))
    finished = []
    for tree, found in zip(trees, closings, strict=True):
        answers = [next(completions)[0] for _ in found]
        for closing, answer in zip(found, answers, strict=True):
            tree.num_tokens += closing.num_before + num_completion_tokens(answer)
        lengths = {
            closing.task.request.prompt_ids: answer.num_prompt_tokens - closing.num_before
            for closing, answer in zip(found, answers, strict=True)
        }
        tree.num_re_prefilled += sum(lengths.values())
        finished.append(_tree(steps, tree, answers))
    return finished


def _tree(steps: NodeExpander, tree: _Growing, answers: Sequence[Completion]) -> SearchResult:
    asking = steps.asking
    chains = tuple(
        SearchedChain(
            thinking=steps.real.decode(node.grown.ids),
            end=node.grown.end,
            score=node.score,
            completion=answer,
            grade=asking.grade(tree.problem, answer),
        )
        for node, answer in zip(tree.done, answers, strict=True)
    )
    graded = [chain for chain in chains if chain.grade.verdict.counts]
    grades = [chain.grade for chain in graded]
    names = votes_for(grades, asking.grader, choices=tree.problem.choices)
    return SearchResult(
        problem=tree.problem,
        chains=chains,
        votes=tuple(
            make_sample(
                name, chain.grade, tokens=num_completion_tokens(chain.completion), score=chain.score
            )
            for name, chain in zip(names, graded, strict=True)
        ),
        num_tokens=tree.num_tokens,
        scorer_tokens=tree.scorer_tokens,
        num_re_prefilled=tree.num_re_prefilled,
        depth=tree.depth,
    )
