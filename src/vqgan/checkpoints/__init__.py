"""Files: one ``.safetensors`` file per model, run folders, and loading a model from any path."""
