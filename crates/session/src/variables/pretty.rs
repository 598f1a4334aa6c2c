//! `$x$` and `$x$$`: values as text, in the form that stap gives them (stapprobes(3stap), "Pretty-printing").

use super::containers::{self, Container};
use super::place;
use super::value::{Lens, Value, address};
use codegen::{Select, Text, TextArg, Variable};
use script::format::{Conversion, ConversionKind, Extent, Flags, Part};
use std::collections::VecDeque;
use symbols::{MemberRole, Type, TypeKind, ValueClass};

/// stap shows no more than this many values in one text.
const VALUE_LIMIT: usize = 32;
/// Types within types deeper than this are taken for damage.
const NESTING_LIMIT: usize = 24;
/// Elements that are shown of a vector or slice of Rust or Go; of one within another, the first alone, as of an array.
const ELEMENT_LIMIT: u64 = 4;

/// A text under construction.
#[derive(Default)]
struct Draft {
    text: Text,
    pending: String,
    /// Values in the text around it.
    around: usize,
    /// How many vectors it is in.
    nesting: usize,
}

impl Draft {
    fn literal(&mut self, text: &str) {
        self.pending.push_str(text);
    }

    fn value(&mut self, kind: ConversionKind, alternate: bool, arg: TextArg) {
        if !self.pending.is_empty() {
            let literal = std::mem::take(&mut self.pending).into_bytes();
            self.text.format.parts.push(Part::Literal(literal));
        }
        self.text.format.parts.push(Part::Conversion(Conversion {
            flags: Flags {
                alternate,
                ..Flags::default()
            },
            width: Extent::None,
            precision: Extent::None,
            kind,
        }));
        self.text.args.push(arg);
    }

    fn finish(mut self, otherwise: Option<&'static str>) -> Text {
        if !self.pending.is_empty() || self.text.format.parts.is_empty() {
            let literal = std::mem::take(&mut self.pending).into_bytes();
            self.text.format.parts.push(Part::Literal(literal));
        }
        self.text.otherwise = otherwise;
        self.text
    }

    fn is_full(&self) -> bool {
        self.around + self.text.args.len() >= VALUE_LIMIT
    }

    /// A text within this one.
    fn inner(&self) -> Draft {
        Draft {
            around: self.around + self.text.args.len(),
            nesting: self.nesting,
            ..Draft::default()
        }
    }
}

/// A value as text; `full` for `$$`, which shows what is inside of members too.
pub(crate) fn text(lens: &Lens<'_, '_>, value: &Value, full: bool) -> Text {
    let mut draft = Draft::default();
    top(lens, value, full, &mut draft);
    draft.finish(Some("ERROR"))
}

/// A text that stands for a value that can't be shown.
fn unknown(draft: &mut Draft) {
    draft.literal("?");
}

/// The outermost value: a pointer shows what it points to.
fn top(lens: &Lens<'_, '_>, value: &Value, full: bool, draft: &mut Draft) {
    let mut value = value.clone();
    for _ in 0..NESTING_LIMIT {
        let Ok(Some(described)) = lens.describe(value.type_id) else {
            return unknown(draft);
        };
        let TypeKind::Pointer { target, reference } = described.kind else {
            break;
        };
        let pointed = lens.describe(target).ok().flatten();
        match &pointed {
            None => return pointer(lens, &value, "", draft),
            Some(t) if is_function(t) => return pointer(lens, &value, "<function>:", draft),
            Some(t) if is_character(t) => {
                return quoted(lens, &value, draft);
            }
            Some(_) => {}
        }
        match lens.target(&value, target) {
            Ok(inner) => value = inner,
            Err(_) => return unknown(draft),
        }
        if !reference {
            break;
        }
    }
    // One pointer is followed; a second one is shown as it is inside of a structure.
    let outermost = !matches!(
        lens.describe(value.type_id),
        Ok(Some(Type {
            kind: TypeKind::Pointer { .. },
            ..
        }))
    );
    one(lens, &value, full, outermost, NESTING_LIMIT, draft);
}

fn is_function(described: &Type) -> bool {
    matches!(described.kind, TypeKind::Function)
}

fn is_character(described: &Type) -> bool {
    matches!(
        described.kind,
        TypeKind::Integer {
            character: true,
            class: ValueClass::Signed(1) | ValueClass::Unsigned(1),
        }
    )
}

fn pointer(lens: &Lens<'_, '_>, value: &Value, before: &str, draft: &mut Draft) {
    match lens.read(value) {
        Ok(variable) => {
            draft.literal(before);
            draft.value(ConversionKind::Pointer, false, TextArg::Long(variable));
        }
        Err(_) => unknown(draft),
    }
}

fn quoted(lens: &Lens<'_, '_>, value: &Value, draft: &mut Draft) {
    match lens.read(value) {
        Ok(variable) => draft.value(ConversionKind::String, false, TextArg::Quoted(variable)),
        Err(_) => unknown(draft),
    }
}

