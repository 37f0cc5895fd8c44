"""What a sweep would run, and what it would cost on this machine (`plan=true`)."""
