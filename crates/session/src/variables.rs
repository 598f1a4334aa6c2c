//! What `$name`, `$argN`, `$$vars` and their kin mean at one site: the meeting of the script's target expressions and
//! of what debug information and marks say.

mod containers;
mod enumerators;
mod homes;
mod modules;
mod place;
mod pretty;
mod returned;
mod scope;
mod system_calls;
mod value;

pub use homes::Homes;

use crate::resolve::Around;
use codegen::{Location, Resolution, Resolver, Term, Text, TextArg, Unresolved, Variable};
use place::Spelling;
use scope::{Code, TypeKey};
use script::format::{Conversion, ConversionKind, Extent, Flags, Part};
use script::ir::{Target, TargetBase, TargetStep};
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use symbols::arch::x86_64::from_dwarf;
use symbols::{
    Binary, CallerCase, CallerFrame, DebugInfo, DwarfFunction, ImageAddr, SdtArgument, SdtMark,
    SdtOperand, SegmentRegister,
};

/// The source of a site's variables.
#[derive(Clone, Debug)]
pub enum SiteVariables {
    /// An SDT mark's arguments.
    Mark {
        /// Its file.
        binary: Arc<Binary>,
        /// The mark.
        mark: SdtMark,
    },
    /// A function with debug information.
    Function {
        /// Its file.
        binary: Arc<Binary>,
        /// The function.
        function: DwarfFunction,
        /// Whether variables of blocks in it are seen at their places, too: they are at statements, not at functions.
        blocks: bool,
    },
    /// A function's return.
    Return {
        /// Its file.
        binary: Arc<Binary>,
        /// What its entry has.
        entry: Arc<SiteVariables>,
        /// The instruction of the entry at which that is so.
        address: ImageAddr,
    },
    /// System calls, and threads that begin or end.
    SystemCall {
        /// The file of the code that makes them.
        binary: Arc<Binary>,
        /// Which, and when.
        around: Around,
    },
    /// An entry of the procedure linkage table.
    Plt {
        /// Its file.
        binary: Arc<Binary>,
    },
    /// A function known by its symbol alone.
    Symbol {
        /// Its file.
        binary: Arc<Binary>,
    },
}

impl SiteVariables {
    /// The file.
    pub fn binary(&self) -> &Arc<Binary> {
        match self {
            SiteVariables::Mark { binary, .. }
            | SiteVariables::Function { binary, .. }
            | SiteVariables::Return { binary, .. }
            | SiteVariables::SystemCall { binary, .. }
            | SiteVariables::Plt { binary }
            | SiteVariables::Symbol { binary, .. } => binary,
        }
    }

    /// Whether they are those of a function that was inlined into another one.
    pub fn is_of_copy(&self) -> bool {
        self.place().is_some_and(|(function, _)| function.inlined)
    }

    /// Whether they are those of a copy that optimisation of the whole program put into another unit.
    pub fn is_from_other_unit(&self) -> bool {
        self.place()
            .is_some_and(|(function, _)| function.from_other_unit)
    }

    /// The function or inlined copy whose variables are meant, and whether those of its blocks are.
    fn place(&self) -> Option<(&DwarfFunction, bool)> {
        match self {
            SiteVariables::Function {
                function, blocks, ..
            } => Some((function, *blocks)),
            SiteVariables::Return { entry, .. } => entry.place(),
            SiteVariables::Mark { .. }
            | SiteVariables::SystemCall { .. }
            | SiteVariables::Plt { .. }
            | SiteVariables::Symbol { .. } => None,
        }
    }
}

/// The stack pointer's number as an operand of instructions.
const RSP: u8 = 4;

/// The debugging information of one binary, opened when first needed and then shared by the sites in it.
pub type SharedInfo<'a> = Rc<OnceCell<Option<DebugInfo<'a>>>>;

/// What handlers that run in no program's code can say: types and enumerators of modules that they name, and types of
/// what other handlers left in globals.
#[derive(Clone, Debug, Default)]
pub struct ModuleResolver {
    homes: Homes,
}

impl ModuleResolver {
    /// By the places of other probes.
    pub fn new(homes: &Homes) -> ModuleResolver {
        ModuleResolver {
            homes: homes.clone(),
        }
    }
}

impl Resolver for ModuleResolver {
    fn resolve(&self, target: &Target) -> Result<Resolution, Unresolved> {
        let known = self.homes.without_missing(target);
        let target = known.as_ref().unwrap_or(target);
        self.homes
            .agree(target, None, |_| Err(NO_VARIABLES.into()))?;
        match scope::named_module(target) {
            Some(module) => scope::in_modules(target, module, None),
            None => match homes::home(target) {
                Some(home) => self.homes.resolve(home, target),
                None => Err(NO_VARIABLES.into()),
            },
        }
    }
}

