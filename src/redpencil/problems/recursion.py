"""Recursion: things made of smaller things of the same kind."""


def nested_sum(items):
    """Add up all numbers of a list whose items are numbers or such lists.

    >>> nested_sum([1, [2, 3], [[4]]])
    10
    >>> nested_sum([])
    0
    >>> nested_sum([[], [[]]])
    0
    >>> nested_sum([5])
    5
    >>> nested_sum([[1, -1], [2, [3]]])
    5
    """
    total = 0
    for item in items:
        if isinstance(item, list):
            total += nested_sum(item)
        else:
            total += item
    return total


def unfold(items):
    """Return all items of nested lists in one list, from left to right.

    >>> unfold([1, [2, [3]], 4])
    [1, 2, 3, 4]
    >>> unfold([])
    []
    >>> unfold([[[]]])
    []
    >>> unfold(["a", ["b"]])
    ['a', 'b']
    >>> unfold([[1, 2], [3]])
    [1, 2, 3]
    """
    flat = []
    for item in items:
        if isinstance(item, list):
            flat.extend(unfold(item))
        else:
            flat.append(item)
    return flat


def nesting(items):
    """Return how deep lists are nested: 1 for a list without lists in it.

    >>> nesting([1, 2])
    1
    >>> nesting([])
    1
    >>> nesting([1, [2]])
    2
    >>> nesting([[], [[]]])
    3
    >>> nesting([[[["x"]]]])
    4
    """
    depths = [nesting(item) for item in items if isinstance(item, list)]
    return 1 + max(depths, default=0)


