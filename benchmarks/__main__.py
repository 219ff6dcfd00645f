"""python -m benchmarks PHOTOS.zip: the speed benchmarks; `benchmarks.quality` takes an hour."""

import sys

from benchmarks import start, train_throughput

if len(sys.argv) != 2:
    sys.exit("usage: python -m benchmarks PHOTOS.zip (make bench PHOTOS=photos.zip)")
train_throughput.main(["--archive", sys.argv[1]])
start.main()
