"""Functions from a model to a changed model."""
