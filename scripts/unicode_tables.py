#!/usr/bin/env python3
# Writes lithe/stylize/unicode_tables.h: what the tokenizer of text prompts needs to know of Unicode.
# scripts/unicode_tables.py > lithe/stylize/unicode_tables.h
import sys
import unicodedata

COLUMNS = 110


def ranges(holds):
    found = []
    for code in range(sys.maxunicode + 1):
        if holds(code):
            if found and found[-1][1] == code - 1:
                found[-1][1] = code
            else:
                found.append([code, code])
    return found


def lower_runs():
    """Runs of capitals, every one or every second code, whose small letters lie equally far away."""
    pairs = [(code, ord(chr(code).lower())) for code in range(0x80, sys.maxunicode + 1)
             if len(chr(code).lower()) == 1 and chr(code).lower() != chr(code)]
    runs = []
    for code, small in pairs:
        if runs:
            first, last, step, far = runs[-1]
            if far == small - code and code - last in ((1, 2) if step == 0 else (step,)):
                runs[-1] = (first, code, code - last, far)
                continue
        runs.append((code, code, 0, small - code))
    return [(first, last, step or 1, far) for first, last, step, far in runs]


def compositions():
    """Pairs that NFC joins; Hangul syllables follow a rule instead."""
    found = []
    for code in range(sys.maxunicode + 1):
        parts = unicodedata.decomposition(chr(code))
        if not parts or parts.startswith('<') or ' ' not in parts:
            continue
        first, second = (int(part, 16) for part in parts.split())
        if unicodedata.normalize('NFC', chr(first) + chr(second)) == chr(code):
            found.append((first, second, code))
    return sorted(found)


def write(comment, declaration, rows):
    print(f'\n// {comment}')
    print(f'inline constexpr {declaration}[] = {{')
    line = '   '
    for row in rows:
        item = ' {' + ', '.join(hex(x) if x >= 10 else str(x) for x in row) + '},'
        if len(line) + len(item) > COLUMNS:
            print(line)
            line = '   '
        line += item
    print(line)
    print('};')


print('// Tables of Unicode ' + unicodedata.unidata_version + ', written by scripts/unicode_tables.py.')
print('#pragma once\n\n#include <cstdint>\n\nnamespace lithe::unicode {\n\n// clang-format off')
print('struct Range { std::uint32_t first, last; };')
print('struct LowerRun { std::uint32_t first, last, step; std::int32_t distance; };')
print('struct Composition { std::uint32_t first, second, joined; };')
write('Letters: category L.', 'Range kLetters',
      ranges(lambda code: unicodedata.category(chr(code))[0] == 'L'))
write('Numbers: category N.', 'Range kNumbers',
      ranges(lambda code: unicodedata.category(chr(code))[0] == 'N'))
write('White space.', 'Range kSpaces', ranges(lambda code: chr(code).isspace()))
write('Capitals beyond ASCII and how far away their small letters lie.', 'LowerRun kLower', lower_runs())
write('Canonical compositions, sorted.', 'Composition kCompositions', compositions())
print('// clang-format on\n\n}  // namespace lithe::unicode')
