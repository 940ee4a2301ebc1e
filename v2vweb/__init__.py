"""The Django project of v2vweb."""

__version__ = "0.1.0"
