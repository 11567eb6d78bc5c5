"""Images and label maps on their way to the network: preprocessing, and for training transforms, sampling, caching.

``preprocess.py`` is shared by training and inference, so that a network sees the same thing in both.
"""
