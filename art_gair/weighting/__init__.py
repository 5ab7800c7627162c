"""Instance weights: `base.py` what a scheme is, then one file a family."""
