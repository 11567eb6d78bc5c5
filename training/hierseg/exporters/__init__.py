"""Our formats into others: one module a format, which says what the other format cannot hold.

``label_trees`` writes lists of labels.  ``nnunet``, ``decathlon`` and ``bids`` write data sets: case by case, with what
they share in ``writing``; ``losses`` counts what is lost on the way and says it in sentences.
"""
