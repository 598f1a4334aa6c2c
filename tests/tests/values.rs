//! Values of C++ programs, types of other modules and of headers, enumerators, and assignments. What is expected is what
//! the program itself put there.

use spile_tests::{Scratch, run, stap};
use std::process::Command;

const SHOP: &str = r#"
#include <string>
#include <vector>
#include <map>
#include <memory>
namespace shop {
enum class Kind : unsigned char { Fruit = 3, Nut };
struct Base { int id; virtual ~Base() {} };
struct Left : virtual Base { int left = 11; };
struct Right : virtual Base { int right = 22; };
struct Both : Left, Right { int own = 33; static int shared; };
int Both::shared = 44;
class Cart {
 public:
  std::string name; std::vector<int> counts; std::map<int, std::string> labels; Kind kind; std::unique_ptr<int> p;
  double rate; int &ref;
  Cart(int &r) : name("basket"), counts{1, 2, 3}, kind(Kind::Nut), p(new int(77)), rate(2.5), ref(r) { labels[5] = "five"; }
  __attribute__((noinline, noclone)) int total(const std::string &s, Both &both) {
    asm volatile("" :: "r"(this), "r"(&s), "r"(&both) : "memory");
    return counts[0] + s.size() + both.own;
  }
};
}
thread_local int own = 99;
int main(int argc, char **argv) {
  int x = 5; own += argc;
  shop::Cart cart(x); shop::Both both; both.id = 66;
  return cart.total(std::string("a string that is too long for its object"), both) == 0;
}"#;

#[test]
fn members_of_cpp_objects() {
    let scratch = Scratch::new("values-cpp");
    let script = r#"probe process.function("total") {
        printf("%s %d\n", user_string($this->name->_M_dataplus->_M_p), $this->name->_M_string_length)
        printf("%d %d\n", $this->counts->_M_impl->_M_start[0], $this->counts->_M_impl->_M_start[2])
        printf("%d\n", $this->labels->_M_t->_M_impl->_M_node_count)
        node = $this->labels->_M_t->_M_impl->_M_header->_M_left
        printf("%d\n", user_int(node + 32))
        printf("%d %s %x %d\n", $this->kind, @enumname($this->kind), $this->rate, user_int($this->ref))
        printf("%d %d %d %d %d\n", $both->own, $both->left, $both->right, $both->id, $both->shared)
        printf("%s\n", user_string($s->_M_dataplus->_M_p))
        printf("%d %d %s\n", @enum("Nut"), @var("own"), @enumname(3, "shop::Kind"))
        printf("%d\n", @cast($this, "shop::Cart")->kind)
        // Two of its base classes have such a member; the nearer one is meant.
        printf("%d\n", user_int($this->p->_M_t->_M_t->_M_head_impl))
    }"#;
    for flags in [["-O0", "-gdwarf-4"], ["-O2", "-gdwarf-5"]] {
        let program = scratch.compile("shop.cc", SHOP, &flags);
        let outcome = stap(&["-w", "-e", script, "-c", &program.to_string_lossy()]).ok();
        assert_eq!(
            outcome.stdout,
            "basket 6\n1 3\n1\n5\n4 Nut 4004000000000000 5\n33 11 22 66 44\n\
             a string that is too long for its object\n4 100 Fruit\n4\n77\n",
            "{flags:?}: {}",
            outcome.stderr
        );
    }
}

const PLAIN: &str = r#"
#include <stdio.h>
#include <sys/stat.h>
struct bits { unsigned a : 3; int b : 7; long d : 40; };
__attribute__((noinline, noclone)) long sum(int a, signed char b, long c, int d, int e, int f, int on_stack, struct bits *s,
                                            void *status) {
  __asm__ volatile("" ::: "memory");
  return a * 1000000L + b * 10000 + c * 100 + d + e + f + on_stack + s->a + s->b + (s->d >> 30);
}
int main(int argc, char **argv) {
  struct bits bits = { 5, -3, 1L << 36 };
  struct stat status;
  stat("/", &status);
  status.st_size = 4242;
  printf("%ld\n", sum(argc, 2, 3, 4, 0, 0, 0, &bits, &status));
  return 0;
}"#;

