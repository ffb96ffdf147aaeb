"""Simple classes: things that remember."""


class Basket:
    """A basket that holds at most `room` things; `add` ignores what does not fit any more.

    >>> Basket(5).add("tea", 2).add("jam", 1).total()
    3
    >>> Basket(2).add("tea", 3).total()
    0
    >>> Basket(0).total()
    0
    >>> Basket(3).add("a", 3).add("b", 1).total()
    3
    >>> Basket(4).add("a", 1).add("a", 2).count("a")
    3
    >>> Basket(4).add("a", 1).count("b")
    0
    """

    def __init__(self, room):
        self.room = room
        self.things = {}

    def add(self, name, count):
        if self.total() + count <= self.room:
            self.things[name] = self.things.get(name, 0) + count
        return self

    def total(self):
        return sum(self.things.values())

    def count(self, name):
        return self.things.get(name, 0)


class Counter:
    """Counts clicks up to a limit and starts again at 0 after it.

    >>> Counter(3).click(2).value
    2
    >>> Counter(3).click(4).value
    0
    >>> Counter(1).click(2).value
    0
    >>> Counter(9).value
    0
    >>> Counter(2).click(1).click(2).value
    0
    """

    def __init__(self, limit):
        self.limit = limit
        self.value = 0

    def click(self, times):
        for _ in range(times):
            if self.value == self.limit:
                self.value = 0
            else:
                self.value += 1
        return self


class Account:
    """An account in cents; a payment that would leave less than the credit line is refused.

    >>> Account(100).put(50).pay(120).balance
    -70
    >>> Account(0).pay(10).balance
    0
    >>> Account(0).put(10).pay(10).balance
    0
    >>> Account(100).pay(100).balance
    -100
    >>> Account(100).pay(101).refused
    1
    >>> Account(10).pay(5).refused
    0
    """

    def __init__(self, credit):
        self.credit = credit
        self.balance = 0
        self.refused = 0

    def put(self, amount):
        self.balance += amount
        return self

    def pay(self, amount):
        if self.balance - amount < -self.credit:
            self.refused += 1
        else:
            self.balance -= amount
        return self


class Queue:
    """A queue of people: the first to come is the first to be served.

    >>> Queue().join("al").join("bo").serve().waiting
    ['bo']
    >>> Queue().join("al").waiting
    ['al']
    >>> Queue().serve().waiting
    []
    >>> Queue().join("al").join("bo").serve().serve().served
    ['al', 'bo']
    >>> Queue().join("x").join("y").join("z").serve().waiting
    ['y', 'z']
    """

    def __init__(self):
        self.waiting = []
        self.served = []

    def join(self, name):
        self.waiting.append(name)
        return self

    def serve(self):
        if self.waiting:
            self.served.append(self.waiting.pop(0))
        return self


class MinStack:
    """A stack that knows its smallest number at any time, None when it is empty.

    >>> MinStack().push(3).push(1).push(2).smallest()
    1
    >>> MinStack().push(3).push(1).pop().smallest()
    3
    >>> MinStack().smallest() is None
    True
    >>> MinStack().push(5).pop().smallest() is None
    True
    >>> MinStack().push(2).push(2).pop().smallest()
    2
    """

    def __init__(self):
        self.numbers = []
        self.lowest = []

    def push(self, number):
        self.numbers.append(number)
        if not self.lowest or number <= self.lowest[-1]:
            self.lowest.append(number)
        return self

    def pop(self):
        if self.numbers.pop() == self.lowest[-1]:
            self.lowest.pop()
        return self

    def smallest(self):
        return self.lowest[-1] if self.lowest else None


class Recent:
    """Remembers the last `size` different things seen, the newest first.

    >>> Recent(2).see("a").see("b").see("c").things
    ['c', 'b']
    >>> Recent(3).see("a").see("b").see("a").things
    ['a', 'b']
    >>> Recent(1).see("x").things
    ['x']
    >>> Recent(2).things
    []
    >>> Recent(2).see("a").see("a").things
    ['a']
    """

    def __init__(self, size):
        self.size = size
        self.things = []

    def see(self, thing):
        if thing in self.things:
            self.things.remove(thing)
        self.things.insert(0, thing)
        self.things = self.things[: self.size]
        return self


class Cache:
    """Keeps at most `size` values; the one not used for longest gives way to a new one.

    >>> Cache(2).put("a", 1).put("b", 2).put("c", 3).get("a", 0)
    0
    >>> Cache(2).put("a", 1).put("b", 2).put("a", 3).put("c", 4).get("a", 0)
    3
    >>> Cache(1).put("x", 9).get("x", 0)
    9
    >>> Cache(3).get("y", -1)
    -1
    >>> Cache(2).put("a", 1).put("b", 2).put("c", 3).get("b", 0)
    2
    """

    def __init__(self, size):
        self.size = size
        self.values = {}

    def put(self, key, value):
        self.values.pop(key, None)
        self.values[key] = value
        if len(self.values) > self.size:
            oldest = next(iter(self.values))
            del self.values[oldest]
        return self

    def get(self, key, default):
        if key not in self.values:
            return default
        self.values[key] = self.values.pop(key)
        return self.values[key]


