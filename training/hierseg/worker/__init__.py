"""The prediction worker: a process that keeps a model warm and answers messages on stdin and stdout.

``protocol`` says what a message is; it is light (standard library and numpy) and shared with the Slicer half.
``channel`` owns the two streams, ``store`` keeps what was sent, ``tasks`` does the work, ``server`` ties them
together and ``watchdog`` ends the process when nobody listens any more.  See ``docs/worker-protocol.md``.
"""
