"""What travels through the queue, and what is done with it. Messages carry ids only."""
