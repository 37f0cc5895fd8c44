"""Batches and a network -> weights."""
