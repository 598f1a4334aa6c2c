//! Values of Rust's, Go's and Fortran's programs: strings, slices, vectors, variants, variables of modules. What is expected is what the program put there.

use spile_tests::{Scratch, need, run, stap};
use std::path::{Path, PathBuf};
use std::process::Command;

const RUST: &str = r#"
use std::hint::black_box;
pub struct Person { pub name: String, pub age: u8, pub nicks: Option<Vec<String>>, pub pet: Pet, pub scores: Vec<i32> }
pub enum Pet { None, Fish(u16), Dog { name: &'static str, legs: i8 } }
impl Person {
    #[inline(never)]
    pub fn greet(&self, loudly: bool, words: &[i16], who: &str) -> usize {
        black_box(self); black_box(words); black_box(who);
        self.name.len() + words.len() + loudly as usize
    }
}
#[inline(never)]
pub fn area(kind: Option<u32>, side: i64) -> i64 { black_box(kind).map_or(0, |k| k as i64) * black_box(side) }
#[inline(never)]
pub fn moved(p: &Person, side: i32, r: Result<u32, String>) -> i64 {
    let mut total = side as i64 + p.age as i64;
    if let Ok(v) = &r { total += *v as i64; }
    black_box(total)
}
fn main() {
    let a = Person { name: "Ada".to_string(), age: 36, nicks: Some(vec!["a".to_string(), "b\"c".to_string()]),
        pet: Pet::Dog { name: "Rex", legs: 4 }, scores: vec![] };
    let b = Person { name: "Bob".to_string(), age: 50, nicks: None, pet: Pet::Fish(7), scores: vec![1, 2, 3, 4, 5, 6] };
    let c = Person { name: String::new(), age: 0, nicks: Some(Vec::new()), pet: Pet::None, scores: vec![9] };
    let mut sum = 0usize;
    for p in [&a, &b, &c] { sum += p.greet(true, &[-1, 5], "you"); }
    sum = sum.wrapping_add(area(Some(3), -4) as usize);
    sum = sum.wrapping_add(area(None, 1) as usize);
    sum = sum.wrapping_add((moved(&a, -9, Ok(8)) + moved(&b, 2, Err("bad".to_string()))) as usize);
    black_box(sum);
}
"#;

fn rust(scratch: &Scratch, level: &str) -> PathBuf {
    let source = scratch.write("people.rs", RUST);
    let program = scratch.path(&format!("people{level}"));
    let mut command = Command::new("rustc");
    command
        .args([
            "--edition",
            "2021",
            "-g",
            "-C",
            &format!("opt-level={level}"),
            "-o",
        ])
        .arg(&program)
        .arg(&source);
    run(command).ok();
    program
}

fn traced(program: &Path, script: &str) -> String {
    let outcome = stap(&["-w", "-e", script, "-c", &program.to_string_lossy()]).ok();
    assert_eq!(outcome.stderr, "", "{}", outcome.stdout);
    outcome.stdout
}

#[test]
fn rust_values() {
    let scratch = Scratch::new("rust-values");
    // Optimised code need not keep what is constant, nor an Option's tag.
    let always = r#"probe process.function("greet") {
        printf("%d %s %s\n", $self->age, $self->name$, $self->nicks$$)
        printf("%s %s %d\n", $self->pet$$, $self->scores$, $loudly)
      }"#;
    for level in ["0", "2"] {
        let program = rust(&scratch, level);
        assert_eq!(
            traced(&program, always),
            r#"36 "Ada" {.Some={.__0=["a", "b\"c"]}}
{.Dog={.name="Rex", .legs=4}} [] 1
50 "Bob" {.None={}}
{.Fish={.__0=7}} [1, 2, 3, 4, ...] 1
0 "" {.Some={.__0=[]}}
{.None={}} [9] 1
"#,
            "opt-level {level}"
        );
    }
    let program = rust(&scratch, "0");
    let script = r#"probe process.function("greet") { printf("%s %s\n", $words$, $who$) }
      probe process.function("area") { printf("%s %d\n", $kind$, $side) }"#;
    let slices = "[-1, 5] \"you\"\n".repeat(3);
    assert_eq!(
        traced(&program, script),
        format!("{slices}{{.Some={{...}}}} -4\n{{.None={{...}}}} 1\n")
    );
}

/// One of the parameters has places in some of the code alone, the others in slots of the stack.
#[test]
fn parameters_beside_one_that_is_moved() {
    let scratch = Scratch::new("rust-moved");
    let program = rust(&scratch, "0");
    let script = r#"probe process.function("moved") { printf("%d %d\n", $p->age, $side) }"#;
    assert_eq!(traced(&program, script), "36 -9\n50 2\n");
}

#[test]
fn members_of_a_rust_structure_by_name() {
    let scratch = Scratch::new("rust-members");
    let program = rust(&scratch, "0");
    let script = r#"probe process.function("Person::greet") {
        printf("%d %d %s\n", $self->name->vec->len, $words->length, user_string_n($who->data_ptr, $who->length))
        next
      }"#;
    assert_eq!(traced(&program, script), "3 2 you\n3 2 you\n0 2 you\n");
}

