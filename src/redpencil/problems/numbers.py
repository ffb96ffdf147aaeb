"""Numbers: digits, divisors, coins and fares."""


def digit_sum(number):
    """Return the sum of the digits of a whole number, its sign ignored.

    >>> digit_sum(123)
    6
    >>> digit_sum(0)
    0
    >>> digit_sum(-45)
    9
    >>> digit_sum(9)
    9
    >>> digit_sum(1001)
    2
    """
    number = abs(number)
    total = 0
    while number > 0:
        total += number % 10
        number //= 10
    return total


def digital_root(number):
    """Add up the digits of a number again and again until one digit is left.

    >>> digital_root(38)
    2
    >>> digital_root(0)
    0
    >>> digital_root(999)
    9
    >>> digital_root(7)
    7
    >>> digital_root(493193)
    2
    """
    while number > 9:
        number = sum(int(digit) for digit in str(number))
    return number


def divisors(number):
    """Return all divisors of a positive number, smallest first.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    >>> divisors(1)
    [1]
    >>> divisors(7)
    [1, 7]
    >>> divisors(16)
    [1, 2, 4, 8, 16]
    >>> divisors(28)
    [1, 2, 4, 7, 14, 28]
    """
    found = []
    for candidate in range(1, number + 1):
        if number % candidate == 0:
            found.append(candidate)
    return found


def prime_parts(number):
    """Return the prime factors of a number above 1, smallest first, repeated as they occur.

    >>> prime_parts(12)
    [2, 2, 3]
    >>> prime_parts(13)
    [13]
    >>> prime_parts(100)
    [2, 2, 5, 5]
    >>> prime_parts(2)
    [2]
    >>> prime_parts(77)
    [7, 11]
    """
    parts = []
    divisor = 2
    while number > 1:
        while number % divisor == 0:
            parts.append(divisor)
            number //= divisor
        divisor += 1
    return parts


def primes_below(limit):
    """Return all prime numbers smaller than `limit`.

    >>> primes_below(10)
    [2, 3, 5, 7]
    >>> primes_below(2)
    []
    >>> primes_below(3)
    [2]
    >>> primes_below(20)
    [2, 3, 5, 7, 11, 13, 17, 19]
    >>> primes_below(0)
    []
    """
    primes = []
    for number in range(2, limit):
        if all(number % prime != 0 for prime in primes):
            primes.append(number)
    return primes


