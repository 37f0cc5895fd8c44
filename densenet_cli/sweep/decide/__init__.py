"""`seeds=until_decided`: more seeds for the comparisons with a baseline that are still open."""
