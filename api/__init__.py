"""The gateway: takes pictures in, answers verdicts. It decodes nothing and runs no model."""
