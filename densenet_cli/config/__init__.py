"""The words a user typed -> one resolved, checked configuration; nothing is built or run here."""
