"""Our formats into others: one module a format."""
