"""Speed against the reference way, in one run; and the experiments behind LOG.md.

    python -m benchmarks.grade --json [--data DIR] [--rounds 5]

| what | benchmarks |
| --- | --- |
| speed, as ratios | grade, filter, difficulty, train, student_fit, forcing, decoding, sweep |
| time or memory | overhead, starts (of processes), traces, memory |
| right or wrong | conformance, killing, fault_run, own_pairs |
| experiments | ablations, real_pool, scores |
| all on a GPU | gpu (a folder of parts) |

Run from the root of a checkout. Without `--data` a benchmark makes its own rows.
"""
