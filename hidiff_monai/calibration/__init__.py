"""The temperature that an evaluation on validation cases asks for."""
