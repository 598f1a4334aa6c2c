//! What a function's callers tell of the values that it was entered with: call sites and their parameters (DWARF 5, 3.4;
//! in DWARF 4 as GNU extensions).

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gimli::{AttributeValue, Expression};

use super::expression::{Context, ENTRY_VALUE_ONLY, number};
use super::frame::caller_frame;
use super::function_entry::{entry_of, linkage_name};
use super::function_index::FunctionIndex;
use super::scopes::{self, members};
use super::sections::{DwarfFile, Slice};
use super::term::{CallerCase, Elsewhere, Operator, Term};
use super::unit_scan;
use super::units::{EntryId, Place, REFERENCE_LIMIT, Unit, UnitTable, Units};
use crate::address::ImageAddr;
use crate::binary::Binary;
use crate::operations::Operations;

/// How many callers of callers are asked for values that callers were entered with themselves.
const CALLER_LIMIT: usize = 3;
/// How many calls are looked at for one value, those of callers' callers among them.
const CALL_LIMIT: usize = 10_000;
/// Other modules with more of `.debug_info` than this are not asked: to find their calls all of it is decoded.
const NEIGHBOUR_LIMIT: usize = 64 << 20;

/// A call that debugging information describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CallSite {
    id: EntryId,
    returns_to: u64,
    /// The function, unless it is called by pointer.
    callee: Option<EntryId>,
    is_jump: bool,
}

/// All calls of a file.
pub(crate) struct CallSites {
    by_callee: HashMap<EntryId, Vec<CallSite>>,
    by_pointer: Vec<CallSite>,
    /// The callees that other units may define, by name; made when it is needed.
    external: OnceLock<HashMap<String, Vec<EntryId>>>,
    /// What was found out.
    told: Mutex<HashMap<Question, Arc<[Told]>>>,
}

/// What callers are asked: of which function, for what, how many callers have been asked on the way, and which other
/// modules may call.
type Question = (EntryId, Handed, usize, Vec<u64>);

/// What a call tells, by the registers of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    /// The module that calls, if it is another one.
    module: Option<Elsewhere>,
    returns_to: u64,
    value: Term,
    /// Of a call by pointer: whether it was a call of the function.
    condition: Option<Term>,
}

impl CallSites {
    /// The calls of all units; of damaged ones those before the damage.
    pub fn build(file: &DwarfFile<'_>, table: &UnitTable) -> CallSites {
        let mut found = CallSites {
            by_callee: HashMap::new(),
            by_pointer: Vec::new(),
            external: OnceLock::new(),
            told: Mutex::default(),
        };
        for site in unit_scan::scan(file, table, &scan_unit) {
            match site.callee {
                Some(callee) => found.by_callee.entry(callee).or_default().push(site),
                None => found.by_pointer.push(site),
            }
        }
        found
    }

    /// Callees by the names that other units call them by.
    fn external<'a>(&self, units: &Units<'a>) -> &HashMap<String, Vec<EntryId>> {
        self.external.get_or_init(|| {
            let mut found: HashMap<String, Vec<EntryId>> = HashMap::new();
            for callee in self.by_callee.keys() {
                let place = units.place(*callee).ok();
                if let Some(name) = place.and_then(|place| external_name(units, &place)) {
                    found.entry(name).or_default().push(*callee);
                }
            }
            found
        })
    }

    fn told(&self) -> std::sync::MutexGuard<'_, HashMap<Question, Arc<[Told]>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn scan_unit(unit: &Unit<'_>, starts: &[usize], found: &mut Vec<CallSite>) -> gimli::Result<()> {
    let mut entries = unit.entries_raw(None)?;
    while !entries.is_empty() {
        let offset = entries.next_offset();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        if !matches!(
            abbreviation.tag(),
            gimli::DW_TAG_call_site | gimli::DW_TAG_GNU_call_site
        ) {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let (mut returns_to, mut callee, mut is_jump) = (None, None, false);
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            match attribute.name() {
                gimli::DW_AT_call_return_pc | gimli::DW_AT_call_pc | gimli::DW_AT_low_pc => {
                    returns_to = unit.dwarf.attr_address(unit, attribute.value())?;
                }
                gimli::DW_AT_call_origin | gimli::DW_AT_abstract_origin => {
                    callee = unit_scan::referred(unit, starts, attribute.value());
                }
                gimli::DW_AT_call_tail_call | gimli::DW_AT_GNU_tail_call => is_jump = true,
                _ => {}
            }
        }
        found.extend(returns_to.map(|returns_to| CallSite {
            id: EntryId {
                home: unit.home,
                unit: unit.start,
                die: offset.0,
            },
            returns_to,
            callee,
            is_jump,
        }));
    }
    Ok(())
}