/// What stap says of variables at `process….begin` and its like.
const NO_VARIABLES: &str = "only \"process(PATH_OR_PID).syscall\" and \"process(PATH_OR_PID).syscall.return\" probes support target symbols";

/// The variables at one address.
#[derive(Debug)]
pub struct SiteResolver<'a> {
    /// Where they come from.
    variables: &'a SiteVariables,
    /// The probed instruction's address in its file.
    address: ImageAddr,
    info: SharedInfo<'a>,
    /// Where calls return to that are meant, then those of the caller, and so on.
    callers: &'a [Vec<ImageAddr>],
    homes: Homes,
    /// It is asked on behalf of a handler in other code.
    is_elsewhere: bool,
}

impl<'a> SiteResolver<'a> {
    /// The variables of a site, by debugging information that other sites of the binary use, too.
    pub fn new(
        variables: &'a SiteVariables,
        address: ImageAddr,
        info: SharedInfo<'a>,
    ) -> SiteResolver<'a> {
        SiteResolver {
            variables,
            address,
            info,
            callers: &[],
            homes: Homes::default(),
            is_elsewhere: false,
        }
    }

    /// The same with types that come from the places of other probes.
    pub fn with_homes(self, homes: &Homes) -> Self {
        SiteResolver {
            homes: homes.clone(),
            ..self
        }
    }

    /// The same for calls only that return to one of these places, and whose callers were called so that they return to
    /// one of the next, unless there are none.
    pub fn called_from(self, callers: &'a [Vec<ImageAddr>]) -> Self {
        SiteResolver { callers, ..self }
    }

    /// Where the return address stands: a register and what to add to it.
    fn slot(&self, binary: &Binary, address: ImageAddr) -> Option<(u8, i64)> {
        let rows = binary.call_frames()?.rows(address);
        let row = rows
            .iter()
            .find(|row| (row.start..row.end).contains(&address))?;
        let (register, offset) = row.frame_address.filter(|_| row.returns_ordinarily)?;
        Some((from_dwarf(register)?, offset - 8))
    }

    fn info(&self) -> Option<&DebugInfo<'a>> {
        self.info
            .get_or_init(|| self.variables.binary().debug_info())
            .as_ref()
    }

    fn code(&self) -> Result<Code<'_, 'a>, String> {
        let info = self.info().ok_or("no debug information")?;
        let code = Code::new(info, self.variables, self.address)?;
        Ok(match self.is_elsewhere {
            true => code.elsewhere(),
            false => code,
        })
    }

    /// The type of an expression that stands in this place's handlers.
    fn type_of(&self, source: &Target) -> Result<TypeKey, String> {
        if let Some(module) = scope::named_module(source) {
            return scope::type_in_modules(source, module, Some(self.variables.binary()));
        }
        match self.variables {
            SiteVariables::Return { entry, .. } => {
                let code = self.code()?.returning();
                code.type_of(source).or_else(|_| {
                    SiteResolver::new(entry, self.address, Rc::clone(&self.info)).type_of(source)
                })
            }
            _ => self.code()?.type_of(source),
        }
    }

    /// What expressions mean when a function returns.
    fn at_return(&self, target: &Target) -> Result<Resolution, Unresolved> {
        if let TargetBase::Variable(name) = &target.base
            && self.variables.place().is_none()
        {
            // Without debug information the value is a long.
            let value = Variable::plain(
                Location::Register {
                    number: 0,
                    shift: 0,
                },
                8,
                true,
            );
            return match (target.address_of, target.steps.is_empty()) {
                (true, _) => Err(format!("cannot take the address of '{name}'").into()),
                (_, false) => Err(format!("the type of '{name}' is not known").into()),
                _ if name == "$$return" => Ok(Resolution::Text(listing(std::iter::once((
                    "return".to_owned(),
                    Some(value),
                ))))),
                _ => Ok(Resolution::Variable(value)),
            };
        }
        self.code()?.returning().resolve(target)
    }
}

