"""Parsing: small languages, formats and codes."""


def parse_pairs(text):
    """Read "name=value" pairs separated by semicolons; blanks around names and values are dropped.

    >>> parse_pairs("a=1; b=2")
    {'a': '1', 'b': '2'}
    >>> parse_pairs("")
    {}
    >>> parse_pairs("x = y ")
    {'x': 'y'}
    >>> parse_pairs("k=a=b")
    {'k': 'a=b'}
    >>> parse_pairs("a=1;;c=3;")
    {'a': '1', 'c': '3'}
    """
    pairs = {}
    for part in text.split(";"):
        if "=" in part:
            name, value = part.split("=", 1)
            pairs[name.strip()] = value.strip()
    return pairs


def brackets_match(text):
    """Say whether all brackets (), [] and {} of a text are closed in the right order.

    >>> brackets_match("a(b[c]{d})")
    True
    >>> brackets_match("([)]")
    False
    >>> brackets_match("")
    True
    >>> brackets_match("((")
    False
    >>> brackets_match(")")
    False
    """
    partner = {")": "(", "]": "[", "}": "{"}
    waiting = []
    for char in text:
        if char in "([{":
            waiting.append(char)
        elif char in partner:
            if not waiting or waiting.pop() != partner[char]:
                return False
    return not waiting


def deepest(text):
    """Return how deep the round brackets of a text are nested, 0 without any.

    >>> deepest("(a(b))")
    2
    >>> deepest("()()")
    1
    >>> deepest("")
    0
    >>> deepest("x")
    0
    >>> deepest("((()))(())")
    3
    """
    depth = best = 0
    for char in text:
        if char == "(":
            depth += 1
            best = max(best, depth)
        elif char == ")":
            depth -= 1
    return best


def from_roman(text):
    """Return the number that Roman numerals stand for.

    >>> from_roman("XIV")
    14
    >>> from_roman("MCMXC")
    1990
    >>> from_roman("III")
    3
    >>> from_roman("")
    0
    >>> from_roman("CDXLIV")
    444
    """
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    total = 0
    previous = 0
    for char in reversed(text):
        value = values[char]
        total += value if value >= previous else -value
        previous = max(previous, value)
    return total


def to_roman(number):
    """Write a number from 1 to 3999 in Roman numerals.

    >>> to_roman(14)
    'XIV'
    >>> to_roman(1990)
    'MCMXC'
    >>> to_roman(3)
    'III'
    >>> to_roman(444)
    'CDXLIV'
    >>> to_roman(3999)
    'MMMCMXCIX'
    """
    values = [1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1]
    signs = ["M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I"]
    text = ""
    for value, sign in zip(values, signs):
        while number >= value:
            text += sign
            number -= value
    return text


def reverse_polish(text):
    """Work out a sum of whole numbers and + - * in which the operator comes after its numbers.

    >>> reverse_polish("3 4 +")
    7
    >>> reverse_polish("2 3 4 * +")
    14
    >>> reverse_polish("7")
    7
    >>> reverse_polish("5 1 2 + 4 * + 3 -")
    14
    >>> reverse_polish("2 5 -")
    -3
    """
    stack = []
    for token in text.split():
        if token in ("+", "-", "*"):
            right = stack.pop()
            left = stack.pop()
            if token == "+":
                stack.append(left + right)
            elif token == "-":
                stack.append(left - right)
            else:
                stack.append(left * right)
        else:
            stack.append(int(token))
    return stack[0]


def add_and_times(text):
    """Work out a text of whole numbers joined by + and *, where * binds tighter.

    >>> add_and_times("2+3*4")
    14
    >>> add_and_times("7")
    7
    >>> add_and_times("1+1+1")
    3
    >>> add_and_times("2*3*4")
    24
    >>> add_and_times("10*2+5*3")
    35
    """
    total = 0
    for term in text.split("+"):
        product = 1
        for factor in term.split("*"):
            product *= int(factor)
        total += product
    return total


def page_ranges(text):
    """Read pages such as "1-3,7" into a list of numbers.

    >>> page_ranges("1-3,7")
    [1, 2, 3, 7]
    >>> page_ranges("5")
    [5]
    >>> page_ranges("2-2")
    [2]
    >>> page_ranges("1,2,3")
    [1, 2, 3]
    >>> page_ranges("8-10,1-2")
    [8, 9, 10, 1, 2]
    """
    pages = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        pages.extend(range(int(first), int(last or first) + 1))
    return pages


