"""Models from elsewhere: `arsvd compress`, its inputs, and the code that builds a model."""