/// What was handed over with a call, as a location expression names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Handed {
    /// The content of a register.
    Register(u16),
    /// What stood in memory where a register pointed.
    Pointed(u16),
    /// A parameter that is in no place of the function's.
    Parameter(EntryId),
}

/// Callers of a function, for [`Context`].
#[derive(Clone)]
pub(crate) struct Callers<'f, 'a> {
    index: &'f FunctionIndex,
    function: Place<'a>,
    /// How many callers have been asked on the way here.
    depth: usize,
    /// How many more calls may be looked at.
    left: Rc<Cell<usize>>,
}

impl<'f, 'a> Callers<'f, 'a> {
    pub fn new(index: &'f FunctionIndex, function: Place<'a>) -> Callers<'f, 'a> {
        Callers {
            index,
            function,
            depth: 0,
            left: Rc::new(Cell::new(CALL_LIMIT)),
        }
    }

    /// What was handed over, told at an instruction of the function.
    pub fn handed(&self, units: &Units<'a>, pc: u64, what: Handed) -> Result<Term, String> {
        let unknown = || ENTRY_VALUE_ONLY.to_owned();
        if self.depth >= CALLER_LIMIT {
            return Err(unknown());
        }
        let frame = caller_frame(&units.file, pc).ok_or_else(unknown)?;
        let returns_to = frame.return_address().ok_or_else(unknown)?;
        let mut cases: Vec<CallerCase> = Vec::new();
        let mut known: HashMap<(Term, Option<Term>, Option<Elsewhere>), usize> = HashMap::new();
        for told in self.told(units, what).iter() {
            let Some(value) = frame.seen_from_callee(&told.value) else {
                continue;
            };
            let condition = match &told.condition {
                None => None,
                Some(condition) => match frame.seen_from_callee(condition) {
                    Some(condition) => Some(condition),
                    None => continue,
                },
            };
            let place = ImageAddr(told.returns_to);
            let case = *known
                .entry((value, condition, told.module))
                .or_insert_with_key(|(value, condition, module)| {
                    cases.push(CallerCase {
                        module: *module,
                        places: Vec::new(),
                        condition: condition.clone(),
                        value: value.clone(),
                    });
                    cases.len() - 1
                });
            if let Some(case) = cases.get_mut(case) {
                case.places.push(place);
            }
        }
        if cases.is_empty() {
            return Err(unknown());
        }
        Ok(Term::ByCaller {
            returns_to: Box::new(returns_to),
            cases,
            otherwise: None,
        })
    }

    /// What the calls of the function tell.
    fn told(&self, units: &Units<'a>, what: Handed) -> Arc<[Told]> {
        let calls = self.index.call_sites(units);
        let mut neighbours = self.index.neighbours.all();
        neighbours.retain(|other| !other.is_indexed_by(self.index));
        let others = neighbours.iter().map(|other| other.fingerprint()).collect();
        let question = (self.function.id(), what, self.depth, others);
        if let Some(known) = calls.told().get(&question) {
            return Arc::clone(known);
        }
        let mut found = Vec::new();
        if let Some(sites) = self.sites(units, calls) {
            for site in sites {
                let Some(Ahead { value, target }) = self.at(self.index, units, site, what) else {
                    continue;
                };
                let condition = match target.map(|target| self.is_called(units, target)) {
                    Some(None) => continue,
                    condition => condition.flatten(),
                };
                found.push(Told {
                    module: None,
                    returns_to: site.returns_to,
                    value,
                    condition,
                });
            }
            for other in &neighbours {
                self.told_by(other, units, false, what, &mut found);
            }
            // A function that nobody calls by name may be called back from anywhere; such calls are many.
            let is_named = found.iter().any(|told| told.condition.is_none());
            if !is_named && self.depth == 0 {
                for other in &neighbours {
                    self.told_by(other, units, true, what, &mut found);
                }
            }
        }
        let found: Arc<[Told]> = found.into();
        calls.told().insert(question, Arc::clone(&found));
        found
    }

