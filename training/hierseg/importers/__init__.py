"""Other formats into ours: one module a format.  Each says what it understands and names what it cannot.

``label_trees`` reads lists of labels.  The others turn data sets into dataset folders: ``acdc``, ``brats``, ``nnunet``,
``decathlon`` and ``seg_nrrd`` each look through a folder and describe what is there as a ``source.Source``, without
reading a voxel; ``reading`` reads one case, ``writing`` goes through all of them, ``report`` says what became of each.
"""
