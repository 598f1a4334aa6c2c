//! Numbers of the probed program: what a target expression that is more than a register or a place in memory needs.

pub use runtime::float::Operation as FloatOperation;

/// A 64-bit number as a function of the program's registers and memory at the probed instruction, of the address at
/// which the image is, and of the script's own index and operand expressions. Arithmetic wraps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// A number.
    Constant(i64),
    /// A register, numbered as x86 encodes them.
    Register(u8),
    /// Half of a vector register.
    Vector {
        /// Which: 0 for xmm0.
        number: u8,
        /// The upper half of its 128 bits.
        high: bool,
    },
    /// An address of the probed image: the probed instruction's plus this.
    Image(i64),
    /// An address of another module: its lowest one plus this. An error of the handler where it is not loaded.
    Module {
        /// The number that tells its file from others (`symbols::Binary::fingerprint`).
        fingerprint: u64,
        /// What is added.
        offset: i64,
    },
    /// The thread pointer (the word at `%fs:0`).
    Thread,
    /// The operand of `@cast(e, …)` or `e->…`.
    Operand,
    /// The index expression that is the `n`-th of [`script::ir::Target::steps`].
    Index(usize),
    /// What stands in memory.
    Load {
        /// Where.
        address: Box<Term>,
        /// Bytes: 1 to 8.
        size: u8,
        /// Sign-extended, else zero-extended.
        signed: bool,
    },
    /// The low bits of a number.
    Extend {
        /// The number.
        value: Box<Term>,
        /// How many bits: 1 to 63.
        bits: u8,
        /// Sign-extended, else zero-extended.
        signed: bool,
    },
    /// Two numbers.
    Binary(TermOperator, Box<Term>, Box<Term>),
    /// The number that the case gives whose places are where the function returns to.
    ByCaller {
        /// Where the function returns to.
        returns_to: Box<Term>,
        /// What is known.
        cases: Vec<CallerCase>,
        /// The number when there is no such case; without it that is an error of the handler.
        otherwise: Option<i64>,
    },
}

/// What a number is when certain calls return to where the function does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallerCase {
    /// The number that tells the file of the calls from others, unless it is the probed image.
    pub module: Option<u64>,
    /// Where the calls return to: addresses of the probed image, as [`Term::Image`] has them, or of the module, as
    /// [`Term::Module`] has them. No two cases share one.
    pub places: Vec<i64>,
    /// The case only holds when this is not 0.
    pub condition: Option<Term>,
    /// The number.
    pub value: Term,
}

impl Term {
    /// Whether the number depends on who called the function.
    pub fn is_by_caller(&self) -> bool {
        match self {
            Term::ByCaller { otherwise, .. } => otherwise.is_none(),
            Term::Load { address, .. } => address.is_by_caller(),
            Term::Extend { value, .. } => value.is_by_caller(),
            Term::Binary(_, a, b) => a.is_by_caller() || b.is_by_caller(),
            Term::Constant(_)
            | Term::Register(_)
            | Term::Vector { .. }
            | Term::Image(_)
            | Term::Module { .. }
            | Term::Thread
            | Term::Operand
            | Term::Index(_) => false,
        }
    }
}

/// What [`Term::Binary`] does. Comparisons are signed and give 1 or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TermOperator {
    Add,
    Subtract,
    Multiply,
    /// Signed; 0 when divided by 0.
    Divide,
    /// Unsigned; 0 when divided by 0.
    Remainder,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
    ShiftRightSigned,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    /// Of floating-point numbers, or from or to them.
    Float(FloatOperation),
}