impl Resolver for SiteResolver<'_> {
    fn resolve(&self, target: &Target) -> Result<Resolution, Unresolved> {
        addressable(target)?;
        let known = match self.is_elsewhere {
            true => None,
            false => self.homes.without_missing(target),
        };
        let target = known.as_ref().unwrap_or(target);
        self.homes
            .agree(target, Some(self), |source| self.type_of(source))?;
        if !self.is_elsewhere
            && let Some(home) = homes::home(target)
        {
            return self.homes.resolve(home, target);
        }
        let at_return = matches!(self.variables, SiteVariables::Return { .. });
        let TargetBase::Variable(name) = &target.base else {
            return if at_return {
                self.at_return(target)
            } else {
                self.code()?.resolve(target)
            };
        };
        match self.variables {
            SiteVariables::Mark { mark, .. } if target.steps.is_empty() => {
                Ok(self.mark(mark, name, target.address_of)?)
            }
            SiteVariables::Mark { .. } => Err(format!(
                "'{name}' has no known type: use @cast({name}, \"type\", \"module\")"
            )
            .into()),
            SiteVariables::Return { entry, .. } => match name.as_str() {
                "$return" | "$$return" => self.at_return(target),
                _ => SiteResolver::new(entry, self.address, Rc::clone(&self.info)).resolve(target),
            },
            SiteVariables::Symbol { .. } => match name.as_str() {
                // stap expands these to nothing where no variable is known.
                "$$vars" | "$$parms" | "$$locals" => Ok(Resolution::Text(Text::default())),
                _ => Err(format!(
                    "{NO_SCOPE} '{}', cannot resolve context variable [man error::dwarf]",
                    self.variables.binary().path().display()
                )
                .into()),
            },
            SiteVariables::SystemCall { around, .. } => {
                Ok(system_calls::resolve(*around, name, target)?)
            }
            SiteVariables::Plt { .. } => match name.as_str() {
                "$$name" => Ok(Resolution::MarkName),
                _ => Err(
                    format!("unable to find plt variable '{name}' (alternatives: $$name)").into(),
                ),
            },
            SiteVariables::Function { .. } => self.code()?.resolve(target),
        }
    }

    fn return_slot(&self) -> Option<(u8, i64)> {
        if let SiteVariables::SystemCall { .. } = self.variables {
            return Some(system_calls::SLOT);
        }
        let SiteVariables::Return {
            binary,
            entry,
            address,
        } = self.variables
        else {
            return None;
        };
        if let SiteVariables::Plt { .. } = **entry {
            // Calls lead there, and nothing is on the stack yet.
            return Some((RSP, 0));
        }
        self.slot(binary, *address)
    }

    fn guard(&self) -> Result<Option<Term>, String> {
        if self.callers.is_empty() {
            return Ok(None);
        }
        let binary = self.variables.binary();
        let frame = binary.caller_frame(self.address);
        let returns = frame.and_then(|frame| returns_into(binary, &frame, self.callers));
        let returns = returns.ok_or(
            "who calls is not known: the unwind table does not say where the return address stands",
        )?;
        let spelling = Spelling {
            pc: self.address,
            binary,
            at_return: false,
            elsewhere: false,
        };
        spelling.term(&returns).map(Some)
    }
}

/// Whether a function returns into the places of the first level, its caller into those of the second, and so on: 1 or 0,
/// told by the registers at the place whose frame it is.
fn returns_into(
    binary: &Binary,
    frame: &CallerFrame,
    levels: &[Vec<ImageAddr>],
) -> Option<symbols::Term> {
    let (places, outer) = levels.split_first()?;
    let mut cases: Vec<CallerCase> = Vec::new();
    for place in places {
        let value = if outer.is_empty() {
            symbols::Term::Constant(1)
        } else {
            // The rules at the call, which is before the place that it returns to.
            let caller = binary.caller_frame(ImageAddr(place.0.checked_sub(1)?))?;
            frame.seen_from_callee(&returns_into(binary, &caller, outer)?)?
        };
        match cases.iter_mut().find(|case| case.value == value) {
            Some(case) => case.places.push(*place),
            None => cases.push(CallerCase {
                module: None,
                places: vec![*place],
                condition: None,
                value,
            }),
        }
    }
    Some(symbols::Term::ByCaller {
        returns_to: Box::new(frame.return_address()?),
        cases,
        otherwise: Some(0),
    })
}

/// Texts have no address.
fn addressable(target: &Target) -> Result<(), String> {
    let is_text = target
        .steps
        .iter()
        .any(|s| matches!(s, TargetStep::Pretty(_)));
    match &target.base {
        _ if !target.address_of => Ok(()),
        _ if is_text => Err("cannot take address of pretty-printed variable".into()),
        TargetBase::Variable(name) if name.starts_with("$$") => {
            Err("cannot take address of context variable".into())
        }
        _ => Ok(()),
    }
}

/// How the message begins that a function without debug information has no variables.
pub const NO_SCOPE: &str = "debuginfo scope not found for module";

fn plain(name: &str) -> &str {
    name.strip_prefix('$').unwrap_or(name)
}

