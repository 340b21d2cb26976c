"""The command line: `python -m benchmarks.gpu --json [--parts …] [--against DIR]`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks import gpu
from benchmarks.gpu.part import DEFAULT_PARTS, PARTS
from benchmarks.gpu.runner import DEFAULT_SECONDS, Settings, run_parts, table


def main() -> None:
    """Print the figures; exit status 1 if a part failed or ran over."""
    options = _parse_options()
    out = options.out or Path(tempfile.mkdtemp(prefix="slowthink-gpu-"))
    settings = Settings(
        parts=options.parts, out=out, against=options.against, seconds=options.seconds,
        short=options.short, vllm=options.vllm, model=options.model, data=options.data,
    )  # fmt: skip
    figures = run_parts(settings)
    print(json.dumps(figures, indent=1) if options.json else table(figures))
    print(f"figures, table and logs: {out}", file=sys.stderr)
    reports = [report for part in figures["parts"].values() for report in part.values()]
    sys.exit(any(report["status"] in ("failed", "over time") for report in reports))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=gpu.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="Print JSON in place of the table.")
    parser.add_argument(
        "--parts", type=_parts, default=DEFAULT_PARTS,
        help=f"Comma-separated: {', '.join(PARTS)}. Default: all but the last two.",
    )  # fmt: skip
    parser.add_argument("--against", type=_checkout, help="Root of a checkout to measure as well.")
    parser.add_argument("--out", type=Path, help="Folder for gpu.json, gpu.md and logs.")
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_SECONDS, help="Limit of each part. Default: 120."
    )
    parser.add_argument("--model", help="Model of the parts adapters and real_problems.")
    parser.add_argument("--data", type=Path, help="Folder of the part real_problems.")
    parser.add_argument("--short", action="store_true", help="Shortened, as always without a GPU.")
    parser.add_argument(
        "--vllm", type=json.loads, default={}, metavar="JSON",
        help="More arguments of each vLLM engine (vllm.EngineArgs), slowthink's and the plain one.",
    )  # fmt: skip
    return parser.parse_args()


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: expected {', '.join(PARTS)}")
    return parts


def _checkout(text: str) -> Path:
    root = Path(text)
    if not (root / "slowthink" / "__init__.py").is_file():
        raise argparse.ArgumentTypeError(f"{root} has no folder `slowthink`; expected a checkout")
    return root


if __name__ == "__main__":
    main()
