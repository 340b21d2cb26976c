"""Methods of selection: s1's two ways against literal ones, LIMO's, and the limits on all."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from slowthink.errors import DataError
from slowthink.recipe import SelectConfig
from slowthink.recipe.loading import parse_recipe
from slowthink.records import item_seed
from slowthink.stages.select.choose import METHODS, make_selection, unmet_quotas
from slowthink.stages.select.diversity import Similarities, word_vectors
from slowthink.stages.select.methods import benchmark_domain_weights, preselect
from slowthink.stages.select.paper_counts import compare_to_paper
from slowthink.stages.select.selection import Candidate, Selection

SOURCES = ("qq8933/AIME_1983_2024", "Idavidrein/gpqa", "math", "AI-MO/NuminaMath-CoT/aops_forum")
WORDS = [
    "circle", "prime", "dice", "matrix", "integral", "graph",
    "root", "series", "angle", "field", "vector", "ring",
]  # fmt: skip


def pool(num: int, *, seed: int = 0, num_domains: int = 9) -> list[Candidate]:
    """Made candidates; domains are as uneven as in a real pool."""
    rng = random.Random(seed)
    return [
        Candidate(
            id=f"p-{index:04d}", domain=f"d{min(int(rng.expovariate(0.4)), num_domains - 1)}",
            num_thinking_tokens=rng.randrange(200, 9000), source=rng.choice(SOURCES),
            correct=rng.random() < 0.6, num_tokens=rng.randrange(300, 9500),
            level=rng.randrange(1, 6), scores=dict.fromkeys(("quality", "limo-v2"), rng.random()),
            text=" ".join(rng.choices(WORDS, k=8)) + f" {rng.randrange(100)}",
        )
        for index in range(num)
    ]  # fmt: skip


def chosen(candidates: list[Candidate], seed: int = 0, **settings: Any) -> Selection:
    return make_selection(candidates, SelectConfig(**settings), seed=seed)


# --- s1, literally --------------------------------------------------------------------------------


def index_at(shares: list[float], point: float) -> int:
    """The index of the share in which a point of [0, 1) falls, by subtracting share after share."""
    target = point * sum(shares)
    for index, share in enumerate(shares):
        if target < share:
            return index
        target -= share
    return max(index for index, share in enumerate(shares) if share)


def literal_s1(
    candidates: list[Candidate], *, number: int, shortest: int, switch_at: int, seed: int
) -> list[str]:
    """Algorithm 1 line by line; with `switch_at` below `number` the notebook's cells 14 to 21."""
    rng = random.Random(item_seed(seed, "select", "s1"))
    S: list[str] = []
    for q in sorted(candidates, key=lambda q: (-q.num_thinking_tokens, q.id)):
        hard_set = "AIME" in q.source or "gpqa" in q.source
        if q.correct and (hard_set or (q.source == "math" and q.num_thinking_tokens >= shortest)):
            S.append(q.id)
    aime = Counter(q.domain for q in candidates if "AIME" in q.source)
    gpqa = Counter(q.domain for q in candidates if "gpqa" in q.source)
    r = 0.5 * sum(aime.values()) / sum(gpqa.values())
    Q: dict[str, list[Candidate]] = defaultdict(list)
    for q in candidates:
        Q[q.domain].append(q)
    while len(S) < number and Q:
        D = sorted(Q)
        shares = [1.0] * len(D)
        if len(S) >= switch_at and any(aime[d] + int(gpqa[d] * r) for d in D):
            shares = [float(aime[d] + int(gpqa[d] * r)) for d in D]
        d = D[index_at(shares, rng.random())]
        ranked = sorted(Q[d], key=lambda q: (-q.num_thinking_tokens, q.id))
        q = ranked[index_at([2.0**-rank for rank in range(len(ranked))], rng.random())]
        Q[d].remove(q)
        if q.id not in S:
            S.append(q.id)
        if not Q[d]:
            del Q[d]
    return S


@pytest.mark.parametrize("seed", range(6))
def test_paper_mode_is_algorithm_1(seed: int) -> None:
    candidates = pool(400, seed=seed)
    selection = chosen(candidates, seed, preselect="s1", num_problems=300)
    assert list(selection.chosen) == literal_s1(
        candidates, number=300, shortest=5600, switch_at=10**9, seed=seed
    )
    assert selection.num_wasted > 0


