"""Training of the trunk `scenes`: whole-picture logits and boxes, jointly."""
