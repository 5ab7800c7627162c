"""The inner maximisation: attacks that return adversarial examples and kappa."""
