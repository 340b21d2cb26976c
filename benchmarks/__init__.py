"""Speed against the reference way, in one run; and the experiments behind LOG.md.

    python -m benchmarks.grade --json [--data DIR] [--rounds 5]

| speed, as ratios | experiments |
| --- | --- |
| grade, filter, difficulty, train, forcing, sweep | conformance, killing, fault_run, real_pool |
| starts (of processes) | own_pairs, ablations |

Run from the root of a checkout. Without `--data` a benchmark makes its own rows.
"""
