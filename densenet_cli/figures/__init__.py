"""How figures and tables look. Their content is decided elsewhere."""
