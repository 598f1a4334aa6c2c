//! C and C++ programs made up by a seeded generator: structures of many shapes, and functions that take and make them.

use std::fmt::Write;

/// A xorshift generator: the same programs every time.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const INTEGERS: &[&str] = &[
    "char",
    "signed char",
    "unsigned char",
    "short",
    "unsigned short",
    "int",
    "unsigned",
    "long",
    "unsigned long",
    "long long",
    "bool",
    "enum hue",
    "enum step",
    "word",
];
const BIT_FIELDS: &[(&str, usize)] = &[
    ("int", 31),
    ("unsigned", 31),
    ("long", 63),
    ("unsigned long", 63),
    ("unsigned char", 7),
    ("bool", 1),
];

const HEAD: &str = r#"
#include <stdbool.h>
#include <string.h>
#include <stdint.h>
enum hue { RED, GREEN = 7, BLUE };
enum step { BACK = -3, STAY, FORTH = 100000 };
typedef unsigned int word;
#define APART __attribute__((noinline, noclone))
static uint64_t seed = 88172645463325252u;
__attribute__((noinline)) uint64_t roll(void) {
  seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17;
  return seed;
}
__attribute__((noinline)) void fill(void *to, unsigned long size) {
  unsigned char *p = (unsigned char *)to;
  for (unsigned long i = 0; i < size; i++) p[i] = (unsigned char)(roll() >> 24) & 0x7f;
}
volatile long sink;
__attribute__((noinline)) void use(const volatile void *p) { __asm__ volatile("" :: "r"(p) : "memory"); sink++; }
/* Locals that are not yet set have the same values in every run. */
__attribute__((noinline)) void paint(void) {
  volatile unsigned char below[16384];
  for (unsigned i = 0; i < sizeof below; i++) below[i] = 0x2a;
}
static int beyond = 11;
long common = -5;
__thread int own = 3;
static __thread long mine = -4;
"#;

/// The text of a program with functions `f0`, `f1` …, each called a few times.
pub fn source(seed: u64, functions: usize) -> String {
    let mut dice = Dice::new(seed);
    let mut text = HEAD.to_owned();
    let records = 6;
    for number in 0..records {
        record(&mut text, &mut dice, number);
    }
    let mut calls = String::new();
    for number in 0..functions {
        function(&mut text, &mut calls, &mut dice, number, records);
    }
    let _ = write!(
        text,
        "int main(void) {{\n  own = 9;\n  for (int round = 0; round < 3; round++) {{\n{calls}  }}\n  return sink == 0;\n}}\n"
    );
    text
}

/// `struct sN` with members of all kinds, and `make_sN`, which fills one with numbers and valid pointers.
fn record(text: &mut String, dice: &mut Dice, number: usize) {
    let mut pointers = Vec::new();
    let mut flags = Vec::new();
    let _ = writeln!(text, "struct s{number} {{");
    for member in 0..3 + dice.below(6) {
        let integer = dice.pick(INTEGERS);
        match dice.below(10) {
            0 | 1 => {
                let (kind, most) = BIT_FIELDS[dice.below(BIT_FIELDS.len())];
                let width = 1 + dice.below(most);
                let _ = writeln!(text, "  {kind} b{member} : {width};");
                if kind == "bool" {
                    flags.push(format!("b{member}"));
                }
            }
            2 => {
                let _ = writeln!(text, "  {} d{member};", dice.pick(&["float", "double"]));
            }
            3 => {
                let _ = writeln!(text, "  char text{member}[{}];", 4 + dice.below(9));
            }
            4 => {
                let _ = writeln!(text, "  short a{member}[{}][3];", 2 + dice.below(3));
            }
            5 if number > 0 => {
                let inner = dice.below(number);
                let _ = writeln!(text, "  struct s{inner} in{member};");
                pointers.push((format!("in{member}"), inner, false));
            }
            6 if number > 0 => {
                let inner = dice.below(number);
                let _ = writeln!(text, "  struct s{inner} *p{member};");
                pointers.push((format!("p{member}"), inner, true));
            }
            7 => {
                let _ = writeln!(
                    text,
                    "  union {{ int u{member}; unsigned char v{member}; short w{member}[2]; }};"
                );
            }
            8 => {
                let _ = writeln!(
                    text,
                    "  struct {{ int x{member}; {integer} y{member}; }} t{member};"
                );
                if integer == "bool" {
                    flags.push(format!("t{member}.y{member}"));
                }
            }
            _ => {
                let _ = writeln!(text, "  {integer} m{member};");
                if integer == "bool" {
                    flags.push(format!("m{member}"));
                }
            }
        }
    }
    let _ = writeln!(
        text,
        "  int last;\n}};\nstatic struct s{number} kept{number};"
    );
    let _ = writeln!(
        text,
        "__attribute__((noinline)) void make_s{number}(struct s{number} *to) {{\n  fill(to, sizeof *to);"
    );
    for (name, inner, pointer) in pointers {
        let _ = match pointer {
            true => writeln!(text, "  to->{name} = &kept{inner};"),
            false => writeln!(text, "  make_s{inner}(&to->{name});"),
        };
    }
    for flag in flags {
        let _ = writeln!(text, "  to->{flag} = roll() & 1;");
    }
    text.push_str("}\n");
}

