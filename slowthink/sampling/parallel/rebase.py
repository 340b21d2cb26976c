"""REBASE: reward-balanced tree search (Wu et al. 2024, arXiv 2408.00724; s1, section 6.2).

The root is expanded into `width` first steps. At each depth all new nodes are scored, and the
remaining width (without chains that have ended) is divided among the open nodes by a softmax of
their scores; nodes without children are pruned. In the end each of the `width` chains gets an
answer, and the answers vote. The open nodes of all problems are expanded in one batch. One real
record: `SearchResult(chains=(…), num_tokens=212, scorer_tokens=1480, …)` with 4 chains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from slowthink.analysis.votes import ProblemVotes, Sample, VotePoint, curve_point, vote
from slowthink.recipe import RebaseConfig
from slowthink.records import Completion, Grade, Problem, Verdict
from slowthink.sampling.parallel.context import ParallelContext, num_completion_tokens, votes_for
from slowthink.sampling.parallel.expansion import NodeExpander, NodeState, PartialChain
from slowthink.sampling.parallel.scorers import ScoreItem, Scorer


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchedChain:
    """A leaf of the tree with its answer."""

    thinking: str
    state: NodeState
    score: float
    completion: Completion
    """The answer alone, without thinking."""
    grade: Grade


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """Result of the search on one problem."""

    problem: Problem
    chains: tuple[SearchedChain, ...]
    votes: tuple[Sample, ...]
    """Chains that can be graded, as samples for voting."""
    num_tokens: int
    """Tokens of all steps, pruned ones included, and of all answers."""
    scorer_tokens: int


def allocate(scores: Sequence[float], width: int, *, temperature: float) -> list[int]:
    """Return the number of children per node, which sum to `width`.

    In descending order of score, each node gets ceil(width times its softmax share), until the
    width is used up. The order of equal scores is kept.
    """
    highest = max(scores, default=0.0)
    weights = [math.exp((score - highest) / temperature) for score in scores]
    counts, remaining = [0] * len(scores), width
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        share = width * weights[index] / sum(weights)
        counts[index] = min(remaining, math.ceil(share - 1e-9))  # no 3 for 2.0000000001
        remaining -= counts[index]
    return counts


def rebase_curves(
    context: ParallelContext, problems: Sequence[Problem], scorer: Scorer, config: RebaseConfig
) -> dict[str, list[VotePoint]]:
    """Return the curves of the majority and of the score-weighted majority, with a point per width.

    Without the weighted curve if a score is negative.
    """
    by_width = {width: search(context, problems, scorer, config, width) for width in config.widths}
    scores = [s.score for results in by_width.values() for r in results for s in r.votes]
    curves = {"majority": [_vote_point(context, *item) for item in by_width.items()]}
    if all(score is not None and score >= 0 for score in scores):
        curves["weighted"] = [
            _vote_point(context, *item, weighted=True) for item in by_width.items()
        ]
    return {name: points for name, points in curves.items() if points}


def _vote_point(
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
    """A node of the tree; its path is the index of each node on it among its siblings."""

    path: tuple[int, ...] = ()
    chain: PartialChain
    score: float = 0.0
    num_children: int = 0


@dataclass(kw_only=True)
class _SearchTree:
    """A search in progress, on one problem."""

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
            (node, (*node.path, index))
            for node in self.frontier
            for index in range(node.num_children)
        ]

    def advance(self, *, width: int, temperature: float) -> None:
        """Move ended children to the leaves and divide the remaining width among the others."""
        self.leaves += [node for node in self.children if node.chain.state is not NodeState.OPEN]
        open_nodes = [node for node in self.children if node.chain.state is NodeState.OPEN]
        width -= len(self.leaves)
        scores = [node.score for node in open_nodes]
        counts = allocate(scores, width, temperature=temperature) if open_nodes else []
        for node, count in zip(open_nodes, counts, strict=True):
            node.num_children = count
        self.frontier = [node for node in open_nodes if node.num_children]
        self.children = []


def search(
    context: ParallelContext,
    problems: Sequence[Problem],
    scorer: Scorer,
    config: RebaseConfig,
    width: int,
) -> list[SearchResult]:
    """Search one tree per problem. Raises ConfigError at temperature 0, and if the arm has a
    minimum of thinking."""
    context.require_temperature("REBASE")
    expander = NodeExpander(
        context, step_ends=config.step_ends, max_step_tokens=config.max_step_tokens
    )
    root = PartialChain(ids=(), state=NodeState.OPEN)
    trees = [
        _SearchTree(problem=problem, frontier=[_Node(chain=root, num_children=width)])
        for problem in problems
    ]
    for depth in range(1, config.max_steps + 1):
        unfinished = [tree for tree in trees if tree.frontier]
        _expand(expander, unfinished, scorer)
        for tree in unfinished:
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
            num_before = len(expander.prompt(tree.problem)) + len(leaf.chain.ids)
            num_newline = answer.num_prompt_tokens - num_before  # forced as part of the prompt
            tree.num_tokens += num_newline + num_completion_tokens(answer)
        results.append(_result(expander, tree, answers))
    return results


def _result(
    expander: NodeExpander, tree: _SearchTree, answers: Sequence[Completion]
) -> SearchResult:
    context = expander.context
    chains = tuple(
        SearchedChain(
            thinking=expander.token_format.decode(leaf.chain.ids),
            state=leaf.chain.state,
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
