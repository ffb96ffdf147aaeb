"""Sorting and searching."""


def insert_sorted(numbers, new):
    """Return sorted numbers with a new one at its place, after any equal ones.

    >>> insert_sorted([1, 3, 5], 4)
    [1, 3, 4, 5]
    >>> insert_sorted([], 2)
    [2]
    >>> insert_sorted([1, 2], 0)
    [0, 1, 2]
    >>> insert_sorted([1, 2], 9)
    [1, 2, 9]
    >>> insert_sorted([2, 2], 2)
    [2, 2, 2]
    """
    index = 0
    while index < len(numbers) and numbers[index] <= new:
        index += 1
    return numbers[:index] + [new] + numbers[index:]


def is_sorted(items):
    """Say whether no item is smaller than the one before it.

    >>> is_sorted([1, 2, 2, 3])
    True
    >>> is_sorted([2, 1])
    False
    >>> is_sorted([])
    True
    >>> is_sorted([5])
    True
    >>> is_sorted([1, 3, 2, 4])
    False
    """
    for index in range(1, len(items)):
        if items[index] < items[index - 1]:
            return False
    return True


def bubble_up(numbers):
    """Sort numbers by exchanging neighbours until none is out of order.

    >>> bubble_up([3, 1, 2])
    [1, 2, 3]
    >>> bubble_up([])
    []
    >>> bubble_up([1])
    [1]
    >>> bubble_up([5, 4, 3, 2, 1])
    [1, 2, 3, 4, 5]
    >>> bubble_up([2, 2, 1])
    [1, 2, 2]
    """
    result = list(numbers)
    for end in range(len(result) - 1, 0, -1):
        for index in range(end):
            if result[index] > result[index + 1]:
                result[index], result[index + 1] = result[index + 1], result[index]
    return result


def pick_smallest(numbers, count):
    """Return the `count` smallest numbers, smallest first, by picking them one by one.

    >>> pick_smallest([4, 1, 3], 2)
    [1, 3]
    >>> pick_smallest([4, 1, 3], 0)
    []
    >>> pick_smallest([], 2)
    []
    >>> pick_smallest([2, 2, 5], 5)
    [2, 2, 5]
    >>> pick_smallest([9, 8, 7, 6], 3)
    [6, 7, 8]
    """
    left = list(numbers)
    picked = []
    while left and len(picked) < count:
        smallest = min(left)
        left.remove(smallest)
        picked.append(smallest)
    return picked