def coins_for(amount, values):
    """Pay an amount with the largest coins first; return how many of each value are used.

    >>> coins_for(87, [50, 20, 10, 5, 2, 1])
    [1, 1, 1, 1, 1, 0]
    >>> coins_for(0, [5, 1])
    [0, 0]
    >>> coins_for(30, [10, 20])
    [1, 1]
    >>> coins_for(4, [1])
    [4]
    >>> coins_for(99, [25, 10, 5, 1])
    [3, 2, 0, 4]
    """
    used = []
    for value in sorted(values, reverse=True):
        used.append(amount // value)
        amount %= value
    return used


def fewest_coins(amount, values):
    """Return the smallest number of coins that make up the amount, or -1 if none do.

    >>> fewest_coins(6, [1, 3, 4])
    2
    >>> fewest_coins(0, [2])
    0
    >>> fewest_coins(3, [2])
    -1
    >>> fewest_coins(11, [1, 2, 5])
    3
    >>> fewest_coins(7, [7, 1])
    1
    """
    fewest = [0] + [amount + 1] * amount
    for total in range(1, amount + 1):
        for value in values:
            if value <= total:
                fewest[total] = min(fewest[total], fewest[total - value] + 1)
    return fewest[amount] if fewest[amount] <= amount else -1


def ways_to_pay(amount, values):
    """Count the ways to make up an amount from coins of these values, in any number.

    >>> ways_to_pay(5, [1, 2, 5])
    4
    >>> ways_to_pay(3, [2])
    0
    >>> ways_to_pay(0, [1, 2])
    1
    >>> ways_to_pay(10, [2, 5, 3, 6])
    5
    >>> ways_to_pay(4, [1, 2, 3])
    4
    """
    ways = [1] + [0] * amount
    for value in values:
        for total in range(value, amount + 1):
            ways[total] += ways[total - value]
    return ways[amount]


def taxi_fare(metres):
    """Return the fare in cents: 300 for the first 1000 metres, then 25 for each 200 begun.

    >>> taxi_fare(500)
    300
    >>> taxi_fare(1000)
    300
    >>> taxi_fare(1001)
    325
    >>> taxi_fare(1200)
    325
    >>> taxi_fare(2050)
    450
    """
    if metres <= 1000:
        return 300
    steps = (metres - 1000 + 199) // 200
    return 300 + 25 * steps


def clamp(number, low, high):
    """Return the number, or the nearer bound where it lies outside of `low` to `high`.

    >>> clamp(5, 1, 10)
    5
    >>> clamp(-3, 0, 10)
    0
    >>> clamp(42, 0, 10)
    10
    >>> clamp(0, 0, 0)
    0
    >>> clamp(10, 1, 10)
    10
    """
    if number < low:
        return low
    if number > high:
        return high
    return number


def to_base(number, base):
    """Write a number from 0 on in a base from 2 to 16, with small letters for digits above 9.

    >>> to_base(10, 2)
    '1010'
    >>> to_base(255, 16)
    'ff'
    >>> to_base(0, 7)
    '0'
    >>> to_base(63, 8)
    '77'
    >>> to_base(11, 12)
    'b'
    """
    if number == 0:
        return "0"
    digits = ""
    while number > 0:
        digits = "0123456789abcdef"[number % base] + digits
        number //= base
    return digits


def common_divisor(a, b):
    """Return the largest number that divides both of two positive numbers.

    >>> common_divisor(12, 18)
    6
    >>> common_divisor(7, 13)
    1
    >>> common_divisor(5, 5)
    5
    >>> common_divisor(100, 75)
    25
    >>> common_divisor(1, 9)
    1
    """
    while b:
        a, b = b, a % b
    return a


def meet_again(first, second):
    """Two lights blink every `first` and `second` seconds; return after how many both blink.

    >>> meet_again(4, 6)
    12
    >>> meet_again(3, 5)
    15
    >>> meet_again(7, 7)
    7
    >>> meet_again(1, 9)
    9
    >>> meet_again(10, 4)
    20
    """
    moment = first
    while moment % second != 0:
        moment += first
    return moment


def steps_to_one(number):
    """Halve an even number, triple an odd one and add 1; return how many steps it takes to reach 1.

    >>> steps_to_one(1)
    0
    >>> steps_to_one(6)
    8
    >>> steps_to_one(8)
    3
    >>> steps_to_one(3)
    7
    >>> steps_to_one(27)
    111
    """
    steps = 0
    while number != 1:
        if number % 2 == 0:
            number //= 2
        else:
            number = 3 * number + 1
        steps += 1
    return steps


def whole_root(number):
    """Return the largest whole number whose square is at most `number`, by halving an interval.

    >>> whole_root(16)
    4
    >>> whole_root(15)
    3
    >>> whole_root(0)
    0
    >>> whole_root(1)
    1
    >>> whole_root(1000)
    31
    """
    low, high = 0, number
    while low < high:
        middle = (low + high + 1) // 2
        if middle * middle <= number:
            low = middle
        else:
            high = middle - 1
    return low


def power_mod(base, exponent, modulus):
    """Return base to the power of exponent modulo modulus, squaring as it goes.

    >>> power_mod(2, 10, 1000)
    24
    >>> power_mod(3, 0, 7)
    1
    >>> power_mod(5, 3, 13)
    8
    >>> power_mod(7, 128, 11)
    9
    >>> power_mod(10, 2, 6)
    4
    """
    result = 1 % modulus
    base %= modulus
    while exponent > 0:
        if exponent % 2 == 1:
            result = result * base % modulus
        base = base * base % modulus
        exponent //= 2
    return result


def trailing_zeros(number):
    """Return how many zeros the factorial of `number` ends in.

    >>> trailing_zeros(5)
    1
    >>> trailing_zeros(4)
    0
    >>> trailing_zeros(25)
    6
    >>> trailing_zeros(0)
    0
    >>> trailing_zeros(100)
    24
    """
    zeros = 0
    while number >= 5:
        number //= 5
        zeros += number
    return zeros


def ordinal(number):
    """Return a positive number with its English ending, such as 1st or 12th.

    >>> ordinal(1)
    '1st'
    >>> ordinal(2)
    '2nd'
    >>> ordinal(13)
    '13th'
    >>> ordinal(23)
    '23rd'
    >>> ordinal(111)
    '111th'
    >>> ordinal(40)
    '40th'
    """
    if 10 <= number % 100 <= 20:
        ending = "th"
    else:
        ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return str(number) + ending
