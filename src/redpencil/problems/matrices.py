"""Matrices: grids, boards and seating plans, as lists of rows."""


def transpose(grid):
    """Turn rows into columns.

    >>> transpose([[1, 2], [3, 4]])
    [[1, 3], [2, 4]]
    >>> transpose([[1, 2, 3]])
    [[1], [2], [3]]
    >>> transpose([])
    []
    >>> transpose([[7]])
    [[7]]
    >>> transpose([[1], [2]])
    [[1, 2]]
    """
    if not grid:
        return []
    columns = []
    for index in range(len(grid[0])):
        columns.append([row[index] for row in grid])
    return columns


def turn_right(grid):
    """Turn a grid by a quarter to the right.

    >>> turn_right([[1, 2], [3, 4]])
    [[3, 1], [4, 2]]
    >>> turn_right([[1, 2, 3]])
    [[1], [2], [3]]
    >>> turn_right([[5]])
    [[5]]
    >>> turn_right([[1], [2]])
    [[2, 1]]
    >>> turn_right([[1, 2], [3, 4], [5, 6]])
    [[5, 3, 1], [6, 4, 2]]
    """
    turned = []
    for column in range(len(grid[0])):
        turned.append([row[column] for row in reversed(grid)])
    return turned


def row_sums(grid):
    """Return the sum of each row.

    >>> row_sums([[1, 2], [3, 4]])
    [3, 7]
    >>> row_sums([])
    []
    >>> row_sums([[], [5]])
    [0, 5]
    >>> row_sums([[0, 0]])
    [0]
    >>> row_sums([[-1, 1], [2, 2]])
    [0, 4]
    """
    sums = []
    for row in grid:
        sums.append(sum(row))
    return sums


def column_sums(grid):
    """Return the sum of each column of a grid with at least one row.

    >>> column_sums([[1, 2], [3, 4]])
    [4, 6]
    >>> column_sums([[5]])
    [5]
    >>> column_sums([[1, 1, 1], [2, 2, 2]])
    [3, 3, 3]
    >>> column_sums([[0, 9]])
    [0, 9]
    >>> column_sums([[1], [2], [3]])
    [6]
    """
    sums = [0] * len(grid[0])
    for row in grid:
        for index, value in enumerate(row):
            sums[index] += value
    return sums


def multiply(left, right):
    """Multiply two matrices.

    >>> multiply([[1, 2], [3, 4]], [[1, 0], [0, 1]])
    [[1, 2], [3, 4]]
    >>> multiply([[2]], [[3]])
    [[6]]
    >>> multiply([[1, 2, 3]], [[1], [1], [1]])
    [[6]]
    >>> multiply([[1], [2]], [[3, 4]])
    [[3, 4], [6, 8]]
    >>> multiply([[0, 1], [1, 0]], [[5, 6], [7, 8]])
    [[7, 8], [5, 6]]
    """
    product = []
    for row in left:
        line = []
        for column in range(len(right[0])):
            line.append(sum(row[k] * right[k][column] for k in range(len(right))))
        product.append(line)
    return product


def diagonal_gap(grid):
    """Return the difference, as a positive number, of the sums of a square's two diagonals.

    >>> diagonal_gap([[1, 2], [3, 4]])
    0
    >>> diagonal_gap([[9]])
    0
    >>> diagonal_gap([[1, 0, 5], [0, 7, 0], [2, 0, 1]])
    5
    >>> diagonal_gap([[2, 2], [2, 2]])
    0
    >>> diagonal_gap([[1, 1], [1, 9]])
    8
    """
    falling = rising = 0
    for index in range(len(grid)):
        falling += grid[index][index]
        rising += grid[index][len(grid) - 1 - index]
    return abs(falling - rising)


def spiral(grid):
    """Return the values of a grid in a spiral from the top left corner, to the right first.

    >>> spiral([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    [1, 2, 3, 6, 9, 8, 7, 4, 5]
    >>> spiral([[1, 2], [3, 4]])
    [1, 2, 4, 3]
    >>> spiral([])
    []
    >>> spiral([[1, 2, 3]])
    [1, 2, 3]
    >>> spiral([[1], [2], [3]])
    [1, 2, 3]
    """
    left = [list(row) for row in grid]
    walk = []
    while left:
        walk += left.pop(0)
        left = [list(column) for column in zip(*left)][::-1]
    return walk


def neighbours_alive(board, row, column):
    """Count the ones among the up to eight neighbours of a field.

    >>> neighbours_alive([[1, 1], [1, 1]], 0, 0)
    3
    >>> neighbours_alive([[0, 0], [0, 1]], 1, 1)
    0
    >>> neighbours_alive([[1, 0, 1], [0, 1, 0], [1, 0, 1]], 1, 1)
    4
    >>> neighbours_alive([[1]], 0, 0)
    0
    >>> neighbours_alive([[0, 1, 0], [0, 0, 1]], 0, 2)
    2
    """
    alive = 0
    for r in range(max(0, row - 1), min(len(board), row + 2)):
        for c in range(max(0, column - 1), min(len(board[0]), column + 2)):
            if (r, c) != (row, column):
                alive += board[r][c]
    return alive