#[test]
fn registers_memory_and_bit_fields_are_assigned_to() {
    let scratch = Scratch::new("values-assign");
    let script = r#"
        probe process.function("sum") {
            $a = 9; $b = -1; $c = 5; $on_stack = 50; $s->a = 10; $s->b = -64; $s->d = 3 << 30
            printf("%d %d %d %d %d %d %d\n", $a, $b, $c, $on_stack, $s->a, $s->b, $s->d >> 30)
        }
        probe process.function("sum").return { $return = $return + 1 }"#;
    for level in ["-O0", "-O2"] {
        let program = scratch.compile("sum.c", PLAIN, &[level, "-g"]);
        let program = program.to_string_lossy();
        let outcome = stap(&["-g", "-w", "-e", script, "-c", &program]).ok();
        // 9000000 - 10000 + 500 + 4 + 50 + 2 - 64 + 3 + 1
        assert_eq!(
            outcome
                .stdout
                .lines()
                .collect::<std::collections::BTreeSet<_>>(),
            ["9 -1 5 50 2 -64 3", "8990496"].into(),
            "{level}: {}",
            outcome.stderr
        );
    }
}

/// Members of a structure on the heap are those of the hit, and what the script assigns to one is read back, with and without
/// another thread.
#[test]
fn members_on_the_heap_are_those_of_the_hit() {
    let scratch = Scratch::new("values-heap");
    let source = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
struct entry { long a, b; char between[300]; long c; unsigned char d; struct entry *next; };
__attribute__((noinline, noclone)) long check(struct entry *e) {
  __asm__ volatile("" : : "r"(e) : "memory");
  return e->a * 5 + e->c * 3 + e->d;
}
static void *asleep(void *end) { char byte; return read(*(int *)end, &byte, 1) == 1 ? end : 0; }
static void round_of(long n) {
  struct entry *e = malloc(sizeof *e), *next = malloc(sizeof *next);
  e->next = next;
  for (long i = 0; i < n; i++) {
    *e = (struct entry){.a = i, .b = 2 * i, .c = 3 * i, .d = i, .next = next};
    *next = (struct entry){.a = -i};
    check(e);
    if (e->b != i + 7) { puts("wrong"); exit(1); }
  }
}
int main(void) {
  int ends[2]; pthread_t t;
  round_of(500);
  if (pipe(ends) || pthread_create(&t, 0, asleep, ends)) return 1;
  round_of(500);
  if (write(ends[1], "x", 1) != 1) return 1;
  pthread_join(t, 0);
  puts("right");
}"#;
    let program = scratch.compile("heap.c", source, &["-O1", "-g", "-pthread"]);
    let program = program.to_string_lossy();
    let script = r#"global hits, sum, wrong
        probe process.function("check") {
            sum += $e->a + $e->b + $e->c + $e->d + $e->next->a
            $e->b = $e->a + 7
            if ($e->b != $e->a + 7 || $e->c != 3 * $e->a || $e->next->a != -$e->a) wrong++
            hits++
        }
        probe end { printf("%d %d %d\n", hits, wrong, sum) }"#;
    let outcome = stap(&["-g", "-e", script, "-c", &program]).ok();
    // Twice the sum of 0..500 five times over, and of 0..=255 and 0..244.
    let sum = 2 * (5 * 499 * 500 / 2 + 255 * 256 / 2 + 243 * 244 / 2);
    let expected = format!("right\n1000 0 {sum}\n");
    assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
}