def short_ranges(pages):
    """Write sorted distinct page numbers as short as possible, such as "1-3,7".

    >>> short_ranges([1, 2, 3, 7])
    '1-3,7'
    >>> short_ranges([])
    ''
    >>> short_ranges([4])
    '4'
    >>> short_ranges([1, 2])
    '1-2'
    >>> short_ranges([1, 3, 5, 6, 7])
    '1,3,5-7'
    """
    parts = []
    start = 0
    for index in range(1, len(pages) + 1):
        if index == len(pages) or pages[index] != pages[index - 1] + 1:
            first, last = pages[start], pages[index - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = index
    return ",".join(parts)


def split_csv(line):
    """Cut a line at its commas, but not at those between double quotes, which are dropped.

    >>> split_csv('a,"b,c",d')
    ['a', 'b,c', 'd']
    >>> split_csv("a,b")
    ['a', 'b']
    >>> split_csv("")
    ['']
    >>> split_csv('""')
    ['']
    >>> split_csv('x,,"y"')
    ['x', '', 'y']
    """
    fields = [""]
    quoted = False
    for char in line:
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            fields.append("")
        else:
            fields[-1] += char
    return fields


def check_digit(digits):
    """Return the digit that makes the sum of all digits, every second one from the right
    doubled (less 9 where above 9), a multiple of ten; the doubling begins with the last one.

    >>> check_digit("7992739871")
    3
    >>> check_digit("0")
    0
    >>> check_digit("1")
    8
    >>> check_digit("99")
    2
    >>> check_digit("123456")
    6
    """
    total = 0
    for index, char in enumerate(reversed(digits)):
        value = int(char)
        if index % 2 == 0:
            value *= 2
            if value > 9:
                value -= 9
        total += value
    return (10 - total % 10) % 10


def walk(moves):
    """Follow moves of N, E, S and W with counts, such as "N2 E1", from (0, 0); north is up.

    >>> walk("N2 E1")
    (1, 2)
    >>> walk("")
    (0, 0)
    >>> walk("S3")
    (0, -3)
    >>> walk("N1 S1 W4")
    (-4, 0)
    >>> walk("E10 W2 N5")
    (8, 5)
    """
    x = y = 0
    for move in moves.split():
        direction, steps = move[0], int(move[1:])
        if direction == "N":
            y += steps
        elif direction == "S":
            y -= steps
        elif direction == "E":
            x += steps
        else:
            x -= steps
    return (x, y)


def fill_in(template, values):
    """Replace each {name} of a text by its value, and leave names without one as they are.

    >>> fill_in("Dear {name}!", {"name": "Ada"})
    'Dear Ada!'
    >>> fill_in("{a}{b}{a}", {"a": "x", "b": "y"})
    'xyx'
    >>> fill_in("plain", {})
    'plain'
    >>> fill_in("{who}?", {"what": "z"})
    '{who}?'
    >>> fill_in("{n} of {m}", {"n": 1, "m": 2})
    '1 of 2'
    """
    for name, value in values.items():
        template = template.replace("{" + name + "}", str(value))
    return template


def strip_comments(code):
    """Drop from each line what comes after a "#", and the blanks before it; drop empty lines.

    >>> strip_comments("a = 1  # one\\nb = 2")
    'a = 1\\nb = 2'
    >>> strip_comments("# all")
    ''
    >>> strip_comments("")
    ''
    >>> strip_comments("x\\n\\ny")
    'x\\ny'
    >>> strip_comments("  z # a # b")
    '  z'
    """
    kept = []
    for line in code.split("\n"):
        line = line.split("#")[0].rstrip()
        if line:
            kept.append(line)
    return "\n".join(kept)


def bytes_of(size):
    """Read a size such as "2k" or "3M" with k for 1024, M for 1024 k and nothing for bytes.

    >>> bytes_of("2k")
    2048
    >>> bytes_of("3M")
    3145728
    >>> bytes_of("100")
    100
    >>> bytes_of("0k")
    0
    >>> bytes_of("12k")
    12288
    """
    units = {"k": 1024, "M": 1024 * 1024}
    if size[-1] in units:
        return int(size[:-1]) * units[size[-1]]
    return int(size)


def indent_tree(lines):
    """From lines indented by two blanks a level return each line's path, joined by "/".

    >>> indent_tree(["a", "  b", "c"])
    ['a', 'a/b', 'c']
    >>> indent_tree([])
    []
    >>> indent_tree(["x"])
    ['x']
    >>> indent_tree(["a", "  b", "    c", "  d"])
    ['a', 'a/b', 'a/b/c', 'a/d']
    >>> indent_tree(["a", "b"])
    ['a', 'b']
    """
    paths = []
    parents = []
    for line in lines:
        name = line.lstrip()
        depth = (len(line) - len(name)) // 2
        parents = parents[:depth] + [name]
        paths.append("/".join(parents))
    return paths


def morse_words(code):
    """Decode three letters, "." for e, "-" for t and ".-" for a; words are separated by "/".

    >>> morse_words("- . .-")
    'tea'
    >>> morse_words(". .- - / - . .-")
    'eat tea'
    >>> morse_words("")
    ''
    >>> morse_words("-")
    't'
    >>> morse_words(".- / .-")
    'a a'
    """
    letters = {".": "e", "-": "t", ".-": "a"}
    words = []
    for word in code.split("/"):
        words.append("".join(letters[sign] for sign in word.split()))
    return " ".join(words)