def count_islands(sea):
    """Count the groups of ones that hang together sideways or up and down.

    >>> count_islands([[1, 0], [0, 1]])
    2
    >>> count_islands([[1, 1], [0, 1]])
    1
    >>> count_islands([])
    0
    >>> count_islands([[0, 0]])
    0
    >>> count_islands([[1, 0, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1]])
    3
    """
    land = {(r, c) for r, row in enumerate(sea) for c, one in enumerate(row) if one}
    islands = 0
    while land:
        islands += 1
        waiting = [land.pop()]
        while waiting:
            r, c = waiting.pop()
            for place in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if place in land:
                    land.remove(place)
                    waiting.append(place)
    return islands


def paint(picture, row, column, colour):
    """Give a field and all that hang together with it in the same colour a new colour.

    >>> paint([[1, 1], [0, 1]], 0, 0, 5)
    [[5, 5], [0, 5]]
    >>> paint([[1, 0], [0, 1]], 0, 0, 2)
    [[2, 0], [0, 1]]
    >>> paint([[3]], 0, 0, 3)
    [[3]]
    >>> paint([[0, 0, 0]], 0, 1, 7)
    [[7, 7, 7]]
    >>> paint([[1, 2], [1, 2]], 1, 1, 9)
    [[1, 9], [1, 9]]
    """
    result = [list(line) for line in picture]
    old = result[row][column]
    waiting = [(row, column)] if old != colour else []
    while waiting:
        r, c = waiting.pop()
        if 0 <= r < len(result) and 0 <= c < len(result[0]) and result[r][c] == old:
            result[r][c] = colour
            waiting += [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
    return result


def cheapest_path(costs):
    """Return the smallest sum on a way from the top left to the bottom right, only right and down.

    >>> cheapest_path([[1, 3], [2, 1]])
    4
    >>> cheapest_path([[5]])
    5
    >>> cheapest_path([[1, 2, 3]])
    6
    >>> cheapest_path([[1, 9, 1], [1, 1, 1]])
    4
    >>> cheapest_path([[2], [4]])
    6
    """
    best = []
    for r, row in enumerate(costs):
        for c, cost in enumerate(row):
            ways = []
            if r > 0:
                ways.append(best[c])
            if c > 0:
                ways.append(best[c - 1])
            value = cost + min(ways, default=0)
            best[c : c + 1] = [value]
    return best[-1]


def paths_around(board):
    """Count the ways from the top left to the bottom right, only right and down, past ones.

    >>> paths_around([[0, 0], [0, 0]])
    2
    >>> paths_around([[0, 1], [0, 0]])
    1
    >>> paths_around([[0]])
    1
    >>> paths_around([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    2
    >>> paths_around([[0, 1], [1, 0]])
    0
    """
    ways = [1] + [0] * (len(board[0]) - 1)
    for row in board:
        for column, blocked in enumerate(row):
            if blocked:
                ways[column] = 0
            elif column > 0:
                ways[column] += ways[column - 1]
    return ways[-1]


def find_in_plan(plan, name):
    """Return (row, seat) of a name in a seating plan, counted from 1, or None.

    >>> find_in_plan([["al", "bo"], ["cy", "di"]], "di")
    (2, 2)
    >>> find_in_plan([["al"]], "al")
    (1, 1)
    >>> find_in_plan([], "al") is None
    True
    >>> find_in_plan([["x", "y"]], "z") is None
    True
    >>> find_in_plan([["a", "b"], ["b", "a"]], "b")
    (1, 2)
    """
    for row, names in enumerate(plan, 1):
        for seat, taken_by in enumerate(names, 1):
            if taken_by == name:
                return (row, seat)
    return None


def is_magic(square):
    """Say whether all rows, columns and both diagonals of a square add up to the same.

    >>> is_magic([[2, 7, 6], [9, 5, 1], [4, 3, 8]])
    True
    >>> is_magic([[1, 2], [3, 4]])
    False
    >>> is_magic([[5]])
    True
    >>> is_magic([[1, 1], [1, 1]])
    True
    >>> is_magic([[1, 2], [2, 1]])
    False
    """
    size = len(square)
    lines = [list(row) for row in square]
    lines += [list(column) for column in zip(*square)]
    lines.append([square[i][i] for i in range(size)])
    lines.append([square[i][size - 1 - i] for i in range(size)])
    return len({sum(line) for line in lines}) == 1


def saddle(grid):
    """Return the first value that is largest in its row and smallest in its column, or None.

    >>> saddle([[1, 2], [3, 4]])
    2
    >>> saddle([[5, 1], [6, 7]])
    5
    >>> saddle([[9]])
    9
    >>> saddle([[1, 3], [4, 2]]) is None
    True
    >>> saddle([[2, 2], [3, 3]])
    2
    """
    for row in grid:
        for index, value in enumerate(row):
            column = [line[index] for line in grid]
            if value == max(row) and value == min(column):
                return value
    return None


def border(grid):
    """Return the sum of the values on the edge of a grid.

    >>> border([[1, 1, 1], [1, 9, 1], [1, 1, 1]])
    8
    >>> border([[4]])
    4
    >>> border([[1, 2], [3, 4]])
    10
    >>> border([[1, 2, 3]])
    6
    >>> border([[1, 1], [1, 1], [1, 1]])
    6
    """
    total = 0
    for r, row in enumerate(grid):
        for c, value in enumerate(row):
            if r in (0, len(grid) - 1) or c in (0, len(row) - 1):
                total += value
    return total
