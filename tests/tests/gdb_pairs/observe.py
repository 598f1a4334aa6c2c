"""What gdb sees: runs a program to the places of some functions and prints the variables there, taken apart into
scalars. Lines are separated by tabs:

  P  place  function                              a place, as an address of the running program
  V  place  hit  path  kind  value                a value: a number, "?" when gdb has none, "fault"

Settings come from the environment: PAIRS_FUNCTIONS (a regular expression), PAIRS_HITS (how many stops at each place count),
PAIRS_PLACES ("entries", "statements", or "statements behind entry"), PAIRS_OUTPUT (a file).
"""

import os
import re

import gdb

# It would have the program allocate memory for arrays that are in none; version 13 loses vector registers on the way on some
# processors.
gdb.execute("set may-call-functions off")

HITS = int(os.environ["PAIRS_HITS"])
WANTED = re.compile(os.environ["PAIRS_FUNCTIONS"])
OUTPUT = open(os.environ["PAIRS_OUTPUT"], "w")
WORD = 1 << 64
RECORDS = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)
REFERENCES = (gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF)
NUMBERS = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_CHAR, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_ENUM)


def emit(*words):
    OUTPUT.write("\t".join(str(w) for w in words) + "\n")


def bits_of(value):
    """The bytes of a floating-point number as an unsigned number."""
    return int(value.format_string(format="x"), 16)


def scalar(value):
    """What SystemTap's 64-bit signed number would be."""
    try:
        kind = value.type.strip_typedefs()
        if value.is_optimized_out:
            return "?"
        if kind.code == gdb.TYPE_CODE_FLT:
            if kind.sizeof not in (4, 8):
                return None
            number = bits_of(value)
        else:
            number = int(value)
    except gdb.MemoryError:
        return "fault"
    except gdb.error as error:
        return "?" if "optimized out" in str(error) else "error: %s" % error
    number &= WORD - 1
    return number - WORD if number >> 63 else number


def is_unset(address, size):
    """Whether memory holds what the program painted its stack with: values that nobody has set yet."""
    try:
        return set(gdb.selected_inferior().read_memory(address, size).tobytes()) == {0x2A}
    except gdb.MemoryError:
        return False


def place_of(value, field):
    """Address and size of a member, a bit-field's too; None when it is not in memory."""
    try:
        if value.address is None:
            return None
        start = int(value.address) + field.bitpos // 8
        bits = field.bitsize or 8 * field.type.sizeof
        return start, (field.bitpos % 8 + bits + 7) // 8
    except (gdb.error, AttributeError):
        return None


def walk(value, path, depth, found):
    """Takes a value apart; found receives (path, kind, number)."""
    try:
        if value.address is not None and is_unset(int(value.address), value.type.sizeof):
            return None
    except gdb.error:
        pass
    kind = value.type.strip_typedefs()
    if kind.code in REFERENCES:
        try:
            return walk(value.referenced_value(), path, depth, found)
        except gdb.error:
            return None
    if kind.code in RECORDS:
        for field in kind.fields():
            if not hasattr(field, "bitpos") and not field.is_base_class:
                continue
            name = field.name
            if name and name.startswith("_vptr"):
                continue
            try:
                inner = value[field]
            except gdb.error:
                continue
            if field.bitsize:
                place = place_of(value, field)
                if place is not None and is_unset(*place):
                    continue
            walk(inner, path if field.is_base_class or not name else path + "->" + name, depth, found)
    elif kind.code == gdb.TYPE_CODE_ARRAY:
        low, high = kind.range()
        for index in sorted({low, high}):
            if low <= index <= high:
                walk(value[index], "%s[%d]" % (path, index), depth, found)
    elif kind.code == gdb.TYPE_CODE_PTR:
        number = scalar(value)
        found.append((path, "pointer", number))
        target = kind.target().strip_typedefs()
        if target.code in RECORDS and depth > 0 and isinstance(number, int) and number != 0:
            walk(value.dereference(), path, depth - 1, found)
        elif target.code in NUMBERS and target.sizeof > 1 and isinstance(number, int) and number != 0:
            walk(value.dereference(), path + "[0]", 0, found)
    elif kind.code in NUMBERS or kind.code == gdb.TYPE_CODE_FLT:
        number = scalar(value)
        if number is not None:
            found.append((path, "number", number))


