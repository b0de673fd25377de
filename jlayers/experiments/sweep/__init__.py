"""Trials of one experiment with other values: chosen, trained, ended early where they are poor, compared."""
