"""BASELINES: the rivals of the paper's Table 1 and two plain baselines, behind the interface that PAN has."""