def variables(frame):
    """The variables that a function sees at a place, the innermost of each name; where a copy of an inlined function
    begins they are the copy's, although gdb still shows the frame around it."""
    found = {}
    block = gdb.block_for_pc(frame.pc())
    while block is not None:
        for symbol in block:
            if symbol.is_argument or symbol.is_variable:
                found.setdefault(symbol.name, symbol)
        if block.function is not None:
            break
        block = block.superblock
    return found


def is_below_stack(value, frame):
    """Whether a variable is in memory that is not the frame's yet: nobody has to keep what stands there."""
    try:
        address = int(value.address) if value.address is not None else None
    except gdb.error:
        return False
    red_zone = 0 if frame.function().value().address == frame.pc() else 128
    end = int(frame.read_register("rsp")) - red_zone
    return address is not None and end - (1 << 20) < address < end


class Place(gdb.Breakpoint):
    def __init__(self, where, function):
        super().__init__(where, internal=True)
        self.silent = True
        self.function_name = function
        self.hits = 0

    def stop(self):
        frame = gdb.selected_frame()
        place = "0x%x" % frame.pc()
        if self.hits == 0:
            emit("P", place, self.function_name)
        hit = self.hits
        self.hits += 1
        if hit >= HITS:
            self.enabled = False
            return False
        for name, symbol in variables(frame).items():
            if symbol.is_variable and symbol.line >= frame.find_sal().line:
                # Its declaration has not been executed yet.
                continue
            try:
                value = symbol.value(frame)
            except gdb.error:
                emit("V", place, hit, "$" + name, "number", "?")
                continue
            if is_below_stack(value, frame):
                continue
            found = []
            walk(value, "$" + name, 2, found)
            for path, kind, number in found:
                emit("V", place, hit, path, kind, number)
        return False


def functions():
    """Functions whose names are wanted, by the symbols of the program's own units."""
    listing = gdb.execute("info functions -n", to_string=True)
    names = re.findall(r"^\d+:\s+.*?([\w:~]+)\(", listing, re.MULTILINE)
    return sorted({n for n in names if WANTED.fullmatch(n)})


def statements(name):
    """Addresses of the statements of a function, its first one included unless only those behind it are wanted."""
    symbol = gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)
    if symbol is None:
        return []
    block = gdb.block_for_pc(int(symbol.value().address))
    while block is not None and block.function is None:
        block = block.superblock
    if block is None:
        return []
    listing = gdb.execute("maint info line-table " + os.path.basename(symbol.symtab.filename), to_string=True)
    found = set()
    for line in listing.splitlines():
        match = re.match(r"^\d+\s+\d+\s+(0x[0-9a-f]+)\s+(?:0x[0-9a-f]+\s+)?Y", line)
        if match:
            address = int(match.group(1), 16)
            first = block.start + ("behind" in os.environ["PAIRS_PLACES"])
            if first <= address < block.end:
                found.add(address)
    return sorted(found)


def main():
    for command in (
        "set pagination off",
        "set confirm off",
        "set breakpoint pending off",
        "set startup-with-shell off",
        "set print entry-values no",
        "set disable-randomization on",
        "set debuginfod enabled off",
        "set max-value-size unlimited",
        "set python print-stack full",
        "unset environment",
    ):
        gdb.execute(command, to_string=True)
    for name in functions():
        Place(name, name)
    if os.environ["PAIRS_PLACES"] != "entries":
        gdb.execute("starti", to_string=True)
        for name in functions():
            for address in statements(name):
                Place("*0x%x" % address, name)
        gdb.execute("continue", to_string=True)
    else:
        gdb.execute("run", to_string=True)
    OUTPUT.close()


main()
