"""Where data comes from: one small file per provider, two protocols, a registry."""
