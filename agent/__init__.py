"""Modelsmith, a self-hosted agent that makes models."""

__version__ = "0.1.0"
