"""Norms of the gradients that reach each layer (`densenet-model gradients`)."""
