"""Dictionaries: stocks, votes and timetables."""


def tally(items):
    """Count how often each item occurs.

    >>> tally(["a", "b", "a"])
    {'a': 2, 'b': 1}
    >>> tally([])
    {}
    >>> tally([1, 1, 1])
    {1: 3}
    >>> tally(["x", "y"])
    {'x': 1, 'y': 1}
    >>> tally([2, 3, 2, 3, 3])
    {2: 2, 3: 3}
    """
    counts = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return counts


def winner(votes):
    """Return the name with the most votes; of equals the one first in the alphabet, "" for none.

    >>> winner(["ann", "bob", "ann"])
    'ann'
    >>> winner(["bob", "ann"])
    'ann'
    >>> winner([])
    ''
    >>> winner(["z"])
    'z'
    >>> winner(["cy", "bo", "cy", "bo", "al"])
    'bo'
    """
    counts = {}
    for name in votes:
        counts[name] = counts.get(name, 0) + 1
    best = ""
    for name in sorted(counts):
        if best == "" or counts[name] > counts[best]:
            best = name
    return best


def swap_keys(table):
    """Exchange keys and values; where a value occurs twice, the key that comes last counts.

    >>> swap_keys({"a": 1, "b": 2})
    {1: 'a', 2: 'b'}
    >>> swap_keys({})
    {}
    >>> swap_keys({"x": "y"})
    {'y': 'x'}
    >>> swap_keys({"a": 1, "b": 1})
    {1: 'b'}
    >>> swap_keys({1: "one", 2: "two"})
    {'one': 1, 'two': 2}
    """
    swapped = {}
    for key, value in table.items():
        swapped[value] = key
    return swapped


def add_stocks(left, right):
    """Add up two stocks, which say how many there are of each thing.

    >>> add_stocks({"tea": 2}, {"tea": 3, "jam": 1})
    {'tea': 5, 'jam': 1}
    >>> add_stocks({}, {})
    {}
    >>> add_stocks({"a": 1}, {})
    {'a': 1}
    >>> add_stocks({"a": 1}, {"b": 2})
    {'a': 1, 'b': 2}
    >>> add_stocks({"a": 0, "b": 5}, {"b": -5})
    {'a': 0, 'b': 0}
    """
    total = dict(left)
    for thing, count in right.items():
        total[thing] = total.get(thing, 0) + count
    return total


def missing_for(recipe, pantry):
    """Return what the pantry lacks of each ingredient of a recipe, leaving out what is enough.

    >>> missing_for({"egg": 3, "milk": 1}, {"egg": 1, "milk": 2})
    {'egg': 2}
    >>> missing_for({"egg": 2}, {})
    {'egg': 2}
    >>> missing_for({}, {"egg": 2})
    {}
    >>> missing_for({"flour": 5}, {"flour": 5})
    {}
    >>> missing_for({"a": 4, "b": 2}, {"a": 1})
    {'a': 3, 'b': 2}
    """
    missing = {}
    for thing, needed in recipe.items():
        lack = needed - pantry.get(thing, 0)
        if lack > 0:
            missing[thing] = lack
    return missing


def by_length(words):
    """Group words by their length; within a group they keep their order.

    >>> by_length(["a", "bb", "c"])
    {1: ['a', 'c'], 2: ['bb']}
    >>> by_length([])
    {}
    >>> by_length(["tea", "jam"])
    {3: ['tea', 'jam']}
    >>> by_length(["", "x"])
    {0: [''], 1: ['x']}
    >>> by_length(["one", "three", "two", "seven"])
    {3: ['one', 'two'], 5: ['three', 'seven']}
    """
    groups = {}
    for word in words:
        groups.setdefault(len(word), []).append(word)
    return groups


def basket_price(basket, prices, free_from):
    """Add up price times count of a basket's things; 490 for delivery below `free_from` is added.

    >>> basket_price({"tea": 2}, {"tea": 300}, 500)
    600
    >>> basket_price({"tea": 1}, {"tea": 300}, 500)
    790
    >>> basket_price({}, {}, 100)
    490
    >>> basket_price({"a": 1, "b": 3}, {"a": 200, "b": 100}, 500)
    500
    >>> basket_price({"a": 1}, {"a": 499, "b": 1}, 500)
    989
    """
    total = 0
    for thing, count in basket.items():
        total += prices[thing] * count
    if total < free_from:
        total += 490
    return total


def flatten(table, prefix=""):
    """Turn nested dictionaries into one, with keys joined by full stops.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    >>> flatten({})
    {}
    >>> flatten({"x": {"y": {"z": 0}}})
    {'x.y.z': 0}
    >>> flatten({"a": 1}, "top.")
    {'top.a': 1}
    >>> flatten({"a": {}, "b": 3})
    {'b': 3}
    """
    flat = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat.update(flatten(value, prefix + key + "."))
        else:
            flat[prefix + key] = value
    return flat


def changed_keys(before, after):
    """Return the sorted keys that were added, removed or given another value.

    >>> changed_keys({"a": 1, "b": 2}, {"a": 1, "b": 3})
    ['b']
    >>> changed_keys({"a": 1}, {})
    ['a']
    >>> changed_keys({}, {"z": 1, "y": 2})
    ['y', 'z']
    >>> changed_keys({"a": 1}, {"a": 1})
    []
    >>> changed_keys({"a": None}, {"b": None})
    ['a', 'b']
    """
    changed = []
    for key in sorted(set(before) | set(after)):
        if key not in before or key not in after or before[key] != after[key]:
            changed.append(key)
    return changed


