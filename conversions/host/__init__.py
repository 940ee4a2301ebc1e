"""The conversion host: what this machine and this installation have, lack and can do.

capabilities.py, acceleration.py    what virt-v2v and libguestfs can here: asked and measured, never assumed
machine.py, space.py                programs, plugins, drivers; free space and what will still be taken of it
installation.py, checks.py          v2vweb itself: conductor, database, Redis, settings
system.py                           all of it for the System page, measured beside the page
"""
