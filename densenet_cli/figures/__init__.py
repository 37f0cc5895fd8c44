"""How figures and tables look; what they show is decided elsewhere."""
