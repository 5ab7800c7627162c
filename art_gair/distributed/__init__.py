"""A training or an evaluation on several processes, by torch.distributed: who takes part, and what they exchange."""

from art_gair.distributed.duplicates import find_duplicates
from art_gair.distributed.start import is_first

__all__ = ["find_duplicates", "is_first"]