@pytest.mark.parametrize("seed", range(6))
def test_notebook_mode_is_the_notebook(seed: int) -> None:
    candidates = pool(400, seed=seed)
    selection = chosen(
        candidates, seed, preselect="s1", mode="notebook", switch_at=230, num_problems=330
    )
    assert list(selection.chosen) == literal_s1(
        candidates, number=330, shortest=5601, switch_at=230, seed=seed
    )


def test_the_modes_part_at_5600_tokens_of_math() -> None:
    edge = [Candidate("a", "d", 5600, source="math"), Candidate("b", "d", 5601, source="math")]
    paper, notebook = (
        [p.candidate.id for p in preselect(edge, SelectConfig(preselect="s1", mode=mode))]
        for mode in ("paper", "notebook")
    )
    assert (paper, notebook) == (["b", "a"], ["b"])


def test_preselection_takes_math_itself_and_no_other_set_of_that_name() -> None:
    rows = [
        Candidate(name, "d", 9000, source=name)
        for name in ("MATH", "NuminaMath-CoT", "KbsdJames/Omni-MATH", "qfq/openaimath/Algebra")
    ]
    preselected = {p.candidate.id for p in preselect(rows, SelectConfig(preselect="s1"))}
    assert preselected == {"MATH", "qfq/openaimath/Algebra"}


def test_wrong_chains_are_not_preselected() -> None:
    row = Candidate("a", "d", 9000, source="aime-1983-2021", correct=False)
    assert list(preselect([row], SelectConfig(preselect="s1"))) == []


def test_benchmark_histogram_scales_gpqa_to_half_of_aime() -> None:
    rows = [Candidate(f"a{n}", "geometry", 1, source="aime") for n in range(8)]
    rows += [Candidate(f"g{n}", "physics", 1, source="gpqa") for n in range(10)]
    rows += [Candidate(f"h{n}", "geometry", 1, source="gpqa") for n in range(3)]
    # r = 0.5 * 8 / 13: int(10 r) = 3 and int(3 r) = 0
    assert benchmark_domain_weights(rows) == {"geometry": 8.0, "physics": 3.0}


def test_ranks_are_drawn_by_powers_of_two_by_chi_square() -> None:
    candidates = [Candidate(f"p{n}", "d", 100 - n) for n in range(12)]
    draws = Counter(
        next(iter(chosen(candidates, seed, num_problems=1).chosen)) for seed in range(4000)
    )
    whole = 1 - 2**-12
    expected = [4000 * 2.0 ** -(n + 1) / whole for n in range(6)]
    observed = [draws[f"p{n}"] for n in range(6)]
    expected.append(4000 - sum(expected))
    observed.append(4000 - sum(observed))
    square = sum((s - e) ** 2 / e for s, e in zip(observed, expected, strict=True))
    assert square < 22.46  # chi-square, 6 degrees of freedom, p = 0.001


# --- LIMO -----------------------------------------------------------------------------------------


