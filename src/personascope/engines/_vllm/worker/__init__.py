"""The plugin in vLLM's worker: model runner hooks, the layer operation, its static and Triton forms."""
