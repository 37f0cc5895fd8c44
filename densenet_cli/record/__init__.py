"""What a run leaves on disk for others to read: its record, its identity, what it was trained on."""