const GO: &str = r#"
package main
type node struct { name string; next *node; tags []string; weight float64 }
var sink int
//go:noinline
func visit(title string, numbers []int, n *node, flag bool, small int8) int {
	sink += len(title) + len(numbers) + len(n.name)
	if flag { sink += int(small) }
	return sink
}
func main() {
	last := &node{name: "last", tags: []string{"x"}}
	first := &node{name: "first", next: last, tags: []string{"a", "b", "c", "d", "e"}, weight: 1.5}
	visit("title", []int{7, -8}, first, true, -3)
	visit("", nil, last, false, 5)
}
"#;

#[test]
fn go_parameters() {
    need("/usr/bin/go");
    let scratch = Scratch::new("go-values");
    let source = scratch.write("visit.go", GO);
    let program = scratch.path("visit");
    let mut command = Command::new("go");
    command
        .args(["build", "-o"])
        .arg(&program)
        .arg(&source)
        .env("GOCACHE", scratch.path("cache"))
        .env("GOFLAGS", "-mod=mod");
    run(command).ok();
    let script = r#"probe process.function("main.visit") {
        printf("%s %s %d %d\n", $title$, $numbers$, $flag, $small)
        printf("%s %s %x\n", $n->name$, $n->tags$, $n->weight)
        printf("%d %d\n", $title->len, $numbers->len)
      }"#;
    assert_eq!(
        traced(&program, script),
        "\"title\" [7, -8] 1 -3\n\"first\" [\"a\", \"b\", \"c\", \"d\", ...] 3ff8000000000000\n5 2\n\
         \"\" [] 0 5\n\"last\" [\"x\"] 0\n0 0\n"
    );
}

const FORTRAN: &str = r#"module shapes
  implicit none
  type point
    real(8) :: x
    integer :: tag
  end type
  integer, save :: ncalls = 0
contains
  recursive function fact(n) result(r)
    integer, intent(in) :: n
    integer :: r
    ncalls = ncalls + 1
    if (n <= 1) then
      r = 1
    else
      r = n * fact(n - 1)
    end if
  end function
  subroutine scale(p, by)
    type(point), intent(inout) :: p
    integer, intent(in) :: by
    p%tag = p%tag * by + fact(by)
  end subroutine
end module
program main
  use shapes
  type(point) :: p
  p = point(1.5d0, 7)
  call scale(p, 3)
  if (p%tag /= 27) stop 1
end program
"#;

#[test]
fn fortran_arguments_and_variables_of_modules() {
    need("/usr/bin/gfortran");
    let scratch = Scratch::new("fortran-values");
    let source = scratch.write("shapes.f90", FORTRAN);
    let program = scratch.path("shapes");
    for level in ["-O0", "-O2"] {
        let mut command = Command::new("gfortran");
        command.args(["-g", level, "-J"]).arg(scratch.path(""));
        run({
            command.arg("-o").arg(&program).arg(&source);
            command
        })
        .ok();
        let listed = stap(&[
            "-L",
            &format!("process(\"{}\").function(\"fact\").call", program.display()),
        ]);
        let listed = listed.ok().stdout;
        assert!(listed.contains(":9\").call $n:integer(kind=4)"), "{listed}");
        assert!(listed.contains(" $ncalls:integer(kind=4)"), "{listed}");
        if level == "-O0" {
            let script = r#"probe process.function("fact") { printf("%d %d\n", $n, $ncalls) }
              probe process.function("scale") { printf("%d %x %d\n", $p->tag, $p->x, $by) }"#;
            let expected = "7 3ff8000000000000 3\n3 0\n2 1\n1 2\n";
            assert_eq!(traced(&program, script), expected);
        }
    }
}
