"""The environment of a run: machine, installed versions, and commit of a slowthink checkout.

Nothing here imports torch, which takes seconds, or initialises CUDA, after which no process forks.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib.util
import json
import logging
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

__version__ = "0.1.0"
_PARTITIONED = " (MIG)"
"""End of the name of a GPU that is used in parts."""
_OTHER_TORCH = "install a torch for the driver's CUDA: https://pytorch.org"
_MAJOR_ATTRIBUTE, _MINOR_ATTRIBUTE = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h."""


@cache
def commit() -> str | None:
    """Short commit hash of slowthink's checkout, with `+` if files have changed. None for an
    installed package. Computed once, since the loaded code does not change.
    """
    package = Path(__file__).parent
    root = _git(package, "rev-parse", "--show-toplevel")
    if root is None or Path(root) / "slowthink" != package:
        return None
    changes = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return f"{_git(package, 'rev-parse', '--short=10', 'HEAD')}{'+' if changes else ''}"


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None if it fails."""
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


# --- child processes ------------------------------------------------------------------------------


def environment_variable(name: str) -> str:
    """The variable's value without spaces around it; empty if it is not set."""
    return os.environ.get(name, "").strip()


def python_command(module: str, *arguments: str) -> list[str]:
    """Command that runs a module in a new interpreter, which imports nothing from the working
    folder; to be run in `python_environment`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def end_process(code: int) -> NoReturn:
    """End this process as `sys.exit` does, but not the interpreter first: extension modules of
    torch and vLLM then print pages on what they leak."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def hide_import_warnings() -> None:
    """Hide what optional packages log as transformers imports them with any model: kernels of
    torchao and bitsandbytes that do not fit this machine, and torchao's use of torch."""
    for name in ("torchao", "bitsandbytes", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def python_environment() -> dict[str, str]:
    """Environment in which no interpreter, also a child of a library, imports from the working
    folder: a file `signal.py` that lies there is data, not code.

    PYTHONPATH keeps absolute folders; an empty entry would be the working folder.
    """
    folders = [*filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    root = str(Path(__file__).resolve().parents[1])
    is_installed = Path(root).name in ("site-packages", "dist-packages")
    if not is_installed and root not in folders:
        folders.append(root)  # the checkout that this process runs
    path = {"PYTHONPATH": os.pathsep.join(folders)} if folders else {}
    others = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return others | path | {"PYTHONSAFEPATH": "1"}


# --- the machine ----------------------------------------------------------------------------------


def machine() -> dict[str, str | int]:
    """Operating system, processor, cores and memory of this machine."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor_name(),
        "cores": os.cpu_count() or 1,
        "memory_gb": memory_gb(),
    }


def _processor_name() -> str:
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        for line in cpu_info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_gb() -> int:
    """Physical memory in GB, rounded; 0 if the system does not report it."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    except (AttributeError, ValueError, OSError):
        return 0


# --- what the processor and the GPUs can do -------------------------------------------------------


def bfloat16_instructions() -> bool | None:
    """Whether torch on this CPU has instructions for bfloat16; None if that is unknown.

    ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA count, since with them torch uses fewer.
    """
    limits = os.environ.get("ATEN_CPU_CAPABILITY", ""), os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    if limits[0].lower() in ("default", "avx2"):
        return False
    if limits[1] and not re.search("BF16|FP16|AMX|AVX10|ALL|DEFAULT", limits[1].upper()):
        return False
    cpu_info = Path("/proc/cpuinfo")
    if not cpu_info.exists():
        return None
    return bool(
        re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", cpu_info.read_text("utf-8", "replace"))
    )


@dataclass(frozen=True)
class CudaDevice:
    """An NVIDIA GPU."""

    name: str
    capability: tuple[int, int]
    """Compute capability, e.g. (9, 0) for an H100."""
    memory_gb: float
    """Memory in GB."""

    @property
    def has_bfloat16(self) -> bool:
        """Whether it computes in bfloat16: since Ampere."""
        return self.capability >= (8, 0)


def cuda_devices() -> tuple[CudaDevice, ...]:
    """The GPUs that torch can use, as it numbers them."""
    devices = () if gpu_problem() else _nvml_devices()
    is_partial = any(gpu.name.endswith(_PARTITIONED) or not gpu.memory_gb for gpu in devices)
    if len(set(devices)) > 1 or is_partial:
        numbered = _devices_by_cuda()
        return visible_devices(devices) if numbered is None else numbered
    return visible_devices(devices)


@dataclass(frozen=True)
class GpuProblem:
    """Why torch can use none of a machine's NVIDIA GPUs, and what helps."""

    seen: str
    remedy: str


def gpu_problem() -> GpuProblem | None:
    """Why torch can use none of this machine's NVIDIA GPUs; None if it can, or there are none."""
    if not _nvml_devices():
        return None
    built, driver = _torch_cuda(), _driver_cuda()
    if built is None:
        return GpuProblem("torch is built without CUDA", _OTHER_TORCH)
    if not driver:  # NVML asks libcuda.so.1, which a container may lack
        return GpuProblem(
            "the version of NVIDIA's driver is unknown, as where libcuda.so.1 is missing",
            "install NVIDIA's driver with CUDA (libcuda.so.1); in a container, start it with "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        )
    if int(built.partition(".")[0]) > driver // 1000:
        newest = f"{driver // 1000}.{driver % 1000 // 10}"
        seen = f"torch is built for CUDA {built}, and the driver runs CUDA {newest} at most"
        return GpuProblem(seen, f"update NVIDIA's driver, or {_OTHER_TORCH}")
    return None


def visible_devices(devices: tuple[CudaDevice, ...]) -> tuple[CudaDevice, ...]:
    """As many of these GPUs, which are alike, as CUDA_VISIBLE_DEVICES names; as in CUDA, what comes
    after a wrong name does not count. A UUID counts as the first."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return devices
    selected: list[CudaDevice] = []
    for name in visible.split(","):
        index = 0 if name.strip().startswith(("GPU-", "MIG-")) else name.strip()
        if not str(index).isdecimal() or int(index) >= len(devices):
            break
        selected.append(devices[int(index)])
    return tuple(selected)


@cache
def _devices_by_cuda() -> tuple[CudaDevice, ...] | None:
    """The GPUs and parts of GPUs as CUDA numbers them; None if CUDA does not start.

    It numbers the fastest first, unless CUDA_DEVICE_ORDER says otherwise, and NVML by place; so
    where they differ CUDA is asked, in a process of its own. So it is where NVML gives no memory,
    as of GB10, whose memory is the machine's.
    """
    code = f"from {__name__} import print_cuda_devices; print_cuda_devices()"
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        child = subprocess.run(
            [sys.executable, "-P", "-c", code], env=python_environment(),
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        fields = [json.loads(line) for line in child.stdout.splitlines()]
        return tuple(CudaDevice(name, (major, minor), gb) for name, major, minor, gb in fields)
    return None


def print_cuda_devices() -> None:
    """Print the GPUs that CUDA sees, a line of JSON each: name, compute capability, memory in GB.

    CUDA starts in this process. Raises OSError without NVIDIA's driver.
    """
    cuda = ctypes.CDLL("libcuda.so.1")
    number, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(96)
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    if cuda.cuInit(0) == 0:  # else no GPU is visible
        cuda.cuDeviceGetCount(ctypes.byref(number))
    for index in range(number.value):
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetName(name, len(name), device)
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR_ATTRIBUTE, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR_ATTRIBUTE, device)
        cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        gigabytes = round(memory.value / 1e9, 1)
        print(json.dumps([_text(name), major.value, minor.value, gigabytes]))


def _torch_cuda() -> str | None:
    """The CUDA that torch is built for, e.g. `13.0`; None for another build, or without torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    version_file = Path(spec.origin).with_name("version.py")
    text = version_file.read_text("utf-8") if version_file.exists() else ""
    match = re.search(r"^cuda\b.*= *['\"]([0-9.]+)", text, re.MULTILINE)
    return match[1] if match else None


@cache
def _nvml() -> ctypes.CDLL | None:
    """The management library of NVIDIA's driver; None if there is none."""
    with contextlib.suppress(OSError):
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() == 0:
            return nvml
    return None


def _driver_cuda() -> int:
    """The newest CUDA that NVIDIA's driver runs, 12040 for 12.4; 0 if that is unknown."""
    version, nvml = ctypes.c_int(), _nvml()
    if nvml is not None:
        nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(version))
    return version.value


@cache
def _nvml_devices() -> tuple[CudaDevice, ...]:
    """All NVIDIA GPUs of this machine, by the driver's management library."""
    num_devices, nvml = ctypes.c_uint(), _nvml()
    if nvml is None or nvml.nvmlDeviceGetCount_v2(ctypes.byref(num_devices)):
        return ()
    return tuple(_nvml_device(nvml, index) for index in range(num_devices.value))


def _nvml_device(nvml: ctypes.CDLL, index: int) -> CudaDevice:
    handle, name = ctypes.c_void_p(), ctypes.create_string_buffer(96)
    major, minor = ctypes.c_int(), ctypes.c_int()
    memory = (ctypes.c_ulonglong * 3)()  # total, free, used
    is_partitioned, next_start = ctypes.c_uint(), ctypes.c_uint()
    nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
    nvml.nvmlDeviceGetName(handle, name, len(name))
    nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor))
    nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    nvml.nvmlDeviceGetMigMode(handle, ctypes.byref(is_partitioned), ctypes.byref(next_start))
    return CudaDevice(
        name=_text(name) + (_PARTITIONED if is_partitioned.value else ""),
        capability=(major.value, minor.value),
        memory_gb=round(memory[0] / 1e9, 1),
    )  # fmt: skip


def _text(buffer: ctypes.Array[ctypes.c_char]) -> str:
    return buffer.value.decode("utf-8", "replace")


def versions() -> dict[str, str]:
    """Versions of slowthink, Python and the installed packages that can change results."""
    python = {"slowthink": __version__, "python": platform.python_version()}
    return python | _package_versions()


@cache
def _package_versions() -> dict[str, str]:
    from importlib import metadata

    versions = {}
    for package in ("torch", "transformers", "trl", "vllm", "math-verify", "pyarrow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
