//! Target variables: what a resolver (who knows debug information and marks) says about the `$name`s of a handler.

use crate::term::Term;
use script::format::Format;
use script::ir;

/// Where a target expression starts at one site. Registers are numbered as x86 encodes them (rax rcx rdx rbx rsp rbp
/// rsi rdi r8 … r15); their values are those at the probed instruction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// In a register, `shift` bits up (8 for `ah` and its like).
    Register {
        /// Which.
        number: u8,
        /// Bits to the right of the value.
        shift: u8,
    },
    /// In memory at base + index × scale + displacement.
    Memory {
        /// Register with the base.
        base: Option<u8>,
        /// Register and factor.
        index: Option<(u8, u8)>,
        /// What is added.
        displacement: i64,
        /// True when the address is relative to the thread pointer (`%fs:`).
        thread: bool,
    },
    /// In memory of the probed image: at the probed instruction's address plus this.
    Image {
        /// Target's address minus the probed instruction's.
        offset: i64,
    },
    /// In memory at a fixed address of the process.
    Absolute(u64),
    /// A number.
    Constant(i64),
    /// A number that is computed.
    Computed {
        /// The number.
        term: Term,
        /// It is the value's address, else the value itself.
        in_memory: bool,
    },
    /// The operand of `@cast(e, …)` or `e->…`: its value stands where a pointer variable's would.
    Operand,
}

impl Location {
    /// Whether it needs nothing but what the script itself says; of a place in memory, its address.
    pub(crate) fn is_of_script(&self, address_of: bool) -> bool {
        fn of_script(term: &Term) -> bool {
            match term {
                Term::Constant(_) | Term::Operand | Term::Index(_) => true,
                Term::Register(_)
                | Term::Vector { .. }
                | Term::Image(_)
                | Term::Module { .. }
                | Term::Thread
                | Term::Load { .. }
                | Term::ByCaller { .. } => false,
                Term::Extend { value, .. } => of_script(value),
                Term::Binary(_, a, b) => of_script(a) && of_script(b),
            }
        }
        match self {
            Location::Operand | Location::Constant(_) => true,
            Location::Computed { term, in_memory } => (address_of || !in_memory) && of_script(term),
            _ => false,
        }
    }
}

/// A step from a location towards the value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// The value here is a pointer: go where it points.
    Deref,
    /// Add to the address (a member).
    Offset(i64),
    /// Add a multiple of an index expression, the `step`-th of [`ir::Target::steps`].
    Index {
        /// Which step.
        step: usize,
        /// Bytes per element.
        scale: i64,
    },
}

/// What a target expression is at one site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variable {
    /// Where it starts.
    pub location: Location,
    /// How to go on from there; empty for a plain variable.
    pub path: Vec<Access>,
    /// Bytes of the value: 1, 2, 4 or 8.
    pub size: u8,
    /// Sign-extended to 64 bits, else zero-extended.
    pub signed: bool,
    /// Bit field: lowest bit and number of bits within the loaded value.
    pub bits: Option<(u8, u8)>,
    /// An array or structure: its value is its address (as stap gives it for arrays).
    pub aggregate: bool,
}

impl Variable {
    /// A plain variable.
    pub fn plain(location: Location, size: u8, signed: bool) -> Self {
        Variable {
            location,
            path: Vec::new(),
            size,
            signed,
            bits: None,
            aggregate: false,
        }
    }

    /// Whether it depends on the caller, who may not be known, and is then an error of the handler.
    pub fn may_be_unknown(&self) -> bool {
        matches!(&self.location, Location::Computed { term, .. } if term.is_by_caller())
    }
}

/// An argument of an expanded text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TextArg {
    /// A number.
    Long(Variable),
    /// A `char *`: the string that it points to in double quotes, as `user_string_quoted()` gives it.
    Quoted(Variable),
    /// As many bytes as a number says from an address on, in double quotes, as `user_buffer_quoted()` gives them.
    Bytes(Variable, Variable),
    /// A text within the text.
    Text(Text),
    /// One of several texts.
    Select(Box<Select>),
}

/// A text that depends on a number of the program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Select {
    /// The number.
    pub on: Variable,
    /// Ranges of it, ends included, and the text for each; the first that fits counts.
    pub cases: Vec<((i64, i64), Text)>,
    /// The text for all other numbers.
    pub other: Text,
}

/// What `$$vars`, `$$parms`, `$$locals`, `$$return`, `$x$` or `$$name` of a mark expand to: a format and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Text {
    /// The format, `a=%#x b=%#x`; conversions without `*`.
    pub format: Format,
    /// One per conversion.
    pub args: Vec<TextArg>,
    /// What the whole is when a part can't be read; without it that is an error of the handler.
    pub otherwise: Option<&'static str>,
}

/// What a target expression means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// A value (type long).
    Variable(Variable),
    /// A text (type string).
    Text(Text),
    /// The name of the operand's value (type string); the number itself when it has none.
    Choice(Vec<(i64, String)>),
    /// `$$name`: the mark's name, from [`crate::SiteText::mark`].
    MarkName,
    /// `$$provider`: from [`crate::SiteText::provider`].
    MarkProvider,
}

/// Why a target expression means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The text of stap's semantic error.
    pub message: String,
    /// The step of the expression that leads nowhere, if it is one of those.
    pub step: Option<usize>,
}

impl From<String> for Unresolved {
    fn from(message: String) -> Unresolved {
        Unresolved {
            message,
            step: None,
        }
    }
}

impl From<&str> for Unresolved {
    fn from(message: &str) -> Unresolved {
        Unresolved::from(message.to_owned())
    }
}

impl From<Unresolved> for String {
    fn from(unresolved: Unresolved) -> String {
        unresolved.message
    }
}

/// Says what the target expressions of a handler mean at the site for which it is compiled.
/// The same answers give the same handler, so sites share code.
pub trait Resolver {
    /// The meaning of `target`, or why it has none (the text of stap's semantic error). Called in the order of the
    /// handler; also for `@defined`, where an error only makes it false.
    fn resolve(&self, target: &ir::Target) -> Result<Resolution, Unresolved>;

    /// For a function's return: where its return address stands when the function is entered, at the place for which
    /// the other target expressions are resolved (`$return` and its kin are resolved at the exit): a register and what
    /// to add to it.
    fn return_slot(&self) -> Option<(u8, i64)> {
        None
    }

    /// A number of the program without which, when it is 0, the handler does not run at all.
    ///
    /// # Errors
    /// Why it can't be known.
    fn guard(&self) -> Result<Option<Term>, String> {
        Ok(None)
    }
}

/// Resolves nothing: for begin, end, error and timer probes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoVariables;

impl Resolver for NoVariables {
    fn resolve(&self, _: &ir::Target) -> Result<Resolution, Unresolved> {
        Err("no target variables in this context".into())
    }
}
