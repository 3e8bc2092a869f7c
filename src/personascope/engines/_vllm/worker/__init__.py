"""What runs in the worker: hooks of the model runner, the layer operation, its static and Triton forms."""
