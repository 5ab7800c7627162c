"""How benchmarks measure: wall time, memory, the machine, and its peak rates."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from art_gair.engine.precision import compute_dtype

PEAK_SIZE = 64


def seconds(call: Callable[[], object], device: str) -> float:
    """Wall time of one call; a GPU is waited for, before and after."""
    synchronize(device)
    began = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: str) -> None:
    """Wait for all work on a GPU; nothing on the CPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def added_peak(call: Callable[[], object], device: str) -> float:
    """Peak memory in MiB that a call needs beside what is held before it.

    On a GPU: of the tensors. On the CPU: of the whole process, Linux only, so measure in a process of its own.
    """
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
        before = resident_peak()
    call()
    after = torch.cuda.max_memory_allocated() if device == "cuda" else resident_peak()
    return (after - before) / 2**20


def resident_peak() -> int:
    """Largest resident memory of this process so far, bytes; getrusage would count that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def peak_rates(precision: str, device: str) -> dict[str, float]:
    """Operations a second of a large 3x3 convolution, channels-last, and of a large matrix product: best of 5."""
    dtype, size = compute_dtype(precision, torch.device(device)), 2048 if device == "cpu" else 8192
    channels, side = 256, 32
    image = torch.rand(PEAK_SIZE, channels, side, side, device=device, dtype=dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    kernel = torch.rand(channels, channels, 3, 3, device=device, dtype=dtype)
    square = torch.rand(size, size, device=device, dtype=dtype)
    work = {
        "convolution": (lambda: torch.conv2d(image, kernel, padding=1), 2 * PEAK_SIZE * (3 * channels * side) ** 2),
        "matrix product": (lambda: square @ square, 2 * size**3),
    }
    return {name: flops / min(seconds(call, device) for _ in range(5)) for name, (call, flops) in work.items()}


def environment(device: str) -> dict[str, Any]:
    """Return what the figures come from: the machine and the versions."""
    cpu = torch.cpu.get_capabilities().get("cpu_name") if hasattr(torch.cpu, "get_capabilities") else None
    cpu = cpu or platform.processor()
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{cpu}, {torch.get_num_threads()} threads",
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def gpu_environment(device: str) -> dict[str, Any]:
    """Return the machine, versions and torch's own settings of precision."""
    import art

    import art_gair

    facts = environment(device) | {"art": art.__version__, "art_gair": art_gair.__version__, "commit": _commit()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {"compute capability": f"{properties.major}.{properties.minor}"}
        facts |= {"memory, GiB": round(properties.total_memory / 2**30, 1)}
        facts |= {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
    facts |= {"TF32 in convolutions": torch.backends.cudnn.allow_tf32}
    return facts | {"TF32 in matrix products": torch.backends.cuda.matmul.allow_tf32}


def _commit() -> str | None:
    """The commit that is measured, "+" behind it if files have changed since; None without git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changed.stdout else "")
