"""python -m benchmarks PHOTOS.zip: every benchmark, one after the other."""

import sys

from benchmarks import start, train_throughput

if len(sys.argv) != 2:
    sys.exit("usage: python -m benchmarks PHOTOS.zip (make bench PHOTOS=photos.zip)")
train_throughput.main(["--archive", sys.argv[1]])
start.main()
