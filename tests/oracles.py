"""The paper in plain loops: the slow oracles that every fast path must equal, in value and in gradient.

Written from the equations alone, one scalar at a time, without looking at the fast code; nothing here imports panfit.
"""
