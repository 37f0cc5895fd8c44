"""Trained networks in use: their layers, their answers, their errors elsewhere."""
