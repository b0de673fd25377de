"""Many seeds trained in one compiled program, and used as an ensemble."""
