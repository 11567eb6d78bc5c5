"""Studies: many trainings from one description, and one table of what they came to.

``config`` reads the description, ``data`` makes the frozen data that it names, ``runs`` says which trainings there are and
what of them is done, ``scheduling`` does the others in processes of their own (``child``), ``scoring`` measures the models
that come out, ``collecting`` puts the numbers of all cases together, ``results`` compares the rows, ``tables`` writes them
down, ``attempts`` remembers each time the test data were looked at.
"""
