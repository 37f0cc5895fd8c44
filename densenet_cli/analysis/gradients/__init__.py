"""How large the gradients are that reach each layer (`densenet-model gradients`)."""
