"""What is done with whole runs: train them again, compare them, search settings, find what is wrong."""
