"""How a layer is kept."""