    /// The calls that may be of this function; `None` when it jumps to its own entry, where what the last caller handed
    /// over counts no more.
    fn sites<'s>(&self, units: &Units<'a>, calls: &'s CallSites) -> Option<Vec<&'s CallSite>> {
        let mut own = vec![self.function.id()];
        let mut place = self.function.clone();
        for _ in 0..REFERENCE_LIMIT {
            let Some(origin) = units.origin(&place) else {
                break;
            };
            own.push(origin.id());
            place = origin;
        }
        if let Some(name) = external_name(units, &self.function) {
            own.extend(calls.external(units).get(&name).into_iter().flatten());
        }
        own.sort_unstable();
        own.dedup();
        let direct = own.iter().filter_map(|callee| calls.by_callee.get(callee));
        let direct: Vec<&CallSite> = direct.flatten().collect();
        let ranges = super::function_entry::ranges(&self.function).unwrap_or_default();
        let is_inside = |site: &CallSite| {
            let mut ranges = ranges.iter();
            ranges.any(|r| r.begin < site.returns_to && site.returns_to <= r.end)
        };
        if direct.iter().any(|site| site.is_jump && is_inside(site)) {
            return None;
        }
        let all = direct.into_iter().chain(&calls.by_pointer);
        Some(all.filter(|site| !site.is_jump).collect())
    }

    /// What the calls of another module tell: those by pointer if it names the function at all, or if `anyway`.
    fn told_by(
        &self,
        other: &Binary,
        units: &Units<'a>,
        anyway: bool,
        what: Handed,
        found: &mut Vec<Told>,
    ) {
        // Parameters are only named to callers in the same file.
        if matches!(what, Handed::Parameter(_)) {
            return;
        }
        let Some(info) = other.debug_info().filter(|info| {
            let bytes = info.units.file.debug.contents_by_name(".debug_info");
            bytes.is_some_and(|bytes| bytes.len() <= NEIGHBOUR_LIMIT)
        }) else {
            return;
        };
        let calls = info.index.call_sites(&info.units);
        let name = external_name(units, &self.function);
        let callees = name.and_then(|name| calls.external(&info.units).get(&name));
        let by_pointer = (anyway || callees.is_some()).then_some(&calls.by_pointer);
        let callees = callees.into_iter().flatten();
        let sites = callees.filter_map(|callee| calls.by_callee.get(callee));
        let sites = sites.flatten().chain(by_pointer.into_iter().flatten());
        let module = other.as_elsewhere();
        let seen_from_here = |term: &Term| {
            term.seen_elsewhere(module, &|leaf| match leaf {
                Term::Image(address) => Some(Term::Module {
                    module,
                    address: *address,
                }),
                Term::ThreadLocal(offset) => other.thread_local_address(*offset)?.seen_elsewhere(
                    module,
                    &|leaf| match leaf {
                        Term::Image(address) => Some(Term::Module {
                            module,
                            address: *address,
                        }),
                        leaf => Some(leaf.clone()),
                    },
                ),
                leaf => Some(leaf.clone()),
            })
        };
        for site in sites.filter(|site| !site.is_jump) {
            let told = self.at(info.index, &info.units, site, what);
            let told = told.and_then(|Ahead { value, target }| {
                let condition = match target {
                    Some(target) => Some(self.is_called(units, seen_from_here(&target)?)?),
                    None => None,
                };
                Some(Told {
                    module: Some(module),
                    returns_to: site.returns_to,
                    value: seen_from_here(&value)?,
                    condition,
                })
            });
            found.extend(told);
        }
    }

