"""REBASE: reward-balanced tree search (Wu et al. 2024, arXiv 2408.00724; s1, section 6.2).

The root is expanded into `width` first steps. At each depth all new nodes are scored, and the
remaining width (less the chains that have ended) is divided among the open nodes by a softmax of
their scores; nodes without children are pruned. The `width` chains at the end are closed with an
answer each, and the answers vote. All open nodes of all problems are expanded in one batch. One
real record: `SearchResult(chains=(4 of them), num_tokens=212, scorer_tokens=1480, …)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from slowthink.analysis.votes import ProblemVotes, Sample, VotePoint, curve_point, vote
from slowthink.recipe import RebaseConfig
from slowthink.records import Completion, Grade, Problem, Verdict
from slowthink.sampling.parallel.context import (
    ParallelContext,
    num_completion_tokens,
    votes_for,
)
from slowthink.sampling.parallel.expansion import NodeExpander, NodeState, PartialChain
from slowthink.sampling.parallel.scorers import ScoreItem, Scorer


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchedChain:
    """A leaf of the tree with its answer."""

    thinking: str
    end: NodeState
    score: float
    completion: Completion
    """Of the answer alone: its thinking is empty."""
    grade: Grade


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """Result of the search on one problem."""

    problem: Problem
    chains: tuple[SearchedChain, ...]
    votes: tuple[Sample, ...]
    """The chains that can be graded, as samples for voting."""
    num_tokens: int
    """Of all steps, pruned ones included, and all answers."""
    scorer_tokens: int


def allocate(scores: Sequence[float], width: int, *, temperature: float) -> list[int]:
    """Return the number of children per node, which sum to `width`.

    Each node gets ceil(width times its softmax share), in descending order of score (equal scores
    in the given order), until the width is used up.
    """
    highest = max(scores, default=0.0)
    weights = [math.exp((score - highest) / temperature) for score in scores]
    counts, remaining = [0] * len(scores), width
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        share = width * weights[index] / sum(weights)
        counts[index] = min(remaining, math.ceil(share - 1e-9))  # a share of 2.0000000001 is 2
        remaining -= counts[index]
    return counts


def rebase_curves(
    context: ParallelContext, problems: Sequence[Problem], scorer: Scorer, config: RebaseConfig
) -> dict[str, list[VotePoint]]:
    """Return one point per width, for the majority of the chains and for the score-weighted one.

    The weighted curve is left out if a score is negative.
    """
    results = {width: search(context, problems, scorer, config, width) for width in config.widths}
    curves = {"majority": [_point(context, width, each) for width, each in results.items()]}
    scores = [
        sample.score for each in results.values() for result in each for sample in result.votes
    ]
    if all(score is not None and score >= 0 for score in scores):
        curves["weighted"] = [
            _point(context, width, each, weighted=True) for width, each in results.items()
        ]
    return {name: points for name, points in curves.items() if points}


def _point(
    context: ParallelContext,
    width: int,
    results: Sequence[SearchResult],
    *,
    weighted: bool = False,
) -> VotePoint:
    votes = [
        ProblemVotes(
            accuracy=vote(result.votes, weighted=weighted),
            num_tokens=result.num_tokens,
            scorer_tokens=result.scorer_tokens,
        )
        for result in results
        if result.votes
    ]
    return curve_point(width, votes, seed=context.recipe.seed, num_resamples=context.num_resamples)


# --- the search -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Node:
    path: tuple[int, ...] = ()
    chain: PartialChain
    score: float = 0.0
    num_children: int = 0


@dataclass(kw_only=True)
class _SearchTree:
    """The search on one problem in progress."""

    problem: Problem
    frontier: list[_Node]
    """Nodes to expand."""
    children: list[_Node] = field(default_factory=list)
    """Nodes of the current depth."""
    leaves: list[_Node] = field(default_factory=list)
    num_tokens: int = 0
    scorer_tokens: int = 0

    def expansions(self) -> list[tuple[_Node, tuple[int, ...]]]:
        """Parent and path of each child to sample."""
        return [
            (node, (*node.path, number))
            for node in self.frontier
            for number in range(node.num_children)
        ]

    def advance(self, *, width: int, temperature: float) -> None:
        """Move ended children to the leaves and divide the remaining width among the others."""
        self.leaves += [child for child in self.children if child.chain.end is not NodeState.OPEN]
        nodes = [child for child in self.children if child.chain.end is NodeState.OPEN]
        width -= len(self.leaves)
        scores = [node.score for node in nodes]
        counts = allocate(scores, width, temperature=temperature) if nodes else []
        for node, count in zip(nodes, counts, strict=True):
            node.num_children = count
        self.frontier = [node for node in nodes if node.num_children]
        self.children = []


def search(
    context: ParallelContext,
    problems: Sequence[Problem],
    scorer: Scorer,
    config: RebaseConfig,
    width: int,
) -> list[SearchResult]:
    """Search one tree per problem. Raises ConfigError for greedy sampling or a minimum of
    thinking."""
    context.require_temperature("REBASE")
    expander = NodeExpander(
        context, step_ends=config.step_ends, max_step_tokens=config.max_step_tokens
    )
    root = PartialChain(ids=(), end=NodeState.OPEN)
    trees = [
        _SearchTree(problem=problem, frontier=[_Node(chain=root, num_children=width)])
        for problem in problems
    ]
    for depth in range(1, config.max_steps + 1):
        growing = [tree for tree in trees if tree.frontier]
        _expand(expander, growing, scorer)
        for tree in growing:
            if depth == config.max_steps:
                for child in tree.children:
                    child.chain = child.chain.cut()
            tree.advance(width=width, temperature=config.softmax_temperature)
    return _answer(expander, trees)


def _expand(expander: NodeExpander, trees: Sequence[_SearchTree], scorer: Scorer) -> None:
    """Sample the children of all open nodes in one batch, and score them in another."""
    expansions = [(tree, node, path) for tree in trees for node, path in tree.expansions()]
    completions = expander.context.sampler().complete(
        [
            expander.expansion_task(tree.problem, node.chain.ids, path)
            for tree, node, path in expansions
        ]
    )
    for (tree, node, path), (completion,) in zip(expansions, completions, strict=True):
        child = _Node(path=path, chain=expander.extend(node.chain.ids, completion))
        tree.num_tokens += len(child.chain.ids) - len(node.chain.ids)
        tree.children.append(child)
    children = [(tree, child) for tree in trees for child in tree.children]
    decode = expander.token_format.decode
    scores = scorer.score_texts(
        [ScoreItem(tree.problem, decode(child.chain.ids)) for tree, child in children]
    )
    for (tree, child), scored in zip(children, scores, strict=True):
        child.score = scored.score
        tree.scorer_tokens += scored.num_tokens


# --- answers --------------------------------------------------------------------------------------


def _answer(expander: NodeExpander, trees: Sequence[_SearchTree]) -> list[SearchResult]:
    """Sample the answers of all leaves in one batch, and grade them."""
    tasks = [
        expander.answer_task(tree.problem, leaf.chain, leaf.path)
        for tree in trees
        for leaf in tree.leaves
    ]
    completions = iter(expander.context.sampler().complete(tasks))
    results = []
    for tree in trees:
        answers = [next(completions)[0] for _ in tree.leaves]
        for leaf, answer in zip(tree.leaves, answers, strict=True):
            before = len(expander.prompt(tree.problem)) + len(leaf.chain.ids)
            newline = answer.num_prompt_tokens - before  # forced as part of the prompt
            tree.num_tokens += newline + num_completion_tokens(answer)
        results.append(_result(expander, tree, answers))
    return results


def _result(
    expander: NodeExpander, tree: _SearchTree, answers: Sequence[Completion]
) -> SearchResult:
    context = expander.context
    chains = tuple(
        SearchedChain(
            thinking=expander.token_format.decode(leaf.chain.ids),
            end=leaf.chain.end,
            score=leaf.score,
            completion=answer,
            grade=context.grade(tree.problem, answer),
        )
        for leaf, answer in zip(tree.leaves, answers, strict=True)
    )
    graded = [chain for chain in chains if chain.grade.verdict.is_counted]
    grades = [chain.grade for chain in graded]
    votes = votes_for(grades, context.grader, choices=tree.problem.choices)
    return SearchResult(
        problem=tree.problem,
        chains=chains,
        votes=tuple(
            Sample(
                answer=answer_vote,
                correct=chain.grade.verdict is Verdict.CORRECT,
                num_tokens=num_completion_tokens(chain.completion),
                score=chain.score,
            )
            for answer_vote, chain in zip(votes, graded, strict=True)
        ),
        num_tokens=tree.num_tokens,
        scorer_tokens=tree.scorer_tokens,
    )
