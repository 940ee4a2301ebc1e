"""The agent: a process of its own for each attempt at a conversion.  Standard library only, no Django, no database.

It is started with the attempt's folder (jobdir.py) and needs nothing else, so that whoever conducts may come and go.

    __main__.py    one agent per attempt, once: the lock and the fence
    attempt.py     the steps, and how an attempt ends
    supervise.py   runs virt-v2v, reads what it says, ends it
    processes.py   what Linux offers for that: subreaper, descendants, mounts
    nbdcopy.py     stands before the real nbdcopy and tells how far the copying is
    remains.py     results, and what is taken away
"""
