"""The domain of a problem in a taxonomy: by its words, by embeddings, or by a language model."""
