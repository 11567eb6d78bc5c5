"""Other formats into ours: one module a format.  Each says what it understands and names what it cannot."""
