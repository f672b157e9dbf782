"""Scripts with spaces between their words and scripts without, as ranges of Unicode."""

UNSPACED = (
    r"\u0E00-\u0EFF\u1000-\u109F\u1100-\u11FF\u1780-\u17FF\u1950-\u19FF\u1A20-\u1AAF"
    r"\u2E80-\uA4CF\uA960-\uA97F\uA9E0-\uA9FF\uAA60-\uAADF\uAC00-\uD7FF\uF900-\uFAFF"
    r"\uFF66-\uFFDC\U0001B000-\U0001B16F\U00020000-\U0003FFFF"
)
"""Scripts without spaces between words, as ranges of a character class: Thai, Lao, Burmese, Khmer
and their relatives, Han, Kana and Hangul."""
JOINING = rf"(?:[^\W{UNSPACED}]|[\u0300-\u036F])"
"""A character that forms one word with a neighbour of the same class. Scripts without spaces
between words are excluded; combining accents are included."""
