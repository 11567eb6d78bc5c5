"""Processes, without Qt: what starts, talks to and ends the prediction worker, and what follows a training run.

``launch`` builds command lines, ``transport`` carries bytes, ``client`` speaks the worker's protocol, ``prepare``
turns images and bundles into what is sent, ``jobs`` holds what callers see, ``processes`` tells one process from
another, ``training`` starts a detached training, finds it again and stops it.  ``setup`` reports what a Python can run,
``setup_plan`` says what an installation would do, ``setup_worker`` tries a worker of the user's choice.

Nothing here blocks: a client is fed by its transport and looked after by ``poll()``, which a timer calls.  Only
the conveniences for scripts (``hello``, ``put``, ``load``, ``predict``, ``wait``) wait.
"""
