"""Numerics under the layers, each with its plain `lax` twin where it has another lowering."""
