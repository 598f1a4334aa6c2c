//! What is in a binary, as records that can be printed or serialised: functions, lines, marks, variables, types.

use std::collections::HashMap;

use serde::Serialize;

use crate::address::ImageAddr;
use crate::binary::{Binary, SymbolsError};
use crate::dwarf::{DebugInfo, MemberOffset, MemberRole, Type, TypeKind, VariableKind};
use crate::glob::Glob;

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionRecord {
    /// As the symbol table or the debugging information has it.
    pub name: String,
    /// Demangled, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demangled: Option<String>,
    /// Where a call arrives.
    pub address: u64,
    /// Bytes of code.
    pub size: u64,
    /// The file that declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in that file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// Where the code of a line begins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LineRecord {
    /// The source file.
    pub file: String,
    /// The line; 0 for code that the compiler made on its own account.
    pub line: u64,
    /// The address.
    pub address: u64,
}

/// An SDT mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MarkRecord {
    /// Its provider.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub address: u64,
    /// Its semaphore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semaphore: Option<u64>,
    /// Its arguments as the note spells them.
    pub arguments: Vec<String>,
}

/// A variable at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VariableRecord {
    /// Its name.
    pub name: String,
    /// `parameter` or `local`.
    pub kind: &'static str,
    /// Its type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Where it stands, as [`crate::Location`] is displayed.
    pub location: String,
    /// Whether it can be read there.
    pub available: bool,
    /// Lines at which it can be read, when that is not everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<(u64, u64)>,
}

/// The variables that one address sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceRecord {
    /// The address.
    pub address: u64,
    /// The function, or the inlined one, whose code it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// What is visible, innermost first.
    pub variables: Vec<VariableRecord>,
}

/// A structure, union, class or enumeration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TypeRecord {
    /// `struct`, `class`, `union` or `enum`.
    pub keyword: &'static str,
    /// Its name.
    pub name: String,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The file that declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in that file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Base classes and members.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberRecord>,
    /// Names and values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enumerators: Vec<(String, i64)>,
}

/// A member or base class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberRecord {
    /// Its name; none for an anonymous one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Bytes from the start of the object; none for static members and virtual bases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Of a bit-field, the lowest bit from `offset`, and how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<(u64, u64)>,
    /// `member`, `base`, `static` or `artificial`.
    pub role: &'static str,
    /// Bytes between the end of what stands before it and itself.
    #[serde(skip_serializing_if = "is_zero")]
    pub hole: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Functions whose names match, by address; those of the debugging information with their places in the source.
///
/// # Errors
/// When the debugging information is damaged.
pub fn functions(binary: &Binary, pattern: &str) -> Result<Vec<FunctionRecord>, SymbolsError> {
    let described = binary.dwarf_functions_matching(pattern)?;
    let mut found: Vec<FunctionRecord> = binary
        .functions_matching(pattern)
        .into_iter()
        .map(|f| FunctionRecord {
            name: f.name.clone(),
            demangled: f.demangled().filter(|d| *d != f.name),
            address: f.address.0,
            size: f.size,
            file: None,
            line: None,
        })
        .collect();
    let mut known: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, record) in found.iter().enumerate() {
        known.entry(record.address).or_default().push(index);
    }
    for function in described.into_iter().filter(|f| !f.inlined) {
        let symbols = known.get(&function.entry.0);
        for index in symbols.into_iter().flatten() {
            if let Some(record) = found.get_mut(*index) {
                record.file.clone_from(&function.decl_file);
                record.line = function.decl_line;
            }
        }
        if symbols.is_none() {
            found.push(FunctionRecord {
                name: function.name,
                demangled: None,
                address: function.entry.0,
                size: function.high.0.saturating_sub(function.entry.0),
                file: function.decl_file,
                line: function.decl_line,
            });
        }
    }
    found.sort_by(|a, b| (a.address, &a.name).cmp(&(b.address, &b.name)));
    Ok(found)
}

/// Whether a path is what a pattern means: the path itself, or its last components.
fn is_file(pattern: &Glob, path: &str) -> bool {
    pattern.matches(path)
        || path
            .match_indices('/')
            .any(|(at, _)| path.get(at + 1..).is_some_and(|tail| pattern.matches(tail)))
}

/// The lines of source files whose paths, or last components of them, match a pattern; of a certain line alone.
pub fn lines(binary: &Binary, file: &str, line: Option<u64>) -> Vec<LineRecord> {
    let pattern = Glob::new(file);
    let index = binary.line_index_of(&|path| is_file(&pattern, path));
    let wanted: Vec<bool> = index.files.iter().map(|p| is_file(&pattern, p)).collect();
    let mut found: Vec<LineRecord> = index
        .rows
        .iter()
        .filter(|(_, file, _)| wanted.get(*file as usize) == Some(&true))
        .filter(|(.., l)| line.is_none_or(|wanted| wanted == u64::from(*l)))
        .filter_map(|(address, file, line)| {
            Some(LineRecord {
                file: index.files.get(*file as usize)?.clone(),
                line: u64::from(*line),
                address: address.0,
            })
        })
        .collect();
    found.sort();
    found
}