fn number(kind: ConversionKind, variable: Result<Variable, String>, draft: &mut Draft) {
    match variable {
        Ok(variable) => draft.value(kind, false, TextArg::Long(variable)),
        Err(_) => unknown(draft),
    }
}

fn one(
    lens: &Lens<'_, '_>,
    value: &Value,
    full: bool,
    outermost: bool,
    depth: usize,
    draft: &mut Draft,
) {
    let (Some(depth), Ok(Some(described))) = (depth.checked_sub(1), lens.describe(value.type_id))
    else {
        return unknown(draft);
    };
    match &described.kind {
        TypeKind::Integer { class, character } => {
            if *character && matches!(class, ValueClass::Signed(1) | ValueClass::Unsigned(1)) {
                let Ok(variable) = lens.read(value) else {
                    return unknown(draft);
                };
                draft.literal("'");
                draft.value(ConversionKind::Char, true, TextArg::Long(variable));
                return draft.literal("'");
            }
            let kind = match class {
                ValueClass::Signed(_) | ValueClass::Bool => ConversionKind::Signed,
                _ => ConversionKind::Unsigned,
            };
            number(kind, lens.read(value), draft);
        }
        TypeKind::Enumeration { class, .. } => {
            let kind = match class {
                ValueClass::Enum { signed: true, .. } => ConversionKind::Signed,
                _ => ConversionKind::Unsigned,
            };
            number(kind, lens.read(value), draft);
        }
        TypeKind::Pointer { target, .. } => match lens.describe(*target) {
            Ok(Some(pointed)) if is_character(&pointed) => quoted(lens, value, draft),
            _ => pointer(lens, value, "", draft),
        },
        TypeKind::Array { element, .. } => {
            let characters = lens
                .describe(*element)
                .is_ok_and(|e| e.is_some_and(|e| is_character(&e)));
            if !outermost && !full {
                return draft.literal("[...]");
            }
            if characters {
                return match address(value) {
                    Ok(variable) => {
                        draft.value(ConversionKind::String, false, TextArg::Quoted(variable));
                    }
                    Err(_) => unknown(draft),
                };
            }
            draft.literal("[");
            if !draft.is_full() {
                let first = Value {
                    type_id: *element,
                    indexed: 0,
                    ..value.clone()
                };
                one(lens, &first, full, false, depth, draft);
            }
            draft.literal(", ...]");
        }
        TypeKind::Record { .. } => record(lens, value, &described, full, outermost, depth, draft),
        TypeKind::Function => draft.literal("<function>"),
        TypeKind::OtherNumber | TypeKind::Void | TypeKind::Other(_) => unknown(draft),
    }
}

/// Members first, then those of base classes, which count as the record's own.
fn record(
    lens: &Lens<'_, '_>,
    value: &Value,
    described: &Type,
    full: bool,
    outermost: bool,
    depth: usize,
    draft: &mut Draft,
) {
    if let Some(container) = containers::of(lens, value, described) {
        return contained(lens, container, full, outermost, depth, draft);
    }
    let incomplete = matches!(
        described.kind,
        TypeKind::Record {
            complete: false,
            ..
        }
    );
    if (!outermost && !full) || incomplete {
        return draft.literal("{...}");
    }
    if let Some(variants) = containers::variants(lens, value, described) {
        return variant(lens, value, described, &variants, full, depth, draft);
    }
    draft.literal("{");
    let mut shown = 0;
    let mut rounds = 0;
    let mut waiting: VecDeque<(Result<Value, String>, Type)> =
        VecDeque::from([(Ok(value.clone()), described.clone())]);
    'all: while let Some((value, described)) = waiting.pop_front() {
        rounds += 1;
        let TypeKind::Record { members, .. } = &described.kind else {
            continue;
        };
        for member in members {
            if matches!(member.role, MemberRole::Static | MemberRole::Artificial)
                || member
                    .name
                    .as_deref()
                    .is_some_and(|n| n.starts_with("_vptr"))
            {
                continue;
            }
            let part = match &value {
                Ok(value) => lens.part(value, member),
                Err(why) => Err(why.clone()),
            };
            if member.role == MemberRole::Base {
                if rounds < NESTING_LIMIT
                    && let Ok(Some(base)) = lens.describe(member.type_id)
                {
                    waiting.push_back((part, base));
                }
                continue;
            }
            if shown > 0 {
                draft.literal(", ");
            }
            if draft.is_full() {
                draft.literal("...");
                break 'all;
            }
            shown += 1;
            match (&member.name, lens.describe(member.type_id)) {
                (Some(name), _) => draft.literal(&format!(".{name}=")),
                (
                    None,
                    Ok(Some(Type {
                        kind:
                            TypeKind::Record {
                                keyword: symbols::Keyword::Union,
                                ..
                            },
                        ..
                    })),
                ) => draft.literal("<union>="),
                // As stap has it, whatever the keyword.
                (None, _) => draft.literal("<class>="),
            }
            match part {
                Ok(part) => one(lens, &part, full, false, depth, draft),
                Err(_) => unknown(draft),
            }
        }
    }
    draft.literal("}");
}