    /// What one call hands over, and what it calls unless that is known, told by the registers of the caller.
    fn at<'b>(
        &self,
        index: &FunctionIndex,
        units: &Units<'b>,
        site: &CallSite,
        what: Handed,
    ) -> Option<Ahead> {
        let place = units.place(site.id).ok()?;
        if site.callee.is_none() {
            target_of(&place)?;
        }
        let parameter = members(&place)
            .ok()?
            .into_iter()
            .find(|parameter| is_wanted(units, parameter, what))?;
        self.left.set(self.left.get().checked_sub(1)?);
        // The return address may be the next function's; the call is before it.
        let pc = site.returns_to.checked_sub(1)?;
        let caller = scopes::function_at(units, &place.unit, pc).ok()??;
        let mut context = scopes::context(units, Some(index), Some(&caller), pc);
        if let Some(callers) = &mut context.callers {
            callers.depth = self.depth + 1;
            callers.left = Rc::clone(&self.left);
        }
        let target = match site.callee {
            Some(_) => None,
            None => Some(target(&context, &place)?),
        };
        let value = value_of(&context, &parameter, what)?;
        Some(Ahead { value, target })
    }

    /// Whether a pointer is one to this function.
    fn is_called(&self, units: &Units<'a>, target: Term) -> Option<Term> {
        let entry = Term::Image(ImageAddr(entry_of(units, &self.function)?));
        Some(Term::binary(Operator::Equal, target, entry))
    }
}

/// What a call is about to do.
struct Ahead {
    /// The number that is asked for.
    value: Term,
    /// Of a call by pointer, where it leads.
    target: Option<Term>,
}

/// Where a call by pointer leads, as far as the pointer is still known.
fn target<'a>(context: &Context<'_, 'a>, site: &Place<'a>) -> Option<Term> {
    number(context, &site.unit, target_of(site)?).ok()
}

fn target_of<'a>(site: &Place<'a>) -> Option<Expression<Slice<'a>>> {
    expression(site, gimli::DW_AT_call_target)
        .or_else(|| expression(site, gimli::DW_AT_GNU_call_site_target))
}

/// Whether a parameter of a call is the one that is looked for.
fn is_wanted<'a>(units: &Units<'a>, parameter: &Place<'a>, what: Handed) -> bool {
    if !matches!(
        parameter.entry.tag(),
        gimli::DW_TAG_call_site_parameter | gimli::DW_TAG_GNU_call_site_parameter
    ) {
        return false;
    }
    match what {
        Handed::Register(wanted) | Handed::Pointed(wanted) => {
            let Some(location) = expression(parameter, gimli::DW_AT_location) else {
                return false;
            };
            let mut operations = Operations::new(location, parameter.unit.encoding());
            let first = operations.next().ok().flatten();
            matches!(first, Some(gimli::Operation::Register { register }) if register.0 == wanted)
        }
        Handed::Parameter(wanted) => units
            .referred(parameter, gimli::DW_AT_call_parameter)
            .or_else(|| units.referred(parameter, gimli::DW_AT_abstract_origin))
            .is_some_and(|p| p.id() == wanted),
    }
}

/// The value of a parameter of a call.
fn value_of<'a>(context: &Context<'_, 'a>, parameter: &Place<'a>, what: Handed) -> Option<Term> {
    let value = match what {
        Handed::Pointed(_) => expression(parameter, gimli::DW_AT_call_data_value)
            .or_else(|| expression(parameter, gimli::DW_AT_GNU_call_site_data_value)),
        _ => expression(parameter, gimli::DW_AT_call_value)
            .or_else(|| expression(parameter, gimli::DW_AT_GNU_call_site_value)),
    }?;
    number(context, &parameter.unit, value).ok()
}

fn expression<'a>(place: &Place<'a>, attribute: gimli::DwAt) -> Option<Expression<Slice<'a>>> {
    match place.entry.attr_value(attribute)? {
        AttributeValue::Exprloc(expression) => Some(expression),
        AttributeValue::Block(block) => Some(Expression(block)),
        _ => None,
    }
}

/// The name by which other units call a function.
fn external_name<'a>(units: &Units<'a>, function: &Place<'a>) -> Option<String> {
    let (_, external) = units.inherited(function, gimli::DW_AT_external)?;
    if !matches!(external, AttributeValue::Flag(true)) {
        return None;
    }
    linkage_name(units, function).or_else(|| units.inherited_string(function, gimli::DW_AT_name))
}