/// All SDT marks.
pub fn marks(binary: &Binary) -> Vec<MarkRecord> {
    let record = |mark: &crate::sdt::SdtMark| MarkRecord {
        provider: mark.provider.clone(),
        name: mark.name.clone(),
        address: mark.pc.0,
        semaphore: mark.semaphore.map(|a| a.0),
        arguments: mark
            .raw_arguments
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    };
    binary.marks().iter().map(record).collect()
}

/// The variables at an address; `None` when no function with debugging information holds it.
///
/// # Errors
/// When the debugging information is damaged.
pub fn variables(
    info: &DebugInfo<'_>,
    address: ImageAddr,
) -> Result<Option<PlaceRecord>, SymbolsError> {
    let Some(scopes) = info.scopes_at(address)? else {
        return Ok(None);
    };
    let variables = info.variables(&scopes)?;
    let record = |v: crate::dwarf::Variable| VariableRecord {
        kind: match v.kind {
            VariableKind::Parameter => "parameter",
            VariableKind::Local | VariableKind::Global => "local",
        },
        location: v.location.to_string(),
        available: v.location.unavailable().is_none(),
        lines: info.available_lines(v.id),
        name: v.name,
        type_name: v.type_name,
    };
    let line = info.line_at(address);
    Ok(Some(PlaceRecord {
        address: address.0,
        function: info.function_name(&scopes).map(|(name, _)| name),
        file: line.as_ref().map(|(file, _)| file.clone()),
        line: line.map(|(_, line)| line),
        variables: variables.into_iter().map(record).collect(),
    }))
}

/// Structures, unions, classes and enumerations whose names match, by name; one of several of the same name and layout.
///
/// # Errors
/// When the debugging information is damaged.
pub fn types(info: &DebugInfo<'_>, pattern: &str) -> Result<Vec<TypeRecord>, SymbolsError> {
    let pattern = Glob::new(pattern);
    let mut found = Vec::new();
    for id in info.types_matching(&pattern) {
        let described = info.describe(id)?;
        found.extend(record(info, &described)?);
    }
    found.sort_by(|a, b| (&a.name, a.keyword, &a.file).cmp(&(&b.name, b.keyword, &b.file)));
    found.dedup();
    Ok(found)
}

fn record(info: &DebugInfo<'_>, described: &Type) -> Result<Option<TypeRecord>, SymbolsError> {
    let Some(name) = described.name.clone() else {
        return Ok(None);
    };
    let (file, line) = described.declared.clone().unzip();
    let mut record = TypeRecord {
        keyword: "enum",
        name,
        size: described.size,
        file,
        line,
        members: Vec::new(),
        enumerators: Vec::new(),
    };
    match &described.kind {
        TypeKind::Enumeration { enumerators, .. } => record.enumerators.clone_from(enumerators),
        TypeKind::Record {
            keyword,
            members,
            complete: true,
            ..
        } => {
            record.keyword = keyword.as_str();
            let mut end = 0u64;
            for member in members {
                let inner = member.type_id.map(|id| info.describe(id)).transpose()?;
                let size = inner.as_ref().and_then(|t| t.size);
                let mut bits = member.bits;
                let mut offset = match (&member.offset, member.role) {
                    (_, MemberRole::Static) | (MemberOffset::Computed(_), _) => None,
                    (MemberOffset::Bytes(offset), _) => Some(*offset),
                };
                // A bit-field is counted from the word of its type that it is in, as pahole(1) does; DWARF 5 counts from
                // the start of the object.
                if let (Some(start), Some((low, count)), Some(size)) =
                    (offset, bits, size.filter(|s| *s > 0))
                {
                    let bit = start.saturating_mul(8).saturating_add(low);
                    let word = size.saturating_mul(8);
                    offset = Some((bit / word).saturating_mul(size));
                    bits = Some((bit % word, count));
                }
                let mut hole = 0;
                if let Some(offset) = offset {
                    let (first, behind) = match bits {
                        Some((low, count)) => (
                            offset.saturating_add(low / 8),
                            offset.saturating_add(low.saturating_add(count).div_ceil(8)),
                        ),
                        None => (offset, offset.saturating_add(size.unwrap_or(0))),
                    };
                    hole = first.saturating_sub(end);
                    end = end.max(behind);
                }
                record.members.push(MemberRecord {
                    name: member.name.clone(),
                    type_name: inner.map_or_else(|| "void".to_owned(), |t| t.spelling),
                    offset,
                    size,
                    bits,
                    role: match member.role {
                        MemberRole::Plain => "member",
                        MemberRole::Base => "base",
                        MemberRole::Static => "static",
                        MemberRole::Artificial => "artificial",
                    },
                    hole,
                });
            }
        }
        _ => return Ok(None),
    }
    Ok(Some(record))
}
