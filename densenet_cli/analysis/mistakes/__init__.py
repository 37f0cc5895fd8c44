"""Calibration, confusion of classes, and the most confident mistakes (`densenet-model mistakes`)."""
