"""What a model is and costs: observed inputs, FLOPs, tables, pictures."""
