"""Named sets of problems to measure on: a table of facts, and one loader for the hub and for files.

LoadedBenchmark(name="aime24", problems=(…30), domain="in", source={"path": "aime24.jsonl", …})
"""

from slowthink.data.benchmarks.table import BENCHMARKS, Benchmark, find_benchmark

__all__ = ["BENCHMARKS", "Benchmark", "find_benchmark"]
