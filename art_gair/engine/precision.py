"""What "fp32", "bf16" and "auto" mean on a device."""

from __future__ import annotations

import torch

PRECISIONS = ("fp32", "bf16", "auto")


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that convolutions and matrix products are computed in: torch.float32 or torch.bfloat16.

    :param precision: "fp32"; "bf16", wherever it is asked for; or "auto": bf16 where the device has instructions for
        it, else fp32.
    :raises ValueError: for any other word.
    """
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(map(repr, PRECISIONS))}.")
    bf16 = precision == "bf16" or (precision == "auto" and computes_bf16(device))
    return torch.bfloat16 if bf16 else torch.float32


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is computed, slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):  # an older torch cannot tell
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