def test_limo_v1_is_balanced_over_domains_and_bands() -> None:
    candidates = pool(1200, seed=3, num_domains=6)
    selection = chosen(candidates, method="limo-v1", num_problems=120, max_similarity=1.0)
    picked = [c for c in candidates if c.id in selection.chosen]
    before, after = (Counter(c.domain for c in rows) for rows in (candidates, picked))
    assert max(before.values()) > 2 * min(before.values())
    assert set(after.values()) == {20}
    ordered = sorted(candidates, key=lambda c: (-c.num_thinking_tokens, c.id))
    band = {c.id: index * 4 // len(ordered) for index, c in enumerate(ordered)}
    bands = Counter((c.domain, band[c.id]) for c in picked)
    assert set(bands.values()) == {5}


def test_a_small_domain_gives_all_it_has_and_the_others_share_the_rest() -> None:
    rows = [Candidate(f"s{n}", "small", n, text=f"{WORDS[n]} one") for n in range(3)]
    rows += [
        Candidate(f"{name}{n}", name, n, text=f"{WORDS[n % 12]} {WORDS[n // 12]} {name}")
        for name in ("big", "large")
        for n in range(60)
    ]
    selection = chosen(rows, method="limo-v1", num_problems=33, max_similarity=1.0)
    counts = Counter(c.domain for c in rows if c.id in selection.chosen)
    assert counts == {"small": 3, "big": 15, "large": 15}


def test_limo_v1_leaves_what_differs_in_numbers_only() -> None:
    rows = [
        Candidate("a", "d", 9, text="What is 3 + 4?"),
        Candidate("b", "d", 8, text="What is 17 + 25?"),
        Candidate("c", "d", 7, text="How many edges has a cube?"),
    ]
    selection = chosen(rows, method="limo-v1", num_problems=3)
    assert len(selection.chosen) == 2 and "c" in selection.chosen
    (rejected,) = selection.rejected.items()
    assert rejected[1].reason == "redundant"
    assert (
        rejected[1].evidence == f"1.00 like {'b' if rejected[0] == 'a' else 'a'}, which is chosen"
    )


def test_limo_v2_takes_the_highest_scores() -> None:
    candidates = pool(100)
    selection = chosen(candidates, method="limo-v2", num_problems=10)
    ordered = sorted(candidates, key=lambda c: -c.scores["quality"])
    assert list(selection.chosen) == [c.id for c in ordered[:10]]


def test_limo_v2_without_scores_is_an_error() -> None:
    with pytest.raises(DataError, match=r"2 of 2 traces have no score `limo-v2`.*limo-v2 needs"):
        chosen([Candidate("a", "d", 1), Candidate("b", "d", 1)], method="limo-v2")


# --- similarity -----------------------------------------------------------------------------------


def test_numbers_are_one_word_and_chinese_is_read() -> None:
    texts = ["求质数 17 的倍数", "求质数 3 的倍数", "三角形的面积", "What is 2 + 3?"]
    similarity = word_vectors(texts) @ word_vectors(texts).T / 127**2
    assert similarity[0, 1] == pytest.approx(1, abs=0.02)
    assert similarity[0, 2] < 0.4 and similarity[0, 3] < 0.3


def test_diverse_covers_more_than_random() -> None:
    candidates = pool(600, seed=5)

    def covered(method: str, seed: int) -> float:
        """Similarity of the worst covered problem to its nearest chosen one."""
        selection = chosen(candidates, seed, method=method, num_problems=25, domain_weight=0.0)
        similarities = Similarities(candidates)
        for index, candidate in enumerate(similarities.candidates):
            if candidate.id in selection.chosen:
                similarities.add_chosen(index)
        return min(similarities.similarity(index) for index in range(len(candidates)))

    pairs = [(covered("diverse", seed), covered("random", seed)) for seed in range(5)]
    assert sum(a for a, _ in pairs) > sum(b for _, b in pairs)


def test_diverse_is_farthest_first() -> None:
    candidates = pool(60, seed=2)
    order = list(chosen(candidates, method="diverse", num_problems=12, domain_weight=0.0).chosen)
    similarities = Similarities(candidates)
    matrix = similarities.vectors @ similarities.vectors.T
    indices = {c.id: index for index, c in enumerate(similarities.candidates)}
    picked = [indices[order[0]]]
    while len(picked) < 12:
        left = [index for index in range(60) if index not in picked]
        picked.append(min(left, key=lambda index: (matrix[index, picked].max(), index)))
    assert [indices[id] for id in order] == picked


def test_longest_takes_the_longest() -> None:
    candidates = pool(50)
    selection = chosen(candidates, method="longest", num_problems=5)
    ordered = sorted(candidates, key=lambda c: -c.num_thinking_tokens)
    assert list(selection.chosen) == [c.id for c in ordered[:5]]


# --- limits, for all methods ----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_rows_does_not_matter(method: str) -> None:
    candidates = pool(150, seed=7)
    settings: dict[str, Any] = {
        "method": method, "num_problems": 40, "preselect": "s1", "mode": "notebook",
        "switch_at": 20, "quotas": [{"by": "domain", "value": "*", "min": 2, "max": 12}],
        "max_total_tokens": 150_000,
    }  # fmt: skip
    first = chosen(candidates, **settings)
    second = chosen(random.Random(1).sample(candidates, len(candidates)), **settings)
    assert (first.chosen, first.rejected) == (second.chosen, second.rejected)


@pytest.mark.parametrize("method", METHODS)
def test_quotas_and_the_token_budget_hold(method: str) -> None:
    candidates = pool(300, seed=11)
    config = SelectConfig(
        method=method, num_problems=60, max_similarity=1.0,
        quotas=[{"by": "domain", "value": "d0", "max": 4}, {"by": "level", "value": "3", "min": 9},
                {"by": "source", "value": "*", "max": 30}],
        max_total_tokens=230_000,
    )  # fmt: skip
    selection = make_selection(candidates, config, seed=0)
    rows = [c for c in candidates if c.id in selection.chosen]
    by_domain, by_source = Counter(r.domain for r in rows), Counter(r.source for r in rows)
    assert by_domain["d0"] <= 4 and max(by_source.values()) <= 30
    assert sum(row.level == 3 for row in rows) >= 9
    assert sum(row.num_tokens for row in rows) == selection.num_tokens <= 230_000
    assert unmet_quotas(selection) == []
    full = {rejection.reason for rejection in selection.rejected.values()}
    assert len(rows) >= 20 and full <= {"over a quota", "over the token budget", "redundant"}


def test_an_unmet_minimum_is_reported() -> None:
    config = SelectConfig(
        num_problems=3, quotas=[{"by": "domain", "value": "rare", "min": 2}]
    )  # fmt: skip
    rows = [Candidate("a", "rare", 1), *(Candidate(f"b{n}", "d", 2) for n in range(5))]
    selection = make_selection(rows, config, seed=0)
    assert selection.chosen["a"].phase == "quota" and len(selection.chosen) == 3
    assert unmet_quotas(selection) == [
        "quota of domain rare: 2 problems requested, 1 selected of 1 there; by domain there are: "
        "5 of d, 1 of rare. Add problems of this kind, or lower select.quotas.0.min"
    ]


def test_minimum_scores_and_levels_hold_and_are_recorded() -> None:
    rows = [
        Candidate("a", "d", 1, level=5, scores={"quality": 0.9}),
        Candidate("b", "d", 1, level=5, scores={"quality": 0.1}),
        Candidate("c", "d", 1, level=2, scores={"quality": 0.9}),
    ]
    selection = chosen(rows, method="full", min_scores={"quality": 0.5}, min_level=3)
    assert list(selection.chosen) == ["a"]
    assert selection.rejected["b"].evidence == "quality 0.1 < 0.5"
    assert selection.rejected["c"].reason == "below the minimum level"


@pytest.mark.parametrize(("settings", "message"), [
    ({"min_scores": {"x": 1}}, "no score `x`, which min_scores.x needs"),
    ({"min_level": 2}, "no level, which min_level needs"),
])  # fmt: skip
def test_missing_scores_are_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        chosen([Candidate("a", "d", 1)], **settings)


@pytest.mark.parametrize("section", [
    {"quotas": [{"by": "domain", "value": "x", "min": 3, "max": 2}]},
    {"quotas": [{"by": "colour", "value": "x"}]},
    {"benchmark_domains": {"x": 0}},
    {"benchmark_domains": {}},
    {"preselect": [{"sources": []}]},
])  # fmt: skip
def test_impossible_settings_are_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="select"):
        parse_recipe({"name": "t", "select": section})


# --- the papers -----------------------------------------------------------------------------------


def test_papers_counts_stand_beside_ours_where_sources_are_theirs() -> None:
    rows = [Candidate("a", "d", 1, source="aime-1983-2021"), Candidate("b", "d", 1, source="own")]
    comparison = compare_to_paper("s1", rows, {"chosen": 2})
    assert comparison is not None and comparison["share_same_sources"] == 0.5
    assert comparison["steps"][-1] == {"step": "chosen", "paper": 1000, "notebook": 1000, "ours": 2}
    assert compare_to_paper("s1", rows[1:], {"chosen": 1}) is None
    assert compare_to_paper("random", rows, {}) is None


def test_s1_fills_up_to_the_number_whatever_was_preselected() -> None:
    candidates = pool(200)
    selection = chosen(candidates, preselect="s1", num_problems=10)
    assert Counter(choice.phase for choice in selection.chosen.values()) == {"preselect": 10}
