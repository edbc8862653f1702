"""READ: files -> Dataset. Readers only read; what a source lacks is drawn with a seed, once, and stored."""
