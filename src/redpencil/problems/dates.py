"""Dates and times of day, as plain numbers and texts."""

import datetime


def is_leap(year):
    """Say whether a year has a 29th of February.

    >>> is_leap(2024)
    True
    >>> is_leap(1900)
    False
    >>> is_leap(2000)
    True
    >>> is_leap(2023)
    False
    >>> is_leap(2100)
    False
    """
    if year % 400 == 0:
        return True
    return year % 4 == 0 and year % 100 != 0


def days_in_month(year, month):
    """Return how many days a month has.

    >>> days_in_month(2023, 2)
    28
    >>> days_in_month(2024, 2)
    29
    >>> days_in_month(2024, 4)
    30
    >>> days_in_month(2024, 12)
    31
    >>> days_in_month(1900, 2)
    28
    """
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month in (4, 6, 9, 11) else 31


def minutes_of(clock):
    """Return the minutes since midnight of a time such as "07:45".

    >>> minutes_of("07:45")
    465
    >>> minutes_of("00:00")
    0
    >>> minutes_of("23:59")
    1439
    >>> minutes_of("12:30")
    750
    >>> minutes_of("01:01")
    61
    """
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def clock_of(minutes):
    """Return the time such as "07:45" so many minutes after midnight, days gone by left out.

    >>> clock_of(465)
    '07:45'
    >>> clock_of(0)
    '00:00'
    >>> clock_of(1439)
    '23:59'
    >>> clock_of(1500)
    '01:00'
    >>> clock_of(61)
    '01:01'
    """
    hours = minutes // 60 % 24
    return f"{hours:02d}:{minutes % 60:02d}"


def twelve_hours(clock):
    """Write a time such as "15:05" in the English way, such as "3:05 pm".

    >>> twelve_hours("15:05")
    '3:05 pm'
    >>> twelve_hours("00:30")
    '12:30 am'
    >>> twelve_hours("12:00")
    '12:00 pm'
    >>> twelve_hours("09:59")
    '9:59 am'
    >>> twelve_hours("23:10")
    '11:10 pm'
    """
    hours, minutes = clock.split(":")
    hour = int(hours)
    half = "am" if hour < 12 else "pm"
    hour = hour % 12
    if hour == 0:
        hour = 12
    return f"{hour}:{minutes} {half}"


def spoken_duration(seconds):
    """Write seconds as hours, minutes and seconds, such as "1h 0m 5s", without leading noughts.

    >>> spoken_duration(3605)
    '1h 0m 5s'
    >>> spoken_duration(59)
    '59s'
    >>> spoken_duration(60)
    '1m 0s'
    >>> spoken_duration(0)
    '0s'
    >>> spoken_duration(7325)
    '2h 2m 5s'
    """
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes}m {seconds}s"
    if minutes:
        return f"{minutes}m {seconds}s"
    return f"{seconds}s"


def hand_angle(hour, minute):
    """Return the smaller angle in degrees between a clock's hands.

    >>> hand_angle(3, 0)
    90.0
    >>> hand_angle(12, 0)
    0.0
    >>> hand_angle(6, 30)
    15.0
    >>> hand_angle(9, 0)
    90.0
    >>> hand_angle(1, 30)
    135.0
    """
    hour_hand = hour % 12 * 30 + minute * 0.5
    minute_hand = minute * 6
    angle = abs(hour_hand - minute_hand)
    return min(angle, 360 - angle)


def day_of_year(year, month, day):
    """Return which day of its year a date is, 1 for the first of January.

    >>> day_of_year(2023, 1, 1)
    1
    >>> day_of_year(2023, 3, 1)
    60
    >>> day_of_year(2024, 3, 1)
    61
    >>> day_of_year(2023, 12, 31)
    365
    >>> day_of_year(2024, 12, 31)
    366
    """
    lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        lengths[1] = 29
    return sum(lengths[: month - 1]) + day


def weekday_name(year, month, day):
    """Return the English name of a date's day of the week.

    >>> weekday_name(2024, 1, 1)
    'Monday'
    >>> weekday_name(2000, 2, 29)
    'Tuesday'
    >>> weekday_name(1999, 12, 31)
    'Friday'
    >>> weekday_name(2023, 7, 9)
    'Sunday'
    >>> weekday_name(1970, 1, 1)
    'Thursday'
    """
    names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    return names[datetime.date(year, month, day).weekday()]


def days_between(first, second):
    """Return the number of days between two dates such as "2024-02-28", in either order.

    >>> days_between("2024-02-28", "2024-03-01")
    2
    >>> days_between("2023-02-28", "2023-03-01")
    1
    >>> days_between("2024-01-01", "2024-01-01")
    0
    >>> days_between("2024-01-10", "2024-01-01")
    9
    >>> days_between("2023-01-01", "2024-01-01")
    365
    """
    start = datetime.date.fromisoformat(first)
    end = datetime.date.fromisoformat(second)
    return abs((end - start).days)


