"""Files: models in one ``.safetensors`` each, run folders, and loading whatever lies at a path."""