class Robot:
    """A robot on a grid, at first at (0, 0) and facing north; x grows to the east.

    >>> Robot().go(2).place()
    (0, 2)
    >>> Robot().right().go(3).place()
    (3, 0)
    >>> Robot().right().right().go(1).place()
    (0, -1)
    >>> Robot().left().go(1).right().go(1).place()
    (-1, 1)
    >>> Robot().place()
    (0, 0)
    """

    def __init__(self):
        self.x, self.y = 0, 0
        self.dx, self.dy = 0, 1

    def right(self):
        self.dx, self.dy = self.dy, -self.dx
        return self

    def left(self):
        self.dx, self.dy = -self.dy, self.dx
        return self

    def go(self, steps):
        self.x += self.dx * steps
        self.y += self.dy * steps
        return self

    def place(self):
        return (self.x, self.y)


class Thermostat:
    """Heats below `low`, stops above `high`, and in between goes on with what it did.

    >>> Thermostat(18, 21).feel(17).heating
    True
    >>> Thermostat(18, 21).feel(17).feel(20).heating
    True
    >>> Thermostat(18, 21).feel(17).feel(22).heating
    False
    >>> Thermostat(18, 21).feel(20).heating
    False
    >>> Thermostat(18, 21).feel(18).heating
    False
    """

    def __init__(self, low, high):
        self.low = low
        self.high = high
        self.heating = False

    def feel(self, degrees):
        if degrees < self.low:
            self.heating = True
        elif degrees > self.high:
            self.heating = False
        return self


class Polynomial:
    """A polynomial given by its coefficients, the constant first.

    >>> Polynomial([1, 2]).at(3)
    7
    >>> Polynomial([0, 0, 1]).at(4)
    16
    >>> Polynomial([]).at(7)
    0
    >>> Polynomial([5, 3, 2]).slope().coefficients
    [3, 4]
    >>> Polynomial([9]).slope().coefficients
    []
    """

    def __init__(self, coefficients):
        self.coefficients = coefficients

    def at(self, x):
        total = 0
        for coefficient in reversed(self.coefficients):
            total = total * x + coefficient
        return total

    def slope(self):
        pairs = enumerate(self.coefficients)
        return Polynomial([power * c for power, c in pairs if power > 0])


class Average:
    """The average of the last `size` numbers, 0 as long as there is none.

    >>> Average(2).add(1).add(3).add(5).value()
    4.0
    >>> Average(3).add(1).add(2).value()
    1.5
    >>> Average(5).value()
    0
    >>> Average(1).add(9).add(4).value()
    4.0
    >>> Average(2).add(0).add(1).value()
    0.5
    """

    def __init__(self, size):
        self.size = size
        self.numbers = []

    def add(self, number):
        self.numbers.append(number)
        if len(self.numbers) > self.size:
            self.numbers.pop(0)
        return self

    def value(self):
        if not self.numbers:
            return 0
        return sum(self.numbers) / len(self.numbers)


class Seats:
    """A row of seats, counted from 1; `book` takes the first free one and notes it, or 0.

    >>> Seats(2).book().book().booked
    [1, 2]
    >>> Seats(1).book().book().booked
    [1, 0]
    >>> Seats(3).book().book().free(1).book().booked
    [1, 2, 1]
    >>> Seats(2).free(1).booked
    []
    >>> Seats(0).book().booked
    [0]
    """

    def __init__(self, count):
        self.taken = [False] * count
        self.booked = []

    def book(self):
        number = 0
        if False in self.taken:
            number = self.taken.index(False) + 1
            self.taken[number - 1] = True
        self.booked.append(number)
        return self

    def free(self, number):
        self.taken[number - 1] = False
        return self


class Undo:
    """A text that can be typed on and taken back, one typing at a time.

    >>> Undo().type("a").type("bc").text
    'abc'
    >>> Undo().type("a").type("bc").undo().text
    'a'
    >>> Undo().undo().text
    ''
    >>> Undo().type("x").undo().type("y").text
    'y'
    >>> Undo().type("a").type("b").undo().undo().text
    ''
    """

    def __init__(self):
        self.text = ""
        self.before = []

    def type(self, more):
        self.before.append(self.text)
        self.text += more
        return self

    def undo(self):
        if self.before:
            self.text = self.before.pop()
        return self


class Teams:
    """Friends of friends are in one team; at first everyone is alone.

    >>> Teams().join("a", "b").join("b", "c").same("a", "c")
    True
    >>> Teams().join("a", "b").same("a", "c")
    False
    >>> Teams().same("x", "x")
    True
    >>> Teams().join("a", "b").join("c", "d").join("d", "a").same("b", "c")
    True
    >>> Teams().join("a", "a").same("a", "b")
    False
    """

    def __init__(self):
        self.leaders = {}

    def leader(self, name):
        while self.leaders.get(name, name) != name:
            name = self.leaders[name]
        return name

    def join(self, left, right):
        self.leaders[self.leader(left)] = self.leader(right)
        return self

    def same(self, left, right):
        return self.leader(left) == self.leader(right)
