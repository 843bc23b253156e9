"""The clip model for fights: frozen MoveNet features of a window of frames, and a linear head."""
