"""REPRODUCE: the tables of the paper on one's own data set, beside the paper's numbers."""
