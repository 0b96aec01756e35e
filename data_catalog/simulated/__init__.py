"""The simulated atmosphere. Nothing else in our packages may import it but the source registry."""
