"""Training: one step, the loop over epochs, and what they record."""
