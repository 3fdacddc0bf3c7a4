"""Selection of points as DFSQ describes it (arXiv 2305.05888), value by value in plain Python: what
bench/subset_quantizer is compared with. Reads the numbers of one channel, one a line.

    subset_quantizer --print-data | python3 bench/published_kmeans.py [POINTS]
"""

import itertools
import random
import sys
import time

RESTARTS, ROUNDS, SETTLED = 5, 100, 1e-3
WORDS = [(1, 2.0**-a, 2.0**-(a + 4), 0) for a in (1, 2, 3, 4)]


def universal_set():
    values = {sum(choice) / 4 for choice in itertools.product(*WORDS)}
    return sorted(values | {-value for value in values})


def nearest(value, among):
    distances = [abs(value - one) for one in among]
    return distances.index(min(distances))


def kmeans(data, count):
    centres = [data[i] for i in random.sample(range(len(data)), count - 1)] + [0.0]
    for _ in range(ROUNDS):
        clusters = [[] for _ in centres]
        for value in data:
            clusters[nearest(value, centres)].append(value)
        moved = [sum(one) / len(one) if one else random.choice(data) for one in clusters[:-1]] + [0.0]
        if max(abs(a - b) for a, b in zip(moved, centres)) < SETTLED:
            break
        centres = moved
    return centres


def select(data, count):
    candidates, best = universal_set(), None
    for _ in range(RESTARTS):
        points = [candidates[nearest(centre, candidates)] for centre in kmeans(data, count)]
        loss = sum((value - points[nearest(value, points)]) ** 2 for value in data)
        best = min(best or (loss, points), (loss, points))
    return best


random.seed(1)
numbers = [float(line) for line in sys.stdin]
start = time.process_time()
loss, points = select(numbers, int(sys.argv[1]) if len(sys.argv) > 1 else 16)
seconds = time.process_time() - start
print(f"{len(numbers)} numbers, {len(points)} points: {seconds:.1f} s, loss {loss:.4f}")
print("points x 1024:", *sorted(round(1024 * point) for point in points))
