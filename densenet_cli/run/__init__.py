"""A run: one configuration -> one trained and tested network, and its record. Start with train.py."""