def find_page(pages, wanted):
    """Return the position of a number in sorted pages by halving, or -1.

    >>> find_page([1, 3, 5, 7], 5)
    2
    >>> find_page([1, 3, 5, 7], 4)
    -1
    >>> find_page([], 1)
    -1
    >>> find_page([2], 2)
    0
    >>> find_page([1, 2, 3, 4, 5, 6], 1)
    0
    """
    low, high = 0, len(pages) - 1
    while low <= high:
        middle = (low + high) // 2
        if pages[middle] == wanted:
            return middle
        if pages[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return -1


def first_at_least(numbers, bound):
    """Return the position of the first of sorted numbers that is at least `bound`, by halving.

    >>> first_at_least([1, 3, 5], 3)
    1
    >>> first_at_least([1, 3, 5], 4)
    2
    >>> first_at_least([1, 3, 5], 9)
    3
    >>> first_at_least([], 0)
    0
    >>> first_at_least([2, 2, 2], 2)
    0
    """
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        if numbers[middle] < bound:
            low = middle + 1
        else:
            high = middle
    return low


def turning_point(numbers):
    """Sorted distinct numbers were moved round the end; return the position of the smallest.

    >>> turning_point([4, 5, 1, 2, 3])
    2
    >>> turning_point([1, 2, 3])
    0
    >>> turning_point([2, 1])
    1
    >>> turning_point([7])
    0
    >>> turning_point([9, 1, 3, 5, 7])
    1
    """
    low, high = 0, len(numbers) - 1
    while low < high:
        middle = (low + high) // 2
        if numbers[middle] > numbers[high]:
            low = middle + 1
        else:
            high = middle
    return low


def merge_queues(left, right):
    """Merge two sorted lists into one.

    >>> merge_queues([1, 4], [2, 3])
    [1, 2, 3, 4]
    >>> merge_queues([], [1])
    [1]
    >>> merge_queues([], [])
    []
    >>> merge_queues([1, 1], [1])
    [1, 1, 1]
    >>> merge_queues([5, 6], [1, 2, 9])
    [1, 2, 5, 6, 9]
    """
    merged = []
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            merged.append(left[i])
            i += 1
        else:
            merged.append(right[j])
            j += 1
    return merged + left[i:] + right[j:]


def sort_by_split(numbers):
    """Sort numbers by splitting them around the first one, again and again.

    >>> sort_by_split([3, 1, 2])
    [1, 2, 3]
    >>> sort_by_split([])
    []
    >>> sort_by_split([2, 2])
    [2, 2]
    >>> sort_by_split([5, -1, 0, 7])
    [-1, 0, 5, 7]
    >>> sort_by_split([9, 8, 7])
    [7, 8, 9]
    """
    if not numbers:
        return []
    pivot = numbers[0]
    below = [n for n in numbers[1:] if n < pivot]
    others = [n for n in numbers[1:] if n >= pivot]
    return sort_by_split(below) + [pivot] + sort_by_split(others)


def out_of_order(numbers):
    """Count the pairs of positions in which the larger number comes first.

    >>> out_of_order([1, 2, 3])
    0
    >>> out_of_order([3, 2, 1])
    3
    >>> out_of_order([])
    0
    >>> out_of_order([2, 1, 2])
    1
    >>> out_of_order([4, 1, 3, 2])
    4
    """
    count = 0
    for first in range(len(numbers)):
        for second in range(first + 1, len(numbers)):
            if numbers[first] > numbers[second]:
                count += 1
    return count


def rank_of(scores):
    """Return each score's rank, 1 for the best; equal scores share a rank and the next is left out.

    >>> rank_of([50, 90, 70])
    [3, 1, 2]
    >>> rank_of([10, 10, 5])
    [1, 1, 3]
    >>> rank_of([])
    []
    >>> rank_of([3])
    [1]
    >>> rank_of([1, 2, 2, 3])
    [4, 2, 2, 1]
    """
    ranks = []
    for score in scores:
        better = [other for other in scores if other > score]
        ranks.append(len(better) + 1)
    return ranks


def sort_by_last_name(names):
    """Sort names by their last word and, where it is the same, by the whole name.

    >>> sort_by_last_name(["Ada Byron", "Bo Ark"])
    ['Bo Ark', 'Ada Byron']
    >>> sort_by_last_name([])
    []
    >>> sort_by_last_name(["Cy Doe", "Al Doe"])
    ['Al Doe', 'Cy Doe']
    >>> sort_by_last_name(["Plato"])
    ['Plato']
    >>> sort_by_last_name(["X Y Z", "Z A", "B M"])
    ['Z A', 'B M', 'X Y Z']
    """
    keyed = []
    for name in names:
        keyed.append((name.split()[-1], name))
    return [name for _, name in sorted(keyed)]


def merge_shifts(shifts):
    """Join working shifts (start, end) that overlap or touch; return them sorted.

    >>> merge_shifts([(1, 3), (2, 5), (7, 8)])
    [(1, 5), (7, 8)]
    >>> merge_shifts([(4, 6), (1, 4)])
    [(1, 6)]
    >>> merge_shifts([])
    []
    >>> merge_shifts([(1, 9), (2, 3)])
    [(1, 9)]
    >>> merge_shifts([(5, 6), (1, 2)])
    [(1, 2), (5, 6)]
    """
    merged = []
    for start, end in sorted(shifts):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def rooms_needed(meetings):
    """Return how many rooms meetings (start, end) need; one may begin when another ends.

    >>> rooms_needed([(1, 4), (2, 5), (6, 7)])
    2
    >>> rooms_needed([(1, 2), (2, 3)])
    1
    >>> rooms_needed([])
    0
    >>> rooms_needed([(1, 9), (2, 8), (3, 7)])
    3
    >>> rooms_needed([(0, 1)])
    1
    """
    changes = []
    for start, end in meetings:
        changes.append((start, 1))
        changes.append((end, -1))
    needed = 0
    taken = 0
    for _, change in sorted(changes):
        taken += change
        needed = max(needed, taken)
    return needed


def most_meetings(meetings):
    """Return how many meetings (start, end) one person can attend, one after the other.

    >>> most_meetings([(1, 3), (2, 4), (3, 5)])
    2
    >>> most_meetings([(1, 9), (2, 3), (4, 5)])
    2
    >>> most_meetings([])
    0
    >>> most_meetings([(1, 2), (1, 2)])
    1
    >>> most_meetings([(0, 6), (5, 7), (6, 9), (8, 9)])
    2
    """
    count = 0
    free_at = None
    for start, end in sorted(meetings, key=lambda meeting: meeting[1]):
        if free_at is None or start >= free_at:
            count += 1
            free_at = end
    return count


def median_of(numbers):
    """Return the middle of the sorted numbers, the mean of the two middle ones for an even count.

    >>> median_of([3, 1, 2])
    2
    >>> median_of([4, 1, 2, 3])
    2.5
    >>> median_of([7])
    7
    >>> median_of([1, 2])
    1.5
    >>> median_of([5, 5, 1, 9])
    5.0
    """
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def longest_rising(numbers):
    """Return how many numbers can be kept so that those left rise strictly from left to right.

    >>> longest_rising([3, 1, 2, 5, 4])
    3
    >>> longest_rising([])
    0
    >>> longest_rising([5, 4, 3])
    1
    >>> longest_rising([1, 2, 3])
    3
    >>> longest_rising([2, 2, 3, 1, 4])
    3
    """
    best = []
    for index, number in enumerate(numbers):
        before = [best[i] for i in range(index) if numbers[i] < number]
        best.append(max(before, default=0) + 1)
    return max(best, default=0)
