"""Figures of evaluations, drift and harm."""