#[test]
fn types_of_headers_and_other_modules() {
    let scratch = Scratch::new("values-modules");
    let program = scratch.compile("sum.c", PLAIN, &["-O0", "-g"]);
    let library = scratch.compile(
        "library.c",
        "struct elsewhere { char c; int wanted; }; struct elsewhere kept;",
        &["-g", "-shared", "-fPIC"],
    );
    let (program, library) = (program.to_string_lossy(), library.to_string_lossy());
    let script = format!(
        r#"probe process.function("sum") {{
            printf("%d\n", @cast($status, "struct stat", "<sys/stat.h>")->st_size)
            printf("%d\n", &@cast(0, "struct elsewhere", "nosuch:{library}")->wanted)
            printf("%d\n", @defined(@cast(0, "struct nowhere", "<sys/stat.h>")->x))
        }}
        probe begin {{ printf("%d\n", &@cast(0, "struct elsewhere", "{library}")->wanted) }}"#
    );
    let outcome = stap(&["-w", "-e", &script, "-c", &program]).ok();
    // The program prints a number of its own.
    let lines: Vec<&str> = outcome.stdout.lines().filter(|l| l.len() < 7).collect();
    assert_eq!(lines, ["4", "4242", "4", "0"], "{}", outcome.stderr);
    let script =
        r#"probe process.function("sum") { println(@cast($status, "struct s", "<nosuch.h>")->x) }"#;
    let outcome = stap(&["-w", "-e", script, "-c", &program]);
    assert_ne!(outcome.status, Some(0));
    let wanted = "nosuch.h: No such file or directory";
    assert!(outcome.stderr.contains(wanted), "{}", outcome.stderr);
}

#[test]
fn types_of_templates_however_they_are_spelled() {
    let scratch = Scratch::new("templates");
    let source = r#"
        namespace geo { inline namespace v1 {
          template <typename T, int N> struct Vec { T d[N]; };
          template <typename A, typename B> struct Pair { A first; B second; };
        } }
        typedef geo::Pair<geo::Vec<int, 3>, geo::Vec<short, 2>> both;
        __attribute__((noinline)) int take(const void *p) { return ((const both *)p)->first.d[2]; }
        int main() { both b = { { { 1, 2, 3 } }, { { 4, 5 } } }; return take(&b) != 3; }"#;
    let program = scratch.compile("templates.cc", source, &["-O0", "-g"]);
    let program = program.to_string_lossy();
    for (name, member, value) in [
        ("geo::Vec<int, 3>", "d[1]", "2\n"),
        ("struct geo::v1::Vec<int,3>", "d[2]", "3\n"),
        (
            "Pair<geo::v1::Vec<int,3>,geo::v1::Vec<short int,2>>",
            "second->d[1]",
            "5\n",
        ),
        (
            "geo::Pair<geo::v1::Vec<int, 3>, geo::v1::Vec<short int, 2> >",
            "second->d[0]",
            "4\n",
        ),
    ] {
        let script = format!(
            "probe process.function(\"take\") {{ println(@cast($p, \"{name}\")->{member}) }}"
        );
        let outcome = stap(&["-e", &script, "-c", &program]).ok();
        assert_eq!(outcome.stdout, value, "{name}: {}", outcome.stderr);
    }
}

#[test]
fn static_members_are_those_of_their_class() {
    let scratch = Scratch::new("values-static");
    let source = r#"
        struct First { int a = 1; static int count; static constexpr long limit = 40000000000; };
        namespace other { struct Second { char b = 2; static short count; static const int limit = -7; }; }
        int First::count = 11;
        short other::Second::count = -22;
        __attribute__((noinline)) int take(First *first, other::Second *second) {
          asm volatile("" :: "r"(first), "r"(second) : "memory");
          return first->a;
        }
        int main() { First f; other::Second s; return take(&f, &s) != 1; }"#;
    let script = r#"probe process.function("take") {
        printf("%d %d %d %d\n", $first->count, $second->count, $first->limit, $second->limit)
    }"#;
    for (compiler, version) in [
        ("g++", "-gdwarf-4"),
        ("g++", "-gdwarf-5"),
        ("clang++", "-gdwarf-5"),
    ] {
        let source = scratch.write("static.cc", source);
        let program = scratch.path(compiler);
        let mut command = Command::new(compiler);
        command
            .args([version, "-O1", "-o"])
            .arg(&program)
            .arg(source);
        run(command).ok();
        let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
        assert_eq!(
            outcome.stdout, "11 -22 40000000000 -7\n",
            "{compiler} {version}: {}",
            outcome.stderr
        );
    }
}

