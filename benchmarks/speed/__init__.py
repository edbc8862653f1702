"""How fast, and in how much memory: panfit beside a plain implementation of the same, and beside the machine itself.

One module a case; each has the plain way in it, or takes it from plain_pan.py. Plain is what published codes do: an
item is loaded, or decoded, and encoded anew for every slot of every outfit, float32, by a per-sample Dataset; metrics
are loops. The machine's rates are measured in the same process; what is compared is timed in turns, the best of several
rounds. Wall-clock seconds, so nothing else should run.

    .venv/bin/python -m benchmarks.speed                  all that have no result of this commit (`make bench`)
    .venv/bin/python -m benchmarks.speed decoding import  these, again

Each case runs in a process of its own and writes results/benchmarks/speed-<case>.json.
"""
