"""What a user types -> one resolved, checked configuration, and the objects that it describes."""
