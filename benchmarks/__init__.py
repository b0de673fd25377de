"""What jlayers promises, measured side by side. See benchmarks/README.md."""
