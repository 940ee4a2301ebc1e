"""Measurements against the limits that v2vweb has set itself: `make bench`, or `make bench ONLY=board`.

They print, and assert nothing: numbers depend on the machine, and on what else it does.
"""
