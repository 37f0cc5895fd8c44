"""Records of runs -> tables, figures and reports. No network is built or trained here."""
