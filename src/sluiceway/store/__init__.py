"""The tables, the engine that opens them, and the one writer that changes them."""
