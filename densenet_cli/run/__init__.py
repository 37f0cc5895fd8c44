"""One configuration -> one trained and tested network, with a record of what came out."""