/// Text and elements, as far as there are any.
fn contained(
    lens: &Lens<'_, '_>,
    container: Container,
    full: bool,
    outermost: bool,
    depth: usize,
    draft: &mut Draft,
) {
    let (first, element, size, length) = match container {
        Container::Text(start, length) => {
            return draft.value(ConversionKind::String, false, TextArg::Bytes(start, length));
        }
        Container::Sequence {
            first,
            element,
            size,
            length,
        } => (first, element, size, length),
    };
    if !outermost && !full {
        return draft.literal("[...]");
    }
    let most = match draft.nesting {
        0 => ELEMENT_LIMIT,
        _ => 1,
    };
    let shown = |count: u64, more: bool| {
        let mut inner = draft.inner();
        inner.nesting += 1;
        inner.literal("[");
        for number in 0..count {
            if number > 0 {
                inner.literal(", ");
            }
            if inner.is_full() {
                inner.literal("...");
                break;
            }
            let from = number.saturating_mul(size).saturating_mul(8);
            match place::part(&first.place, from, size.saturating_mul(8)) {
                Ok(place) => {
                    let value = Value::new(place, Some(element));
                    one(lens, &value, full, false, depth, &mut inner);
                }
                Err(_) => unknown(&mut inner),
            }
        }
        inner.literal(if more { ", ...]" } else { "]" });
        inner.finish(None)
    };
    let case = |count: u64| {
        let number = count.cast_signed();
        ((number, number), shown(count, false))
    };
    let select = Select {
        on: length,
        cases: (0..=most).map(case).collect(),
        other: shown(most, true),
    };
    draft.value(
        ConversionKind::String,
        false,
        TextArg::Select(Box::new(select)),
    );
}

/// The variant that there is: `{.Some={…}}`.
fn variant(
    lens: &Lens<'_, '_>,
    value: &Value,
    described: &Type,
    variants: &containers::Variants,
    full: bool,
    depth: usize,
    draft: &mut Draft,
) {
    let TypeKind::Record { members, .. } = &described.kind else {
        return unknown(draft);
    };
    let shown = |number: Option<usize>| {
        let mut inner = draft.inner();
        match number.and_then(|n| members.get(n)) {
            None => unknown(&mut inner),
            Some(member) => {
                let name = member.name.as_deref().unwrap_or_default();
                inner.literal(&format!("{{.{name}="));
                match lens.part(value, member) {
                    Ok(part) => one(lens, &part, full, false, depth, &mut inner),
                    Err(_) => unknown(&mut inner),
                }
                inner.literal("}");
            }
        }
        inner.finish(None)
    };
    let Some(on) = variants.discriminant.clone() else {
        let only = variants.other.or(variants.cases.first().map(|c| c.1));
        return draft.value(ConversionKind::String, false, TextArg::Text(shown(only)));
    };
    let mut cases = Vec::new();
    for (ranges, number) in &variants.cases {
        let text = shown(Some(*number));
        cases.extend(ranges.iter().map(|range| (*range, text.clone())));
    }
    let select = Select {
        on,
        cases,
        other: shown(variants.other),
    };
    draft.value(
        ConversionKind::String,
        false,
        TextArg::Select(Box::new(select)),
    );
}

/// `a=… b=…`: what `$$vars` and its like are made of. `None` stands for a value that can't be read.
pub(crate) fn listing(entries: Vec<(String, Entry)>) -> Text {
    let mut draft = Draft::default();
    for (i, (name, entry)) in entries.into_iter().enumerate() {
        if i > 0 {
            draft.literal(" ");
        }
        draft.literal(&name);
        draft.literal("=");
        match entry {
            Entry::Unknown => unknown(&mut draft),
            Entry::Opaque(text) => draft.literal(text),
            Entry::Number(variable) => {
                draft.value(ConversionKind::Hex, true, TextArg::Long(variable));
            }
            Entry::Text(text) => {
                draft.value(ConversionKind::String, false, TextArg::Text(text));
            }
        }
    }
    draft.finish(None)
}

/// A number in a listing of which it only turns out when it is read whether it is known.
pub(crate) fn number_or_unknown(variable: Variable) -> Text {
    let mut draft = Draft::default();
    draft.value(ConversionKind::Hex, true, TextArg::Long(variable));
    draft.finish(Some("?"))
}

/// A value in a listing.
pub(crate) enum Entry {
    /// It can't be read here.
    Unknown,
    /// Fixed text: `{...}`.
    Opaque(&'static str),
    /// A number, in hexadecimal.
    Number(Variable),
    /// A pretty-printed value.
    Text(Text),
}