def add_days(date, days):
    """Return the date, such as "2024-02-28", so many days later.

    >>> add_days("2024-02-28", 1)
    '2024-02-29'
    >>> add_days("2023-02-28", 1)
    '2023-03-01'
    >>> add_days("2024-12-31", 1)
    '2025-01-01'
    >>> add_days("2024-01-01", -1)
    '2023-12-31'
    >>> add_days("2024-05-05", 0)
    '2024-05-05'
    """
    start = datetime.date.fromisoformat(date)
    return (start + datetime.timedelta(days=days)).isoformat()


def next_birthday(today, month, day):
    """Return the year of the next birthday from a date such as "2024-05-10" on, that day included.

    >>> next_birthday("2024-05-10", 5, 11)
    2024
    >>> next_birthday("2024-05-10", 5, 10)
    2024
    >>> next_birthday("2024-05-10", 5, 9)
    2025
    >>> next_birthday("2024-12-31", 1, 1)
    2025
    >>> next_birthday("2023-01-01", 12, 31)
    2023
    """
    year, this_month, this_day = (int(part) for part in today.split("-"))
    if (month, day) < (this_month, this_day):
        return year + 1
    return year


def age_on(born, date):
    """Return how old someone is on a date; both are texts such as "1990-08-01".

    >>> age_on("1990-08-01", "2020-08-01")
    30
    >>> age_on("1990-08-01", "2020-07-31")
    29
    >>> age_on("2000-02-29", "2001-03-01")
    1
    >>> age_on("2024-01-01", "2024-12-31")
    0
    >>> age_on("1985-12-31", "2000-01-01")
    14
    """
    years = int(date[:4]) - int(born[:4])
    if date[5:] < born[5:]:
        years -= 1
    return years


def quarter_of(month):
    """Return the quarter, from 1 to 4, that a month is in.

    >>> quarter_of(1)
    1
    >>> quarter_of(3)
    1
    >>> quarter_of(4)
    2
    >>> quarter_of(12)
    4
    >>> quarter_of(9)
    3
    """
    quarter = 1
    while month > 3:
        month -= 3
        quarter += 1
    return quarter


def next_tram(timetable, now):
    """Return the first departure at or after a time, else tomorrow's first; times like "07:45".

    >>> next_tram(["06:10", "07:40", "09:00"], "07:00")
    '07:40'
    >>> next_tram(["06:10", "07:40"], "07:40")
    '07:40'
    >>> next_tram(["06:10", "07:40"], "22:00")
    '06:10'
    >>> next_tram(["12:00"], "00:00")
    '12:00'
    >>> next_tram(["05:00", "23:59"], "05:01")
    '23:59'
    """
    for departure in timetable:
        if departure >= now:
            return departure
    return timetable[0]


def open_minutes(hours, start, end):
    """Return how many minutes of a stay from start to end a shop is open; pairs are (open, close).

    >>> open_minutes([(540, 720), (780, 1080)], 600, 800)
    140
    >>> open_minutes([(540, 720)], 0, 100)
    0
    >>> open_minutes([], 0, 1000)
    0
    >>> open_minutes([(100, 200)], 50, 300)
    100
    >>> open_minutes([(100, 200)], 120, 150)
    30
    """
    total = 0
    for opens, closes in hours:
        overlap = min(end, closes) - max(start, opens)
        if overlap > 0:
            total += overlap
    return total


def work_days(first, last):
    """Count the days from Monday to Friday between two dates, both included.

    >>> work_days("2024-01-01", "2024-01-07")
    5
    >>> work_days("2024-01-06", "2024-01-07")
    0
    >>> work_days("2024-01-05", "2024-01-08")
    2
    >>> work_days("2024-01-03", "2024-01-03")
    1
    >>> work_days("2024-01-01", "2024-01-31")
    23
    """
    day = datetime.date.fromisoformat(first)
    end = datetime.date.fromisoformat(last)
    count = 0
    while day <= end:
        if day.weekday() < 5:
            count += 1
        day += datetime.timedelta(days=1)
    return count


def reformat(date):
    """Turn a date such as "24.12.2023" into "2023-12-24".

    >>> reformat("24.12.2023")
    '2023-12-24'
    >>> reformat("1.1.2000")
    '2000-01-01'
    >>> reformat("31.10.1999")
    '1999-10-31'
    >>> reformat("05.06.2024")
    '2024-06-05'
    >>> reformat("9.11.1989")
    '1989-11-09'
    """
    day, month, year = date.split(".")
    return f"{year}-{int(month):02d}-{int(day):02d}"
