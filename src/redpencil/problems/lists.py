"""Lists: queues, baskets and rows of numbers."""


def every_second(items):
    """Return the items at even positions: the first, the third, and so on.

    >>> every_second([1, 2, 3, 4, 5])
    [1, 3, 5]
    >>> every_second([])
    []
    >>> every_second(["a"])
    ['a']
    >>> every_second([9, 8])
    [9]
    >>> every_second([0, 0, 7, 0])
    [0, 7]
    """
    picked = []
    for index in range(0, len(items), 2):
        picked.append(items[index])
    return picked


def running_total(numbers):
    """Return the sums of the first one, two, three... numbers.

    >>> running_total([1, 2, 3])
    [1, 3, 6]
    >>> running_total([])
    []
    >>> running_total([5])
    [5]
    >>> running_total([2, -2, 4])
    [2, 0, 4]
    >>> running_total([0, 0, 1])
    [0, 0, 1]
    """
    totals = []
    total = 0
    for number in numbers:
        total += number
        totals.append(total)
    return totals


def biggest_jump(numbers):
    """Return the largest difference between neighbours, never negative; 0 for fewer than two.

    >>> biggest_jump([1, 4, 2])
    3
    >>> biggest_jump([7])
    0
    >>> biggest_jump([])
    0
    >>> biggest_jump([10, 1, 3])
    9
    >>> biggest_jump([2, 2, 2])
    0
    """
    best = 0
    for index in range(1, len(numbers)):
        best = max(best, abs(numbers[index] - numbers[index - 1]))
    return best


def rotate_left(items, steps):
    """Return the items moved `steps` places to the left, round the end.

    >>> rotate_left([1, 2, 3, 4], 1)
    [2, 3, 4, 1]
    >>> rotate_left([1, 2, 3], 5)
    [3, 1, 2]
    >>> rotate_left([], 2)
    []
    >>> rotate_left(["a", "b"], 0)
    ['a', 'b']
    >>> rotate_left([1, 2, 3], -1)
    [3, 1, 2]
    """
    if not items:
        return []
    steps = steps % len(items)
    return items[steps:] + items[:steps]


def in_groups(items, size):
    """Cut the items into lists of `size`, the last one shorter if need be.

    >>> in_groups([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4], [5]]
    >>> in_groups([1, 2], 2)
    [[1, 2]]
    >>> in_groups([], 3)
    []
    >>> in_groups([1, 2, 3], 5)
    [[1, 2, 3]]
    >>> in_groups([1, 2, 3], 1)
    [[1], [2], [3]]
    """
    groups = []
    for start in range(0, len(items), size):
        groups.append(items[start : start + size])
    return groups


def drop_repeats(items):
    """Return the items without those that occurred before, in their order.

    >>> drop_repeats([3, 1, 3, 2, 1])
    [3, 1, 2]
    >>> drop_repeats([])
    []
    >>> drop_repeats(["a", "a", "a"])
    ['a']
    >>> drop_repeats([1, 2, 3])
    [1, 2, 3]
    >>> drop_repeats([0, 1, 0])
    [0, 1]
    """
    kept = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept


def longest_climb(numbers):
    """Return the length of the longest stretch in which each number is larger than the one before.

    >>> longest_climb([1, 2, 3, 1, 2])
    3
    >>> longest_climb([5, 4, 3])
    1
    >>> longest_climb([])
    0
    >>> longest_climb([1, 1, 2])
    2
    >>> longest_climb([3, 1, 2, 5, 9, 0])
    4
    """
    best = 0
    length = 0
    for index, number in enumerate(numbers):
        if index > 0 and number > numbers[index - 1]:
            length += 1
        else:
            length = 1
        best = max(best, length)
    return best


def deal(cards, players):
    """Deal the cards in turn and return each player's cards in the order received.

    >>> deal([1, 2, 3, 4, 5], 2)
    [[1, 3, 5], [2, 4]]
    >>> deal([1, 2], 3)
    [[1], [2], []]
    >>> deal([], 2)
    [[], []]
    >>> deal(["a", "b", "c"], 1)
    [['a', 'b', 'c']]
    >>> deal([1, 2, 3, 4, 5, 6], 3)
    [[1, 4], [2, 5], [3, 6]]
    """
    hands = [[] for _ in range(players)]
    for index, card in enumerate(cards):
        hands[index % players].append(card)
    return hands


def interleave(left, right):
    """Take items from two lists in turn, left first; the rest of the longer one comes at the end.

    >>> interleave([1, 3], [2, 4])
    [1, 2, 3, 4]
    >>> interleave([1, 2, 3], ["a"])
    [1, 'a', 2, 3]
    >>> interleave([], [7, 8])
    [7, 8]
    >>> interleave([], [])
    []
    >>> interleave([1], [2, 3, 4])
    [1, 2, 3, 4]
    """
    mixed = []
    for index in range(max(len(left), len(right))):
        if index < len(left):
            mixed.append(left[index])
        if index < len(right):
            mixed.append(right[index])
    return mixed


