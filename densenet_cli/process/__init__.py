"""How our processes start, tell each other apart, print and end."""
