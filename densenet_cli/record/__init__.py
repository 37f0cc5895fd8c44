"""What a run leaves on disk for others to read: its record, its identity and what it was trained on."""
