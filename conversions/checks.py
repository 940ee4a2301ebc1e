"""System checks: what is wrong with this installation, each with an id and a hint."""
