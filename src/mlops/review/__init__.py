"""What a pull request sees: the baseline, the comparison, the gate and the report."""