def top_scores(scores, count):
    """Return the names with the `count` best scores, best first; equals by name.

    >>> top_scores({"al": 3, "bo": 5, "cy": 4}, 2)
    ['bo', 'cy']
    >>> top_scores({"bo": 1, "al": 1}, 1)
    ['al']
    >>> top_scores({}, 3)
    []
    >>> top_scores({"x": 2}, 0)
    []
    >>> top_scores({"a": 1, "b": 2, "c": 2}, 3)
    ['b', 'c', 'a']
    """
    names = sorted(scores, key=lambda name: (-scores[name], name))
    return names[:count]


def average_by(pairs):
    """From pairs of name and number return the average of each name's numbers.

    >>> average_by([("a", 1), ("a", 3), ("b", 5)])
    {'a': 2.0, 'b': 5.0}
    >>> average_by([])
    {}
    >>> average_by([("x", 2)])
    {'x': 2.0}
    >>> average_by([("x", 1), ("x", 2)])
    {'x': 1.5}
    >>> average_by([("p", -4), ("q", 0), ("p", 4)])
    {'p': 0.0, 'q': 0.0}
    """
    sums = {}
    counts = {}
    for name, number in pairs:
        sums[name] = sums.get(name, 0) + number
        counts[name] = counts.get(name, 0) + 1
    return {name: sums[name] / counts[name] for name in sums}


def first_unique(items):
    """Return the first item that occurs exactly once, or None.

    >>> first_unique([1, 2, 1, 3])
    2
    >>> first_unique([]) is None
    True
    >>> first_unique(["a", "a"]) is None
    True
    >>> first_unique(["x"])
    'x'
    >>> first_unique([4, 5, 4, 5, 6])
    6
    """
    counts = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    for item in items:
        if counts[item] == 1:
            return item
    return None


def reachable(lines, start):
    """From a table of stop to next stops return all stops that can be reached, sorted.

    >>> reachable({"a": ["b"], "b": ["c"], "d": []}, "a")
    ['a', 'b', 'c']
    >>> reachable({}, "x")
    ['x']
    >>> reachable({"a": ["a"]}, "a")
    ['a']
    >>> reachable({"a": ["b", "c"], "c": ["a"]}, "c")
    ['a', 'b', 'c']
    >>> reachable({"p": ["q"], "q": []}, "q")
    ['q']
    """
    seen = {start}
    waiting = [start]
    while waiting:
        stop = waiting.pop()
        for following in lines.get(stop, []):
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    return sorted(seen)


def fewest_changes(lines, start, goal):
    """Return the fewest rides from stop to next stop that lead from start to goal, or -1.

    >>> fewest_changes({"a": ["b"], "b": ["c"]}, "a", "c")
    2
    >>> fewest_changes({"a": ["b"]}, "b", "a")
    -1
    >>> fewest_changes({}, "x", "x")
    0
    >>> fewest_changes({"a": ["b", "c"], "b": ["d"], "c": ["d"]}, "a", "d")
    2
    >>> fewest_changes({"a": ["b"], "b": ["a", "c"]}, "a", "c")
    2
    """
    rides = {start: 0}
    queue = [start]
    for stop in queue:
        if stop == goal:
            return rides[stop]
        for following in lines.get(stop, []):
            if following not in rides:
                rides[following] = rides[stop] + 1
                queue.append(following)
    return -1


def dress_order(needs):
    """Order pieces so that each comes after those it needs; of several the smallest first.

    >>> dress_order({"shoe": ["sock"], "sock": []})
    ['sock', 'shoe']
    >>> dress_order({})
    []
    >>> dress_order({"b": [], "a": []})
    ['a', 'b']
    >>> dress_order({"coat": ["shirt"], "shirt": [], "tie": ["shirt"]})
    ['shirt', 'coat', 'tie']
    >>> dress_order({"a": ["c"], "b": ["a"], "c": []})
    ['c', 'a', 'b']
    """
    order = []
    left = dict(needs)
    while left:
        ready = [piece for piece in left if all(need in order for need in left[piece])]
        piece = min(ready)
        order.append(piece)
        del left[piece]
    return order


def anagram_groups(words):
    """Group words made of the same letters; groups and their words come in order of appearance.

    >>> anagram_groups(["tea", "eat", "jam"])
    [['tea', 'eat'], ['jam']]
    >>> anagram_groups([])
    []
    >>> anagram_groups(["a", "b", "a"])
    [['a', 'a'], ['b']]
    >>> anagram_groups(["no", "on", "in"])
    [['no', 'on'], ['in']]
    >>> anagram_groups(["abc", "cab", "xyz", "bca"])
    [['abc', 'cab', 'bca'], ['xyz']]
    """
    groups = {}
    for word in words:
        key = "".join(sorted(word))
        if key not in groups:
            groups[key] = []
        groups[key].append(word)
    return list(groups.values())


def merge_hours(hours):
    """From a table of day to hours open return one of hours to the days with them, sorted.

    >>> merge_hours({"mon": 8, "tue": 8, "sun": 0})
    {8: ['mon', 'tue'], 0: ['sun']}
    >>> merge_hours({})
    {}
    >>> merge_hours({"sat": 4})
    {4: ['sat']}
    >>> merge_hours({"b": 1, "a": 1})
    {1: ['a', 'b']}
    >>> merge_hours({"x": 2, "y": 3, "z": 2})
    {2: ['x', 'z'], 3: ['y']}
    """
    merged = {}
    for day in sorted(hours):
        merged.setdefault(hours[day], []).append(day)
    return merged