def power(base, exponent):
    """Return base to the power of a whole exponent from 0 on, by halving the exponent.

    >>> power(2, 10)
    1024
    >>> power(5, 0)
    1
    >>> power(3, 1)
    3
    >>> power(-2, 3)
    -8
    >>> power(7, 4)
    2401
    """
    if exponent == 0:
        return 1
    half = power(base, exponent // 2)
    if exponent % 2 == 0:
        return half * half
    return half * half * base


def stairs(steps):
    """Count the ways to climb stairs taking one or two steps at a time.

    >>> stairs(1)
    1
    >>> stairs(2)
    2
    >>> stairs(4)
    5
    >>> stairs(0)
    1
    >>> stairs(10)
    89
    """
    if steps < 2:
        return 1
    return stairs(steps - 1) + stairs(steps - 2)


def hanoi(discs, start, goal, spare):
    """Return the moves, as pairs of pegs, that bring a tower of discs from start to goal.

    >>> hanoi(1, "a", "c", "b")
    [('a', 'c')]
    >>> hanoi(0, "a", "c", "b")
    []
    >>> hanoi(2, "a", "c", "b")
    [('a', 'b'), ('a', 'c'), ('b', 'c')]
    >>> hanoi(2, "x", "y", "z")
    [('x', 'z'), ('x', 'y'), ('z', 'y')]
    >>> len(hanoi(5, "a", "b", "c"))
    31
    """
    if discs == 0:
        return []
    moves = hanoi(discs - 1, start, spare, goal)
    moves.append((start, goal))
    return moves + hanoi(discs - 1, spare, goal, start)


def subsets(items):
    """Return all selections of the items, those without the first item before those with it.

    >>> subsets([1, 2])
    [[], [2], [1], [1, 2]]
    >>> subsets([])
    [[]]
    >>> subsets(["a"])
    [[], ['a']]
    >>> len(subsets([1, 2, 3, 4]))
    16
    >>> subsets([3, 1, 2])[-1]
    [3, 1, 2]
    """
    if not items:
        return [[]]
    rest = subsets(items[1:])
    return rest + [[items[0]] + chosen for chosen in rest]


def arrangements(text):
    """Return all orders of the letters of a text, sorted, without repeats.

    >>> arrangements("ab")
    ['ab', 'ba']
    >>> arrangements("")
    ['']
    >>> arrangements("aab")
    ['aab', 'aba', 'baa']
    >>> len(arrangements("abcd"))
    24
    >>> arrangements("zx")
    ['xz', 'zx']
    """
    if len(text) < 2:
        return [text]
    found = set()
    for index, letter in enumerate(text):
        for rest in arrangements(text[:index] + text[index + 1 :]):
            found.add(letter + rest)
    return sorted(found)


def choose_teams(people, size):
    """Return all teams of a size, each in the order of the list of people.

    >>> choose_teams(["a", "b", "c"], 2)
    [['a', 'b'], ['a', 'c'], ['b', 'c']]
    >>> choose_teams(["a"], 0)
    [[]]
    >>> choose_teams([], 1)
    []
    >>> choose_teams([1, 2, 3], 3)
    [[1, 2, 3]]
    >>> len(choose_teams([1, 2, 3, 4, 5], 2))
    10
    """
    if size == 0:
        return [[]]
    if not people:
        return []
    first, rest = people[0], people[1:]
    with_first = [[first] + team for team in choose_teams(rest, size - 1)]
    return with_first + choose_teams(rest, size)


def can_pay(amount, coins):
    """Say whether some of the coins, each used at most once, make up the amount.

    >>> can_pay(7, [5, 2, 1])
    True
    >>> can_pay(4, [5, 2, 1])
    False
    >>> can_pay(0, [])
    True
    >>> can_pay(3, [])
    False
    >>> can_pay(9, [3, 3, 3])
    True
    """
    if amount == 0:
        return True
    if amount < 0 or not coins:
        return False
    return can_pay(amount - coins[0], coins[1:]) or can_pay(amount, coins[1:])


def tree_height(tree):
    """Return the height of a tree (value, left, right), where None is a tree of height 0.

    >>> tree_height((1, None, None))
    1
    >>> tree_height(None)
    0
    >>> tree_height((1, (2, None, None), None))
    2
    >>> tree_height((1, None, (2, (3, None, None), None)))
    3
    >>> tree_height((1, (2, None, None), (3, None, None)))
    2
    """
    if tree is None:
        return 0
    _, left, right = tree
    return 1 + max(tree_height(left), tree_height(right))


def in_order(tree):
    """Return the values of a tree (value, left, right), left ones first; None is empty.

    >>> in_order((2, (1, None, None), (3, None, None)))
    [1, 2, 3]
    >>> in_order(None)
    []
    >>> in_order((5, None, None))
    [5]
    >>> in_order((1, None, (2, None, (3, None, None))))
    [1, 2, 3]
    >>> in_order(("b", ("a", None, None), None))
    ['a', 'b']
    """
    if tree is None:
        return []
    value, left, right = tree
    return in_order(left) + [value] + in_order(right)


def plant(tree, value):
    """Return a search tree (value, left, right) with a value added; equal values change nothing.

    >>> plant(None, 3)
    (3, None, None)
    >>> plant((3, None, None), 1)
    (3, (1, None, None), None)
    >>> plant((3, None, None), 5)
    (3, None, (5, None, None))
    >>> plant((3, None, None), 3)
    (3, None, None)
    >>> plant((3, (1, None, None), None), 2)
    (3, (1, None, (2, None, None)), None)
    """
    if tree is None:
        return (value, None, None)
    root, left, right = tree
    if value < root:
        return (root, plant(left, value), right)
    if value > root:
        return (root, left, plant(right, value))
    return tree


def folder_size(folder):
    """Add up the sizes in a folder, a dictionary of names to sizes or to folders.

    >>> folder_size({"a": 3, "b": {"c": 4}})
    7
    >>> folder_size({})
    0
    >>> folder_size({"x": {"y": {"z": 1}}})
    1
    >>> folder_size({"a": 0, "b": 9})
    9
    >>> folder_size({"m": {"n": 2}, "o": {"p": 3}})
    5
    """
    total = 0
    for content in folder.values():
        if isinstance(content, dict):
            total += folder_size(content)
        else:
            total += content
    return total


def bracket_words(pairs):
    """Return all right orders of so many pairs of round brackets, "(" first.

    >>> bracket_words(1)
    ['()']
    >>> bracket_words(2)
    ['(())', '()()']
    >>> bracket_words(0)
    ['']
    >>> bracket_words(3)
    ['((()))', '(()())', '(())()', '()(())', '()()()']
    >>> len(bracket_words(5))
    42
    """
    words = []

    def extend(word, opened, closed):
        if len(word) == 2 * pairs:
            words.append(word)
            return
        if opened < pairs:
            extend(word + "(", opened + 1, closed)
        if closed < opened:
            extend(word + ")", opened, closed + 1)

    extend("", 0, 0)
    return words


def queens(size):
    """Count the ways to put `size` queens on a board of that size so that none attacks another.

    >>> queens(1)
    1
    >>> queens(4)
    2
    >>> queens(3)
    0
    >>> queens(5)
    10
    >>> queens(6)
    4
    """

    def place(columns):
        row = len(columns)
        if row == size:
            return 1
        ways = 0
        for column in range(size):
            safe = all(c != column and abs(c - column) != row - r for r, c in enumerate(columns))
            if safe:
                ways += place(columns + [column])
        return ways

    return place([])


def edit_steps(left, right):
    """Return the fewest letters to insert, delete or replace that turn one text into another.

    >>> edit_steps("tea", "team")
    1
    >>> edit_steps("", "abc")
    3
    >>> edit_steps("same", "same")
    0
    >>> edit_steps("kit", "sit")
    1
    >>> edit_steps("flaw", "lawn")
    2
    """
    if not left or not right:
        return len(left) + len(right)
    if left[0] == right[0]:
        return edit_steps(left[1:], right[1:])
    inserted = edit_steps(left, right[1:])
    deleted = edit_steps(left[1:], right)
    replaced = edit_steps(left[1:], right[1:])
    return 1 + min(inserted, deleted, replaced)