impl SiteResolver<'_> {
    fn mark(&self, mark: &SdtMark, name: &str, address_of: bool) -> Result<Resolution, String> {
        match name {
            "$$name" => return Ok(Resolution::MarkName),
            "$$provider" => return Ok(Resolution::MarkProvider),
            "$$vars" | "$$parms" => {
                let args = mark.arguments.iter().enumerate();
                let known = args.map(|(i, a)| (format!("$arg{}", i + 1), self.argument(a).ok()));
                return Ok(Resolution::Text(listing(known)));
            }
            "$$locals" => return Ok(Resolution::Text(Text::default())),
            _ => {}
        }
        let number = name
            .strip_prefix("$arg")
            .and_then(|n| n.parse::<usize>().ok());
        let Some(number) = number else {
            let known: Vec<String> = (1..=mark.arguments.len())
                .map(|i| format!("$arg{i}"))
                .collect();
            let alternatives = if known.is_empty() {
                String::new()
            } else {
                format!(" {}", known.join(" "))
            };
            return Err(format!(
                "unable to find local '{}' (alternatives:{alternatives} $$name $$parms $$vars)",
                plain(name)
            ));
        };
        let Some(argument) = number.checked_sub(1).and_then(|i| mark.arguments.get(i)) else {
            return Err(format!(
                "invalid argument number {number}: mark \"{}\" has {}",
                mark.name,
                mark.arguments.len()
            ));
        };
        if address_of {
            return Err(format!("cannot take the address of mark argument '{name}'"));
        }
        self.argument(argument)
            .map(Resolution::Variable)
            .map_err(|why| format!("'{name}' of mark \"{}\": {why}", mark.name))
    }

    fn argument(&self, argument: &SdtArgument) -> Result<Variable, String> {
        let location = match &argument.operand {
            SdtOperand::Register(register) => Location::Register {
                number: register.number,
                shift: if register.high_byte { 8 } else { 0 },
            },
            SdtOperand::Immediate(value) => Location::Constant(*value),
            SdtOperand::Memory {
                base,
                index,
                scale,
                displacement,
                segment,
            } => {
                if matches!(segment, Some(SegmentRegister::Gs)) {
                    return Err("operands in %gs are not supported".into());
                }
                Location::Memory {
                    base: base.map(|r| r.number),
                    index: index.map(|r| (r.number, *scale)),
                    displacement: *displacement,
                    thread: segment.is_some(),
                }
            }
            SdtOperand::Absolute(address) => Location::Image {
                offset: self.offset_to(*address),
            },
            SdtOperand::Invalid(error) => return Err(error.to_string()),
        };
        Ok(Variable::plain(location, argument.size, argument.signed))
    }

    fn offset_to(&self, address: ImageAddr) -> i64 {
        address.0.wrapping_sub(self.address.0) as i64
    }
}

/// Whether a variable that stands there is listed: it can be read there, or it could at the function's entry.
pub(crate) fn is_listed(binary: &Binary, address: ImageAddr, location: &symbols::Location) -> bool {
    let spelling = Spelling {
        pc: address,
        binary,
        at_return: false,
        elsewhere: false,
    };
    spelling.place(location).is_ok() || location.is_described()
}

/// `a=0x1 b=?`: as stap prints `$$vars`; what can't be read here gets a question mark.
fn listing(variables: impl Iterator<Item = (String, Option<Variable>)>) -> Text {
    let mut text = Text::default();
    let mut pending = String::new();
    for (i, (name, variable)) in variables.enumerate() {
        if i > 0 {
            pending.push(' ');
        }
        pending.push_str(&name);
        pending.push('=');
        match variable {
            None => pending.push('?'),
            Some(variable) => {
                text.format
                    .parts
                    .push(Part::Literal(std::mem::take(&mut pending).into_bytes()));
                text.format.parts.push(Part::Conversion(Conversion {
                    flags: Flags {
                        alternate: true,
                        ..Flags::default()
                    },
                    width: Extent::None,
                    precision: Extent::None,
                    kind: ConversionKind::Hex,
                }));
                text.args.push(TextArg::Long(variable));
            }
        }
    }
    if !pending.is_empty() {
        text.format.parts.push(Part::Literal(pending.into_bytes()));
    }
    text
}

/// What `-L` shows behind a site: ` $a:int $b:char*`.
pub fn describe<'a>(
    variables: &'a SiteVariables,
    address: ImageAddr,
    info: SharedInfo<'a>,
) -> Vec<String> {
    if let SiteVariables::Mark { mark, .. } = variables {
        return (1..=mark.arguments.len())
            .map(|i| format!(" $arg{i}:long"))
            .collect();
    }
    if let SiteVariables::SystemCall { around, .. } = variables {
        return system_calls::describe(*around);
    }
    let resolver = SiteResolver::new(variables, address, info);
    let Ok(code) = resolver.code() else {
        return Vec::new();
    };
    match variables {
        SiteVariables::Return { .. } => {
            let mut found: Vec<String> = code.describe_return().into_iter().collect();
            found.extend(code.describe());
            found
        }
        _ => code.describe(),
    }
}
