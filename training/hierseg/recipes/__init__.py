"""Recipes: how the models that the repository ships were made, from downloads to weights, as commands.

A recipe builds label maps from named packages (checked by SHA-256, cached outside the repository), trains on images
that are synthesized from them, and measures the result on scans that it never saw.
"""
