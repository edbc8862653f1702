"""How time and memory grow with the data: every stage on generated releases of Polyvore-630's form, 1/100 to 10 times.

    .venv/bin/python -m benchmarks.scale --work FOLDER                  all; what is measured already is not run again
    .venv/bin/python -m benchmarks.scale --work FOLDER --scales 0.1 --stages check train

One module each: release.py draws the data, stages.py says what is run, works.py does what has no command of its own,
measuring.py watches a process, __main__.py goes from stage to stage and keeps results/benchmarks/scale.json. Each stage
is a process of its own, watched from outside. Wall-clock seconds are meant for an otherwise idle machine; processor
seconds stand beside them. Maps are random numbers: neither time nor memory depends on them.
"""
