"""The processes: each module has a `main()`; nothing imports them."""