/// A function with parameters in registers and on the stack, locals in blocks and loops, and an inlined helper.
fn function(text: &mut String, calls: &mut String, dice: &mut Dice, number: usize, records: usize) {
    let mut parameters = Vec::new();
    let mut arguments = Vec::new();
    let mut numbers = Vec::new();
    let mut pointers = Vec::new();
    let _ = writeln!(calls, "    {{");
    for n in 0..1 + dice.below(9) {
        let kind = dice.pick(INTEGERS);
        let inner = dice.below(records);
        match dice.below(6) {
            0 => {
                parameters.push(format!("struct s{inner} *p{n}"));
                let _ = writeln!(calls, "      make_s{inner}(&kept{inner});");
                arguments.push(format!("&kept{inner}"));
                pointers.push(format!("p{n}"));
            }
            1 => {
                parameters.push(format!("struct s{inner} v{n}"));
                let _ = writeln!(calls, "      struct s{inner} v{n}; make_s{inner}(&v{n});");
                arguments.push(format!("v{n}"));
                numbers.push(format!("v{n}.last"));
            }
            2 => {
                let kind = dice.pick(&["float", "double"]);
                parameters.push(format!("{kind} d{n}"));
                arguments.push(format!("({kind})(int)roll() / 3"));
                numbers.push(format!("(long)d{n}"));
            }
            _ => {
                parameters.push(format!("{kind} n{n}"));
                arguments.push(match kind {
                    "bool" => "roll() & 1".to_owned(),
                    _ => format!("({kind})roll()"),
                });
                numbers.push(format!("(long)n{n}"));
            }
        }
    }
    numbers.push("common".to_owned());
    let _ = writeln!(
        calls,
        "      paint();\n      sink += f{number}({});\n    }}",
        arguments.join(", ")
    );
    let one = numbers[dice.below(numbers.len())].clone();
    let two = numbers[dice.below(numbers.len())].clone();
    let inner = dice.below(records);
    let _ = writeln!(
        text,
        "static inline long twist{number}(long left, int right) {{\n  long both = left * 3 + right;\n  use(&common);\n  return both ^ (left >> 2);\n}}"
    );
    let _ = writeln!(text, "APART long f{number}({}) {{", parameters.join(", "));
    let _ = writeln!(text, "  static int visits;\n  visits++;");
    let _ = writeln!(text, "  long first = {one} + 17;");
    for pointer in &pointers {
        let _ = writeln!(text, "  first += {pointer}->last;\n  use({pointer});");
    }
    let _ = writeln!(
        text,
        "  int second = (int)twist{number}(first, (int){two});"
    );
    let _ = writeln!(
        text,
        "  struct s{inner} whole;\n  make_s{inner}(&whole);\n  use(&whole);"
    );
    let _ = writeln!(
        text,
        "  struct {{ int x; long y; char c; }} pair = {{ second, first, 'q' }};"
    );
    let _ = writeln!(text, "  unsigned char small = (unsigned char)(first >> 3);");
    let _ = writeln!(text, "  double ratio = (double)second / 7;");
    let _ = writeln!(text, "  for (int i = 0; i < 3; i++) {{");
    let _ = writeln!(
        text,
        "    long square = (long)i * i + second;\n    use(&sink);"
    );
    let _ = writeln!(
        text,
        "    if (square & 1) {{\n      int second = i + small;\n      use(&common);\n      sink += second * {one};\n    }}"
    );
    let _ = writeln!(text, "    pair.y += square; mine += i;\n  }}");
    let _ = writeln!(
        text,
        "  int table[4] = {{ second, small, (int)pair.y, 4 }};\n  use(table);"
    );
    let _ = writeln!(
        text,
        "  return first + second + pair.y + pair.x + whole.last + (long)ratio + beyond + own + table[1];\n}}"
    );
}
