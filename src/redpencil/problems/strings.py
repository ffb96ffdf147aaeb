"""Strings: labels, names and short texts."""


def shout_last_word(text):
    """Return the text with its last word in capitals; words are separated by single spaces.

    >>> shout_last_word("mind the gap")
    'mind the GAP'
    >>> shout_last_word("tea")
    'TEA'
    >>> shout_last_word("")
    ''
    >>> shout_last_word("two eggs please")
    'two eggs PLEASE'
    >>> shout_last_word("A b c")
    'A b C'
    """
    words = text.split(" ")
    words[-1] = words[-1].upper()
    return " ".join(words)


def initials(name):
    """Return the first letters of a name's words, in capitals, each followed by a full stop.

    >>> initials("ada lovelace")
    'A.L.'
    >>> initials("Grace Brewster Hopper")
    'G.B.H.'
    >>> initials("plato")
    'P.'
    >>> initials("")
    ''
    >>> initials("x y z")
    'X.Y.Z.'
    """
    letters = ""
    for word in name.split():
        letters += word[0].upper() + "."
    return letters


def mask_digits(text, keep):
    """Replace every digit by "*", except for the last `keep` digits of the text.

    >>> mask_digits("card 1234 5678", 4)
    'card **** 5678'
    >>> mask_digits("12", 3)
    '12'
    >>> mask_digits("a1b2c3", 1)
    'a*b*c3'
    >>> mask_digits("555", 0)
    '***'
    >>> mask_digits("no digits", 2)
    'no digits'
    """
    result = []
    left = keep
    for char in reversed(text):
        if char.isdigit():
            if left > 0:
                left -= 1
            else:
                char = "*"
        result.append(char)
    return "".join(reversed(result))


def longest_run(text):
    """Return the length of the longest run of one repeated character; 0 for an empty text.

    >>> longest_run("aabbbc")
    3
    >>> longest_run("abc")
    1
    >>> longest_run("")
    0
    >>> longest_run("zzzz")
    4
    >>> longest_run("abbaaa")
    3
    """
    best = 0
    run = 0
    previous = None
    for char in text:
        run = run + 1 if char == previous else 1
        best = max(best, run)
        previous = char
    return best


def squeeze(text, char):
    """Replace each run of `char` in the text by a single one.

    >>> squeeze("a  b   c", " ")
    'a b c'
    >>> squeeze("aaa", "a")
    'a'
    >>> squeeze("--x--y-", "-")
    '-x-y-'
    >>> squeeze("", "x")
    ''
    >>> squeeze("hello", "z")
    'hello'
    """
    result = ""
    for letter in text:
        if letter == char and result.endswith(char):
            continue
        result += letter
    return result


def pack_runs(text):
    """Write each run of a character as the character and, if longer than 1, the run's length.

    >>> pack_runs("aaabcc")
    'a3bc2'
    >>> pack_runs("abc")
    'abc'
    >>> pack_runs("")
    ''
    >>> pack_runs("zzzzzzzzzzzz")
    'z12'
    >>> pack_runs("aabbaa")
    'a2b2a2'
    """
    packed = ""
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or text[end] != text[start]:
            length = end - start
            packed += text[start] + (str(length) if length > 1 else "")
            start = end
    return packed


def unpack_runs(packed):
    """Undo run packing: each letter is repeated as often as the number after it, once without.

    >>> unpack_runs("a3bc2")
    'aaabcc'
    >>> unpack_runs("abc")
    'abc'
    >>> unpack_runs("")
    ''
    >>> unpack_runs("x12")
    'xxxxxxxxxxxx'
    >>> unpack_runs("a2b2a2")
    'aabbaa'
    """
    text = ""
    index = 0
    while index < len(packed):
        letter = packed[index]
        index += 1
        digits = ""
        while index < len(packed) and packed[index].isdigit():
            digits += packed[index]
            index += 1
        text += letter * (int(digits) if digits else 1)
    return text


def shift_letters(text, step):
    """Shift each small letter by `step` places in the alphabet, round the end; leave the rest.

    >>> shift_letters("abc", 1)
    'bcd'
    >>> shift_letters("xyz", 3)
    'abc'
    >>> shift_letters("Hi there", 2)
    'Hk vjgtg'
    >>> shift_letters("bcd", -1)
    'abc'
    >>> shift_letters("a-z", 25)
    'z-y'
    """
    shifted = ""
    for char in text:
        if "a" <= char <= "z":
            char = chr((ord(char) - ord("a") + step) % 26 + ord("a"))
        shifted += char
    return shifted


