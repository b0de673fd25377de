"""What a layer is, and how layers compose: the contract, without any layer."""
