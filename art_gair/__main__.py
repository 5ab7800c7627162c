"""`python -m art_gair evaluate`: the robustness report for people without a script."""

from art_gair.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