def peaks(heights):
    """Return the positions of heights that are larger than both of their neighbours.

    >>> peaks([1, 3, 2, 4, 1])
    [1, 3]
    >>> peaks([5, 1])
    []
    >>> peaks([])
    []
    >>> peaks([1, 2, 2, 1])
    []
    >>> peaks([0, 9, 0])
    [1]
    """
    found = []
    for index in range(1, len(heights) - 1):
        if heights[index - 1] < heights[index] > heights[index + 1]:
            found.append(index)
    return found


def balance_point(weights):
    """Return the first position where the weights before it and after it add up alike, else -1.

    >>> balance_point([1, 2, 3, 3])
    2
    >>> balance_point([4])
    0
    >>> balance_point([])
    -1
    >>> balance_point([1, 2])
    -1
    >>> balance_point([2, 0, 5, 1, 1])
    2
    >>> balance_point([0, 3])
    1
    """
    total = sum(weights)
    before = 0
    for index, weight in enumerate(weights):
        if before == total - before - weight:
            return index
        before += weight
    return -1


def best_stretch(numbers):
    """Return the largest sum of a stretch of neighbours of at least one number; 0 for no numbers.

    >>> best_stretch([2, -1, 3, -9, 4])
    4
    >>> best_stretch([-3, -1, -2])
    -1
    >>> best_stretch([])
    0
    >>> best_stretch([5])
    5
    >>> best_stretch([1, -2, 4, -1, 2])
    5
    """
    if not numbers:
        return 0
    best = here = numbers[0]
    for number in numbers[1:]:
        here = max(number, here + number)
        best = max(best, here)
    return best


def pairs_with_sum(numbers, goal):
    """Count the pairs of positions whose numbers add up to `goal`.

    >>> pairs_with_sum([1, 2, 3, 4], 5)
    2
    >>> pairs_with_sum([2, 2, 2], 4)
    3
    >>> pairs_with_sum([], 0)
    0
    >>> pairs_with_sum([5], 10)
    0
    >>> pairs_with_sum([0, -1, 1], 0)
    1
    """
    seen = {}
    pairs = 0
    for number in numbers:
        pairs += seen.get(goal - number, 0)
        seen[number] = seen.get(number, 0) + 1
    return pairs


def water_held(heights):
    """Return how much rain stays between walls of these heights, each one unit wide.

    >>> water_held([2, 0, 2])
    2
    >>> water_held([3, 1, 2, 1, 4])
    5
    >>> water_held([])
    0
    >>> water_held([1, 2, 3])
    0
    >>> water_held([4, 1, 0, 3])
    5
    """
    held = 0
    left, right = 0, len(heights) - 1
    left_wall = right_wall = 0
    while left < right:
        if heights[left] < heights[right]:
            left_wall = max(left_wall, heights[left])
            held += left_wall - heights[left]
            left += 1
        else:
            right_wall = max(right_wall, heights[right])
            held += right_wall - heights[right]
            right -= 1
    return held


def next_taller(heights):
    """For each person in a queue return the first taller height behind them, or -1.

    >>> next_taller([2, 1, 3])
    [3, 3, -1]
    >>> next_taller([3, 2, 1])
    [-1, -1, -1]
    >>> next_taller([])
    []
    >>> next_taller([1, 1, 2])
    [2, 2, -1]
    >>> next_taller([5, 3, 4, 6])
    [6, 4, 6, -1]
    """
    answer = [-1] * len(heights)
    waiting = []
    for index, height in enumerate(heights):
        while waiting and heights[waiting[-1]] < height:
            answer[waiting.pop()] = height
        waiting.append(index)
    return answer


def window_maxima(numbers, size):
    """Return the largest number of each window of `size` neighbours, from left to right.

    >>> window_maxima([1, 3, 2, 5, 4], 3)
    [3, 5, 5]
    >>> window_maxima([4, 2], 1)
    [4, 2]
    >>> window_maxima([1, 2], 3)
    []
    >>> window_maxima([9, 8, 7, 6], 2)
    [9, 8, 7]
    >>> window_maxima([], 1)
    []
    """
    maxima = []
    for start in range(len(numbers) - size + 1):
        maxima.append(max(numbers[start : start + size]))
    return maxima


def seats_together(row, people):
    """Return the first position of `people` free seats (0) side by side in a row, or -1.

    >>> seats_together([1, 0, 0, 1], 2)
    1
    >>> seats_together([0, 1, 0], 2)
    -1
    >>> seats_together([], 1)
    -1
    >>> seats_together([0, 0, 0], 3)
    0
    >>> seats_together([1, 0, 1, 0, 0], 2)
    3
    """
    free = 0
    for index, seat in enumerate(row):
        free = free + 1 if seat == 0 else 0
        if free == people:
            return index - people + 1
    return -1


def trim_zeros(numbers):
    """Return the numbers without the zeros at both ends.

    >>> trim_zeros([0, 0, 1, 0, 2, 0])
    [1, 0, 2]
    >>> trim_zeros([0, 0])
    []
    >>> trim_zeros([])
    []
    >>> trim_zeros([3, 4])
    [3, 4]
    >>> trim_zeros([0, 5])
    [5]
    """
    start = 0
    end = len(numbers)
    while start < end and numbers[start] == 0:
        start += 1
    while end > start and numbers[end - 1] == 0:
        end -= 1
    return numbers[start:end]
