"""Reading and writing files so that a kill, a full disk or a damaged file does no harm."""
