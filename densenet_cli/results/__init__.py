"""What runs have left on disk -> tables, figures and reports; no network is built or trained here."""