def wrap_label(text, width):
    """Break words into lines of at most `width` characters, a long word on a line of its own.

    >>> wrap_label("the quick brown fox", 9)
    ['the quick', 'brown fox']
    >>> wrap_label("a b c", 1)
    ['a', 'b', 'c']
    >>> wrap_label("one", 10)
    ['one']
    >>> wrap_label("", 5)
    []
    >>> wrap_label("extraordinary day out", 7)
    ['extraordinary', 'day out']
    >>> wrap_label("ab cd", 5)
    ['ab cd']
    """
    lines = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def is_mirror(text):
    """Say whether the letters of a text read the same backwards, ignoring case and non-letters.

    >>> is_mirror("Step on no pets")
    True
    >>> is_mirror("mirror")
    False
    >>> is_mirror("")
    True
    >>> is_mirror("No, on!")
    True
    >>> is_mirror("ab")
    False
    """
    letters = [char.lower() for char in text if char.isalpha()]
    return letters == letters[::-1]


def common_start(words):
    """Return the longest beginning that all words share; "" for no words.

    >>> common_start(["station", "state", "stamp"])
    'sta'
    >>> common_start(["bus"])
    'bus'
    >>> common_start([])
    ''
    >>> common_start(["tea", "tram", "x"])
    ''
    >>> common_start(["car", "cart", "carton"])
    'car'
    """
    if not words:
        return ""
    start = words[0]
    for word in words[1:]:
        while not word.startswith(start):
            start = start[:-1]
    return start


def vowel_weight(text):
    """Add up 1 for each a, 2 for each e, 3 for i, 4 for o and 5 for u, in small or capital letters.

    >>> vowel_weight("banana")
    3
    >>> vowel_weight("Queue")
    14
    >>> vowel_weight("rhythm")
    0
    >>> vowel_weight("AEIOU")
    15
    >>> vowel_weight("moon")
    8
    """
    total = 0
    for char in text.lower():
        total += "aeiou".find(char) + 1
    return total


def to_snake(name):
    """Turn a name in camel case into small letters joined by underscores.

    >>> to_snake("ticketPrice")
    'ticket_price'
    >>> to_snake("Seat")
    'seat'
    >>> to_snake("rowAndSeat")
    'row_and_seat'
    >>> to_snake("plain")
    'plain'
    >>> to_snake("")
    ''
    """
    result = ""
    for index, char in enumerate(name):
        if char.isupper() and index > 0:
            result += "_"
        result += char.lower()
    return result


def to_camel(name):
    """Turn words joined by underscores into camel case, the first word in small letters.

    >>> to_camel("ticket_price")
    'ticketPrice'
    >>> to_camel("seat")
    'seat'
    >>> to_camel("row_and_seat")
    'rowAndSeat'
    >>> to_camel("")
    ''
    >>> to_camel("a_b")
    'aB'
    """
    words = name.split("_")
    return words[0] + "".join(word.capitalize() for word in words[1:])


def scattered(word, text):
    """Say whether the letters of `word` occur in `text` in order, with anything in between.

    >>> scattered("tea", "the area")
    True
    >>> scattered("tea", "eat")
    False
    >>> scattered("", "abc")
    True
    >>> scattered("aa", "a")
    False
    >>> scattered("box", "big ox")
    True
    """
    index = 0
    for char in text:
        if index < len(word) and char == word[index]:
            index += 1
    return index == len(word)


def smallest_rotation(text):
    """Return the rotation of the text that comes first in the alphabet.

    >>> smallest_rotation("cab")
    'abc'
    >>> smallest_rotation("banana")
    'abanan'
    >>> smallest_rotation("")
    ''
    >>> smallest_rotation("z")
    'z'
    >>> smallest_rotation("bba")
    'abb'
    """
    best = text
    for index in range(len(text)):
        rotation = text[index:] + text[:index]
        if rotation < best:
            best = rotation
    return best


def longest_distinct(text):
    """Return the length of the longest stretch of the text in which no character occurs twice.

    >>> longest_distinct("abcab")
    3
    >>> longest_distinct("aaaa")
    1
    >>> longest_distinct("")
    0
    >>> longest_distinct("abba")
    2
    >>> longest_distinct("pwwkew now")
    6
    """
    last_seen = {}
    start = 0
    best = 0
    for index, char in enumerate(text):
        if char in last_seen and last_seen[char] >= start:
            start = last_seen[char] + 1
        last_seen[char] = index
        best = max(best, index - start + 1)
    return best


def edit_gap(left, right):
    """Count the positions in which two texts differ; each missing character counts as one.

    >>> edit_gap("cart", "card")
    1
    >>> edit_gap("tea", "tea")
    0
    >>> edit_gap("tea", "team")
    1
    >>> edit_gap("", "abc")
    3
    >>> edit_gap("abcd", "bc")
    4
    """
    gap = abs(len(left) - len(right))
    for a, b in zip(left, right):
        if a != b:
            gap += 1
    return gap
