"""Models in files: safetensors, state dicts, and programs of torch.export."""
