"""Facts and costs of a model: observed inputs, FLOPs, tables, pictures."""