/// `work` has a part apart from the rest, so that no single address says where it begins.
const PARTED: &str = r#"
#include <stdlib.h>
static volatile long sink;
__attribute__((noinline, noclone, cold)) void rare(long r) { sink = r; abort(); }
__attribute__((noinline, noclone)) long clobber(long n) {
  __asm__ volatile("mov $99, %%rdi; mov $98, %%rsi" ::: "rdi", "rsi", "memory");
  return n + 1;
}
__attribute__((noinline, noclone)) long work(long a, long b) {
  long r = clobber(a + b);
  if (__builtin_expect(r < 0, 0)) rare(r);
  sink = r;
  return r + 1;
}
int main(int argc, char **argv) {
  long seven = argc + 6, kept = work(seven, 2 * seven);
  sink = seven;
  return kept != 23;
}"#;

#[test]
fn parameters_of_a_function_in_parts_are_what_callers_handed_over() {
    let scratch = Scratch::new("values-parts");
    let program = scratch.compile("parted.c", PARTED, &["-O2", "-g"]);
    let mut symbols = Command::new("nm");
    symbols.arg(&program);
    assert!(run(symbols).ok().stdout.contains("work.cold"));
    let script = r#"probe process.statement("work@parted.c:12") { printf("%d %d\n", $a, $b) }"#;
    let outcome = stap(&["-w", "-e", script, "-c", &program.to_string_lossy()]).ok();
    assert_eq!(outcome.stdout, "7 14\n", "{}", outcome.stderr);
}

/// Variables that only debugging information still calculates.
const CALCULATED: &str = r#"
__attribute__((noinline, noclone)) double scaled(double a, float b, int n, unsigned long u) {
  double half = a * 0.5, sum = half + n, less = half - a, ratio = a / n, negated = -a, big = u;
  float product = b * b, narrow = a, from = n;
  long whole = a, compared = a < sum;
  int wrapped = n * 1000000007;
  unsigned char low = n + 253;
  __asm__ volatile("" ::: "memory");
  return a + b + n + u;
}
int main(int argc, char **argv) {
  return scaled(argc + 6.25, 1.1f, 3 * argc, 0xfffffffffffffc00ul) == 0;
}"#;

#[test]
fn numbers_that_are_calculated_from_floating_point_ones() {
    let scratch = Scratch::new("values-floats");
    let program = scratch.compile("floats.c", CALCULATED, &["-O2", "-g", "-w"]);
    let script = r#"probe process.statement("scaled@floats.c:9") {
        printf("%x %x %x %x %x %x\n", $half, $sum, $less, $ratio, $negated, $big)
        printf("%x %x %x\n", $product, $narrow, $from)
        printf("%d %d %d %d\n", $whole, $compared, $wrapped, $low)
    }"#;
    let outcome = stap(&["-w", "-e", script, "-c", &program.to_string_lossy()]).ok();
    let (a, b, n, u) = (7.25f64, 1.1f32, 3i32, 0xffff_ffff_ffff_fc00_u64);
    let half = a * 0.5;
    let doubles = [half, half + 3.0, half - a, a / 3.0, -a, u as f64].map(f64::to_bits);
    let floats = [b * b, a as f32, n as f32].map(f32::to_bits);
    let hexadecimal = |numbers: &[u64]| {
        let numbers = numbers.iter().map(|number| format!("{number:x}"));
        numbers.collect::<Vec<_>>().join(" ")
    };
    let expected = format!(
        "{}\n{}\n7 0 {} 0\n",
        hexadecimal(&doubles),
        hexadecimal(&floats.map(u64::from)),
        n.wrapping_mul(1_000_000_007)
    );
    assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
}
