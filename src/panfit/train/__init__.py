"""LEARN: triplets, mining, losses, and the loop that puts them together. Serving never imports this package."""
