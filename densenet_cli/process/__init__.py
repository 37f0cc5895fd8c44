"""How the processes of a command start, what they print to, and how they stop."""
